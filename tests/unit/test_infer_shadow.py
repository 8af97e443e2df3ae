"""A candidate in the shadow: it never changes the stream before it is promoted, and the gate decides once."""

from __future__ import annotations

import shutil
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay import infer
from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.models import InferOptions, PromoteOptions
from forebay.errors import ConfigError, ModelError
from forebay.infer.anomaly import AnomalyStep
from forebay.infer.shadow import Comparison, ShadowStep
from forebay.infer.trial import PROBATION, PROMOTED, REJECTED, ROLLED_BACK, RUNNING

SECOND = 1_000_000_000


class Ticks:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        self.now += SECOND
        return self.now

    def wall_ns(self) -> int:
        return self.now

    def state(self) -> str:
        return "synced"


class Scorer:
    """A step that gives scores of its own distribution."""

    def __init__(self, model: str, low: float = 0.0, high: float = 1.0) -> None:
        self.name, self.model, self.failures = "infer", model, 0
        self.low, self.high, self.mode = low, high, "ok"
        self.saw = 0
        self.results: Counter[tuple[str, str]] = Counter()

    def process(self, block: Block) -> list[Block]:
        self.saw += block.rows
        if self.mode == "raise":
            raise RuntimeError("13800138000")
        self.failures += self.mode == "fail"
        self.results["gave", self.model] += block.rows
        value = self.low + (self.high - self.low) * np.random.default_rng(block.time[0]).random(block.rows)
        return [block.with_columns({}, [(Field("anomaly", Type.F64, model=self.model), Column(value, None))])]

    def report(self) -> dict[str, object]:
        return {"model": self.model, "without_score": {}}

    def flush(self) -> list[Block]:
        return []

    def state(self) -> bytes:
        import msgpack

        packed: bytes = msgpack.packb({"model": self.model, "saw": self.saw})
        return packed

    def restore(self, state: bytes) -> None:
        import msgpack

        self.saw = msgpack.unpackb(state)["saw"]


def block(start: int, rows: int = 200) -> Block:
    time = (np.arange(rows, dtype=np.int64) + start) * SECOND
    keys = [f"d{i % 10}" for i in range(rows)]
    fields = (Field("dev", Type.STR), Field("flow", Type.F64))
    values = np.random.default_rng(start).normal(5, 1, rows).tolist()
    return Block(
        Schema("pump", fields, "dev"), time, (Column.of(Type.STR, keys), Column.of(Type.F64, values))
    )


def shadow(candidate: Scorer, *, after: int = 60, gate: bool = True, **more: object) -> ShadowStep:
    bounds = PromoteOptions(after=f"{after}s", min_rows=1000, max_latency_ratio=5) if gate else None
    return ShadowStep(Scorer("old"), candidate, Ticks(), gate=bounds, **more)  # type: ignore[arg-type]


def models_of(step: ShadowStep, blocks: int, start: int = 0) -> list[str]:
    """Return the model that each block's score names."""
    return [step.process(block(start + 200 * i))[0].schema.fields[-1].model for i in range(blocks)]


def test_a_candidate_like_the_incumbent_takes_over_after_its_time_and_not_before() -> None:
    step = shadow(Scorer("new"))
    found = models_of(step, 60)
    first = found.index("new")
    assert found == ["old"] * first + ["new"] * (60 - first)
    assert step.trial.phase == PROMOTED
    assert step.report()["elapsed_s"] >= 60
    assert step.models == ("old", "new")


def test_without_a_gate_it_is_only_reported() -> None:
    step = shadow(Scorer("new", 0.0, 0.5), gate=False)
    assert set(models_of(step, 60)) == {"old"}
    report = step.report()
    assert report["without_score"] == {}
    assert report["phase"] == RUNNING
    assert report["compared"] == report["rows"] == 12_000
    assert report["ks"] == pytest.approx(0.5, abs=0.02)
    assert report["psi"] > 1
    assert report["mean_abs_difference"] == pytest.approx(0.25, abs=0.01)
    assert report["error_rate"] == 0
    assert report["latency_ratio"] == pytest.approx(1.0, abs=0.1)


def test_a_candidate_whose_scores_drift_is_set_aside_and_named_why(caplog: pytest.LogCaptureFixture) -> None:
    candidate = Scorer("new", 0.0, 0.5)
    step = shadow(candidate)
    assert set(models_of(step, 60)) == {"old"}
    assert step.trial.phase == REJECTED
    assert "psi" in step.trial.reason
    assert "the model in use stays" in caplog.text
    saw = candidate.saw
    models_of(step, 5)
    assert candidate.saw == saw, "one that was set aside costs nothing more"


