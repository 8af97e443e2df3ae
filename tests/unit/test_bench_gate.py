"""The gate of the benchmarks: what it calls worse, what it does not, and that a plant is seen."""

import json
import platform
import shutil

import pytest

from benchmarks import gate, instructions, ratios, wire
from benchmarks.counted import CALLS
from benchmarks.hot import shares
from benchmarks.plant import Plant

HERE = {"python": "3.11.7", "cc": "cc 12", "numpy": "2.4.6"}


def kept_counts(own=1000.0, beside=4000.0):
    return {"environment": HERE, "counts": {"encode": {"own": own, "beside": beside}}}


def judged(kept, own, beside=4000.0, here=HERE):
    (finding,) = gate.compare_instructions(kept, {"encode": instructions.Count(own, beside)}, here)
    return finding


@pytest.mark.parametrize(("own", "worse"), [(1029.0, False), (1031.0, True), (900.0, False)])
def test_three_percent_more_instructions_are_worse(own, worse):
    assert judged(kept_counts(), own).is_worse is worse


def test_with_another_compiler_ratios_are_compared_and_it_is_said():
    other = HERE | {"cc": "cc 13"}
    same_ratio = judged(kept_counts(), 2000.0, beside=8000.0, here=other)
    assert not same_ratio.is_worse
    assert "cc 12 -> cc 13" in same_ratio.line()
    assert judged(kept_counts(), 2000.0, beside=4000.0, here=other).is_worse


def test_one_percent_more_bytes_are_worse():
    found = gate.compare_bytes({"a": 1.0, "b": 1.0}, {"a": 1.009, "b": 1.011})
    assert [f.is_worse for f in found] == [False, True]


def test_an_operation_that_nothing_is_kept_of_is_no_regression():
    (finding,) = gate.compare_instructions(
        {"environment": HERE, "counts": {}}, {"new": instructions.Count(5.0, 1.0)}, HERE
    )
    assert not finding.is_worse
    assert "not judged" in finding.line()


class Measured(gate.Ratios):
    """Ratios that a test gives: the first, then those of measuring again."""

    def __init__(self, *values, weather=1.0):
        super().__init__()
        self._values, self._weather_now = list(values), weather

    def all(self):
        return {"hampel": self._values.pop(0)}

    def again(self, name):
        assert name == "hampel"
        return self._values.pop(0)

    def weather(self):
        return self._weather_now


KEPT_CPU = {
    "cpu": "this one",
    "weather": {"lowest": 0.8, "highest": 1.2},
    "ratios": {"hampel": {"median": 0.95, "lowest": 0.9, "highest": 1.0}},
}


def cpu_finding(now, cpu="this one"):
    (finding,) = gate.compare_cpu(KEPT_CPU, now, cpu)
    return finding


def test_a_ratio_that_stays_worse_is_a_regression():
    finding = cpu_finding(Measured(1.3, 1.2, 1.25, 1.21, 1.4))
    assert finding.is_worse
    assert finding.now == 1.2


def test_a_ratio_that_is_worse_once_is_noise():
    left = Measured(1.6, 1.3, 1.1)
    assert not cpu_finding(left).is_worse
    assert not left._values, "it was measured again until it was fine, and no longer"


def test_a_crowded_machine_judges_no_ratio_and_says_so():
    finding = cpu_finding(Measured(1.6, 1.6, 1.6, 1.6, 1.6, weather=2.0))
    assert not finding.is_worse
    assert "too crowded" in finding.line()


def test_another_processor_judges_no_ratio():
    finding = cpu_finding(Measured(1.6), cpu="another one")
    assert not finding.is_worse
    assert "another processor" in finding.line()


def test_a_plant_of_eight_percent_runs_two_of_twenty_five_calls_twice():
    calls = []
    run = Plant.parse("encode=0.08").into("encode", lambda: calls.append(1))
    for _ in range(CALLS):
        run()
    assert len(calls) == CALLS + 2
    assert Plant.parse("encode").into("decode", calls.clear) == calls.clear


@pytest.mark.parametrize("text", ["", "=0.1", "encode=x", "encode=-1", "encode=0"])
def test_a_plant_that_is_none_is_refused(text):
    with pytest.raises(Exception, match="expected NAME"):
        Plant.parse(text)


def test_sizes_planted_larger_fail_the_gate(monkeypatch):
    monkeypatch.setattr(wire, "SIZED_EVENTS", 2_000)
    kept = {"bytes": gate.sizes()}
    assert not any(f.is_worse for f in gate.gate(kept, ["bytes"], Plant()))
    assert all(f.is_worse for f in gate.gate(kept, ["bytes"], Plant("bytes", 0.02)))


def test_the_kept_results_know_every_operation():
    kept = json.loads(gate.KEPT.read_text())
    assert set(gate.counted()) <= set(kept["instructions"]["counts"])
    assert {*ratios.watched(), gate.ROAD} <= set(kept["cpu"]["ratios"])
    assert {f"bytes-{rows}" for rows in wire.SIZE_BUDGETS} <= set(kept["bytes"])


def test_a_profile_leaves_out_waits_and_names_the_innermost_function_of_ours():
    stacks = [
        "run (threading.py);run (forebay/worker.py);encode (forebay/wire/columns.py);packb (msgpack/x.py) 3",
        "run (threading.py);run (forebay/worker.py);wait (threading.py) 90",
        "<module> (forebay/cli/app.py) 1",
    ]
    found = shares(stacks)
    assert found["samples"] == 4
    assert found["top"][0] == {"function": "encode (forebay/wire/columns.py)", "share": 0.75}
    assert found["rooms"]["wire"] == 0.75


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("valgrind") is None or platform.machine() != "x86_64", reason="needs valgrind on x86-64"
)
def test_callgrind_sees_four_percent_more_work_and_nothing_else():
    first = instructions.count(["seal", "windows"], beside=False)
    second = instructions.count(["seal", "windows"], Plant("seal", 0.04), beside=False)
    assert 1.03 < second["seal"].own / first["seal"].own < 1.06
    assert second["windows"].own / first["windows"].own == pytest.approx(1.0, abs=0.01)