@pytest.mark.parametrize("mode", ["raise", "fail"])
def test_a_candidate_that_fails_never_costs_a_row_and_is_set_aside_soon(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    candidate = Scorer("new")
    step = shadow(candidate, gate=False)
    models_of(step, 3)
    candidate.mode = mode
    assert set(models_of(step, 10, start=600)) == {"old"}
    assert step.trial.phase == REJECTED
    assert step.report()["error_rate"] == 0.5
    assert "13800138000" not in caplog.text + step.trial.reason


def test_a_slow_candidate_is_set_aside() -> None:
    class Slow(Scorer):
        def process(self, block: Block) -> list[Block]:
            step._clock.now += 20 * SECOND  # type: ignore[attr-defined]
            return super().process(block)

    step = shadow(Slow("new"))
    models_of(step, 30)
    assert step.trial.phase == REJECTED
    assert "latency_ratio" in step.trial.reason


def test_a_share_of_devices_is_always_the_same_ones_with_all_their_rows() -> None:
    candidate = Scorer("new")
    step = shadow(candidate, gate=False, key="dev", share=0.5)
    models_of(step, 10)
    assert 0 < candidate.saw < 2000
    assert candidate.saw % 200 == 0
    names = block(0).columns[0].to_list(Type.STR)
    seen = [{names[i] for i in step._chosen(block(start)).tolist()} for start in (0, 200, 400)]
    assert seen[0] == seen[1] == seen[2]
    assert step.report()["compared"] == candidate.saw


def test_what_was_decided_and_what_was_counted_survives_a_restart() -> None:
    one = shadow(Scorer("new"), after=10_000)
    models_of(one, 10)
    two = shadow(Scorer("new"), after=10_000)
    two.restore(one.state())
    assert two.report() == one.report()
    assert two._candidate.saw == 2000  # type: ignore[attr-defined]
    for candidate, phase in ((Scorer("new"), PROMOTED), (Scorer("new", 0.0, 0.5), REJECTED)):
        done = shadow(candidate)
        models_of(done, 60)
        again = shadow(Scorer("new"))
        again.restore(done.state())
        assert again.trial.phase == phase
        assert again.model == ("new" if phase == PROMOTED else "old")
        other = shadow(Scorer("newer"))
        other.restore(done.state())
        assert other.trial.phase == RUNNING
        assert other.report()["rows"] == 0


def test_distances_are_those_of_the_textbook() -> None:
    seen = Comparison()
    rng = np.random.default_rng(0)
    a, b = rng.beta(2, 5, 100_000), rng.beta(2, 4, 100_000)
    seen.add(a, b)
    edges = np.quantile(a, np.linspace(0, 1, 11))
    edges[0], edges[-1] = 0, 1
    p, r = np.histogram(a, edges)[0] / 1e5, np.histogram(b, edges)[0] / 1e5
    assert seen.psi() == pytest.approx(float(((r - p) * np.log(r / p)).sum()), rel=0.1)
    grid = np.linspace(0, 1, 1001)
    ks = np.abs((a[None] <= grid[:, None]).mean(1) - (b[None] <= grid[:, None]).mean(1)).max()
    assert seen.ks() == pytest.approx(ks, abs=0.01)
    same = Comparison()
    same.add(a, rng.permutation(a))
    assert same.psi() == same.ks() == 0


def test_rows_of_the_calibration_prove_nothing_for_or_against_a_candidate() -> None:
    class Calibrating(Scorer):
        def process(self, block: Block) -> list[Block]:
            (out,) = super().process(block)
            if self.saw > 1600:
                return [out]
            codes = np.full(block.rows, q.WARMING_UP, np.uint8)
            return [out.with_columns({"anomaly": Column(np.zeros(block.rows), None, codes)})]

    step = shadow(Calibrating("new"), after=1)
    models_of(step, 9)
    assert step.trial.phase == RUNNING
    assert step.report()["compared"] == 200 < 1000 < step.report()["rows"]
    models_of(step, 4, start=1800)
    assert step.trial.phase == PROBATION


def test_a_candidate_that_never_gives_a_score_is_set_aside_at_last() -> None:
    class Mute(Scorer):
        def process(self, block: Block) -> list[Block]:
            (out,) = super().process(block)
            codes = np.full(block.rows, q.WARMING_UP, np.uint8)
            return [out.with_columns({"anomaly": Column(np.zeros(block.rows), None, codes)})]

    step = shadow(Mute("new"), after=1)
    models_of(step, 60)
    assert step.trial.phase == REJECTED
    assert step.trial.reason == "compared 0 < 1000 rows"


# -- on probation -------------------------------------------------------------------------------------------


def on_probation(candidate: Scorer, **bounds: object) -> ShadowStep:
    """Return a step whose candidate has just taken over, the incumbent beside it."""
    given = {"after": "30s", "min_rows": 1000, "max_latency_ratio": 5, "probation": "1d"} | bounds
    step = ShadowStep(Scorer("old"), candidate, Ticks(), gate=PromoteOptions(**given))  # type: ignore[arg-type]
    start = 0
    while step.trial.phase == RUNNING:
        models_of(step, 1, start := start + 200)
        assert start < 100_000
    assert step.trial.phase == PROBATION
    return step


def test_a_candidate_that_stays_within_the_bounds_is_confirmed_and_the_incumbent_rests() -> None:
    step = on_probation(Scorer("new"), probation="60s")
    incumbent = step._incumbent
    assert isinstance(incumbent, Scorer)
    assert set(models_of(step, 60)) == {"new"}
    assert step.trial.phase == PROMOTED
    saw = incumbent.saw
    models_of(step, 5)
    assert incumbent.saw == saw
    assert [d.event for d in step.trial.decisions] == ["promoted", "confirmed"]


def test_without_a_probation_it_is_promoted_for_good() -> None:
    bounds = PromoteOptions(after="30s", min_rows=1000, max_latency_ratio=5, probation="0s")  # type: ignore[arg-type]
    step = ShadowStep(Scorer("old"), Scorer("new"), Ticks(), gate=bounds)
    models_of(step, 60)
    assert step.trial.phase == PROMOTED
    assert [d.event for d in step.trial.decisions] == ["promoted"]


@pytest.mark.parametrize("mode", ["raise", "fail"])
def test_one_that_fails_on_probation_is_rolled_back_and_no_row_was_without_a_score(mode: str) -> None:
    candidate = Scorer("new")
    step = on_probation(candidate)
    step.results.clear()
    candidate.mode = mode
    assert set(models_of(step, 10)) == {"old"}, "from the first block on that it fails"
    assert step.trial.phase == ROLLED_BACK
    assert "3 times in a row" in step.trial.reason
    assert step.trial.decisions[-1].event == "rolled_back"
    assert step.results == {("gave", "old"): 2000}


def test_one_whose_errors_are_too_many_is_rolled_back_before_its_time() -> None:
    candidate = Scorer("new")
    step = on_probation(candidate, max_error_rate=0.2)
    for k in range(20):
        candidate.mode = "fail" if k % 3 == 0 else "ok"
        models_of(step, 1, start=200 * k)
    assert step.trial.phase == ROLLED_BACK
    assert step.trial.reason.startswith("error_rate 0.")


def test_one_whose_scores_drift_on_probation_is_rolled_back_to_thresholds_of_today() -> None:
    candidate = Scorer("new")
    step = on_probation(candidate)
    before = step._incumbent.saw  # type: ignore[attr-defined]
    candidate.high = 0.5
    found = models_of(step, 20)
    assert found == ["new"] * 5 + ["old"] * 15, "as soon as there is enough to see it"
    assert step.trial.phase == ROLLED_BACK
    assert step.trial.reason.startswith("psi ")
    assert step._incumbent.saw == before + 20 * 200, "it ran on all the time"  # type: ignore[attr-defined]


def test_one_that_becomes_slow_on_probation_is_rolled_back() -> None:
    candidate = Slow("new")
    step = candidate.step = on_probation(candidate)
    candidate.slow = True
    models_of(step, 10)
    assert step.trial.phase == ROLLED_BACK
    assert step.trial.reason.startswith("latency_ratio ")


def test_a_restart_goes_on_in_the_middle_of_a_probation_with_both_states() -> None:
    one = on_probation(Scorer("new"))
    models_of(one, 3)
    two = shadow(Scorer("new"))
    two.restore(one.state())
    assert two.trial.phase == PROBATION
    assert two.model == "new"
    assert two.report() == one.report()
    assert (two._incumbent.saw, two._candidate.saw) == (one._incumbent.saw, one._candidate.saw)  # type: ignore[attr-defined]
    candidate = Scorer("new")
    candidate.mode = "raise"
    back = shadow(candidate)
    back.restore(one.state())
    models_of(back, 3)
    assert back.trial.phase == ROLLED_BACK
    again = shadow(Scorer("new"))
    again.restore(back.state())
    assert again.trial.phase == ROLLED_BACK
    assert again.model == "old"


def test_the_model_that_lost_is_let_go_at_once_and_after_a_restart() -> None:
    rejected = shadow(Scorer("new", 0.0, 0.5))
    back = on_probation(candidate := Scorer("new"))
    candidate.mode = "fail"
    promoted = on_probation(Scorer("new"), probation="60s")
    again = [shadow(Scorer("new")) for _ in range(3)]
    del candidate
    for step, other, model in zip((rejected, back, promoted), again, ("old", "old", "new"), strict=True):
        loser = weakref.ref(step._incumbent if model == "new" else step._candidate)
        assert loser() is not None
        models_of(step, 60)
        assert not step.trial.both_run
        assert loser() is None, "its session with it"
        assert step.report()["model"] == model
        loser = weakref.ref(other._incumbent if model == "new" else other._candidate)
        other.restore(step.state())
        assert loser() is None
        assert models_of(other, 3) == [model] * 3


# -- after a long good time ---------------------------------------------------------------------------------


class Slow(Scorer):
    """Takes the time of twenty others when told to."""

    slow = False
    step: ShadowStep

    def process(self, block: Block) -> list[Block]:
        if self.slow:
            self.step._clock.now += 20 * SECOND  # type: ignore[attr-defined]
        return super().process(block)


def long_served(candidate: Slow) -> ShadowStep:
    """Return a step whose candidate has been on probation for a long good time."""
    step = candidate.step = on_probation(candidate)
    assert set(models_of(step, 400, 10_000)) == {"new"}
    return step


def turn(candidate: Slow, how: str) -> None:
    """Let a candidate go wrong: slow, another distribution, or failing now and then."""
    candidate.slow = how == "latency_ratio"
    candidate.high = 0.4 if how == "psi" else 1.0


@pytest.mark.parametrize("how", ["latency_ratio", "psi"])
def test_one_that_turns_bad_after_a_long_good_time_is_rolled_back_soon(how: str) -> None:
    candidate = Slow("new")
    step = long_served(candidate)
    turn(candidate, how)
    found = models_of(step, 60, 900_000)
    assert step.trial.phase == ROLLED_BACK
    assert step.trial.reason.startswith(f"{how} ")
    assert step.trial.reason.endswith(" lately")
    assert found.count("new") <= 40, "the sums of the whole probation do not show it yet"
    whole = step.report()
    assert whole["psi"] < 0.2
    assert whole["latency_ratio"] < 5


def test_errors_that_begin_late_are_not_thinned_by_the_good_time_before() -> None:
    candidate = Slow("new")
    step = long_served(candidate)
    for k in range(60):
        candidate.mode = "fail" if k % 4 == 0 else "ok"
        models_of(step, 1, 900_000 + 200 * k)
    assert step.trial.phase == ROLLED_BACK
    assert step.trial.reason.startswith("error_rate ")
    assert step.trial.reason.endswith(" lately")
    assert step.report()["error_rate"] <= 0.01


@pytest.mark.parametrize("how", ["latency_ratio", "psi"])
def test_one_that_turned_bad_at_the_end_of_a_long_shadow_run_is_not_promoted(how: str) -> None:
    candidate = Slow("new")
    step = candidate.step = shadow(candidate, after=2_000)
    start = 0
    while step.trial.seen.elapsed_ns < 1_700 * SECOND:
        models_of(step, 1, start := start + 200)
    turn(candidate, how)
    while step.trial.phase == RUNNING:
        start += 200
        assert models_of(step, 1, start) == ["old"]
    assert step.trial.phase == REJECTED
    assert step.trial.reason.startswith(f"{how} ")
    assert step.trial.reason.endswith(" lately")


def test_a_restart_does_not_forget_what_was_seen_lately() -> None:
    one = on_probation(Scorer("new"))
    models_of(one, 120)
    two = shadow(Scorer("new"))
    two.restore(one.state())
    assert two.report()["lately"] == one.report()["lately"]
    assert 1000 <= two.report()["lately"]["rows"] < two.report()["rows"] / 3


def test_a_state_of_a_release_without_a_window_is_taken_and_the_window_begins() -> None:
    import msgpack

    one = on_probation(Scorer("new"))
    models_of(one, 50)
    saved = msgpack.unpackb(one.state(), strict_map_key=False)
    del saved["shadow"]["lately"]
    two = shadow(Scorer("new"), after=10_000)
    two.restore(msgpack.packb(saved))
    assert two.trial.phase == PROBATION
    assert two.report()["rows"] == one.report()["rows"]
    assert two.report()["lately"]["rows"] == 0
    models_of(two, 10, 900_000)
    assert two.report()["lately"]["rows"] == 2000


def test_what_is_kept_of_a_trial_does_not_grow_with_it() -> None:
    step = on_probation(Scorer("new"))
    models_of(step, 20)
    early = len(step.state())
    models_of(step, 200)
    assert len(step.trial._marks) == 2
    assert len(step.state()) < early + 2500, "numbers get longer, nothing else"


# -- with real models ---------------------------------------------------------------------------------------


def other_version(folder: Path) -> Path:
    from forebay.infer.bundle import find

    made = Path(shutil.copytree(find("sensor-anomaly"), folder / "candidate"))
    text = (made / "manifest.yaml").read_text()
    (made / "manifest.yaml").write_text(text.replace("version: 1.0.0", "version: 1.1.0"))
    return made


def test_a_real_candidate_in_the_shadow_changes_no_score_and_its_step_alone_goes_on_with_the_state(
    tmp_path: Path,
) -> None:
    made = other_version(tmp_path)
    options = InferOptions(
        model="sensor-anomaly",
        shadow=f"{made}/",
        inputs=["flow"],
        calibration=64,
        promote={"after": "1h"},  # type: ignore[arg-type]
    )
    step = infer.build("infer", options, key="dev")
    plain_options = InferOptions(model="sensor-anomaly", inputs=["flow"], calibration=64)
    plain = infer.build("infer", plain_options, key="dev")
    assert isinstance(step, ShadowStep)
    for start in range(0, 2000, 200):
        (a,), (b,) = step.process(block(start)), plain.process(block(start))
        assert a.schema == b.schema
        assert a.columns[-1].to_list(Type.F64) == b.columns[-1].to_list(Type.F64)
    assert step.report()["compared"] > 900
    assert step.report()["psi"] == 0
    alone = infer.build("infer", plain_options, key="dev")
    state = step.state()
    alone.restore(state)
    assert alone.state() == plain.state(), "taking the candidate out of the configuration forgets nothing"
    again = infer.build("infer", options, key="dev")
    again.restore(plain.state() or b"")
    assert isinstance(again, ShadowStep)
    assert isinstance(again._incumbent, AnomalyStep)
    assert again._incumbent.state() == plain.state(), "and putting one in neither"


def test_options_of_a_candidate_without_one_are_errors() -> None:
    with pytest.raises(ValueError, match="name it with `shadow`"):
        InferOptions(model="a", inputs=["x"], shadow_share=0.5)
    with pytest.raises(ValueError, match="goes with `field`, not with `inputs`"):
        InferOptions(model="a", inputs=["x"], shadow="b", promote={"after": "1h", "min_agreement": 0.9})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs a `key`"):
        infer.build(
            "infer",
            InferOptions(model="sensor-anomaly", inputs=["x"], shadow="sensor-anomaly", shadow_share=0.5),
        )


@pytest.mark.parametrize("kind", ["numbers", "pictures"])
def test_a_candidate_that_cannot_be_loaded_stops_a_change_but_never_the_model_in_use(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = other_version(tmp_path)
    with (made / "model.onnx").open("ab") as file:
        file.write(b"x")
    given = {"inputs": ["flow"]} if kind == "numbers" else {"field": "image"}
    model = "sensor-anomaly" if kind == "numbers" else "faces-near"
    options = InferOptions(model=model, shadow=f"{made}/", **given)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"model\.onnx: expected sha256"):
        infer.build("infer", options)
    step: Any = infer.build("infer", options, strict=False)
    assert step.model.startswith(f"{model}@1.0.0#")
    assert getattr(step, "trial", None) is None
    assert (
        "a candidate cannot be loaded, the model in use runs alone until the next `forebay reload` step=infer"
        in caplog.text
    )
    assert "expected sha256" in caplog.text


def test_scores_that_a_lost_candidate_left_behind_do_not_stop_the_model_in_use(tmp_path: Path) -> None:
    options = InferOptions(model="sensor-anomaly", shadow=f"{other_version(tmp_path)}/", inputs=["flow"],
                           calibration=64, promote={"after": "1ns", "min_rows": 100, "max_latency_ratio": 1000})  # type: ignore[arg-type]  # fmt: skip
    step = infer.build("infer", options, key="dev")
    assert isinstance(step, ShadowStep)
    for start in range(0, 4000, 200):
        step.process(block(start))
    assert step.trial.candidate_serves
    shutil.rmtree(tmp_path / "candidate")
    alone = infer.build("infer", options, key="dev", strict=False)
    alone.restore(step.state())
    (out,) = alone.process(block(4000))
    assert out.schema.fields[-1].model.startswith("sensor-anomaly@1.0.0#")
