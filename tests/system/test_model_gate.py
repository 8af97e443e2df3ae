"""The health gate in a real agent under load: each of its bounds, before a candidate serves and while it does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from plant import Plant, kill, rows_of
from swaps import TWO, eventually, install, model_in_use, models_of, shadow_report, swapping

from forebay import infer
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.models import InferOptions

# Some seconds each, at a pace that two cores keep up with the compiled core only.
pytestmark = pytest.mark.slow

GRAPHS = Path(__file__).parents[1] / "data" / "models"
GATE = ", shadow: sensor-anomaly@{0}, promote: {{after: 1s, min_rows: {1}, probation: 1h, {2}}}"
# Only the bound that a test is about is tight: latencies swing on a busy machine (a second of them swings less), and
# thresholds that were learned at different times differ. A slow model is a hundred times as slow; a quick one was seen
# to be five times so for a second, with twelve processes on two cores.
BOUNDS = {
    "fails": "max_latency_ratio: 1000, max_psi: 10",
    "slow": "max_latency_ratio: 15, max_psi: 10",
    "drifts": "max_latency_ratio: 1000, max_psi: 0.5",
}
TURNS = [
    ("fails", ("error_rate ", "it failed 3 times in a row")),
    ("slow", ("latency_ratio ",)),
    ("drifts", ("psi ",)),
]


def gate(version: str, turn: str, min_rows: int = 200) -> str:
    """Return the configuration with a candidate."""
    return TWO % GATE.format(version, min_rows, BOUNDS[turn])


@pytest.mark.parametrize(("turn", "why"), TURNS)
def test_a_candidate_that_turns_bad_while_it_serves_is_rolled_back_by_itself(
    plant: Plant, turn: str, why: tuple[str, ...]
) -> None:
    with swapping(plant) as feeder:
        install(plant, "1.1.0", "--candidate", graph=GRAPHS / f"stuck_{turn}.onnx")
        plant.configure(gate("1.1.0", turn))
        plant.cli("reload", "agent.yaml")
        eventually(lambda: shadow_report(plant)["phase"] != "running", "the promotion")
        report = shadow_report(plant)
        assert report["phase"] == "on_probation", report
        assert model_in_use(plant).startswith("sensor-anomaly@1.1.0#")
        new = model_in_use(plant)
        eventually(lambda: models_of(plant).get(new, {}).get("gave"), "scores of the candidate")
        feeder.stuck.set()
        eventually(lambda: shadow_report(plant)["phase"] == "rolled_back", "the rollback")
        report = shadow_report(plant)
        assert report["reason"].startswith(why), report
        assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
        eventually(lambda: any("rolled_back" in e for e in models_of(plant).values()), "the ledger, on disk")
        kill(plant.children[-1])
        plant.start_agent()
        eventually(lambda: "pipelines" in plant.status(), "an answer")
        assert shadow_report(plant)["phase"] == "rolled_back", "the same after a crash"
        assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
        told = models_of(plant)[new]
        assert (told["promoted"], told["rolled_back"], told["serves"]) == (1, 1, 1)
        assert "failed" not in told, "where the candidate failed the model before gave the score"
        assert "rolled back, the model before serves again" in plant.log()


def test_candidates_that_turn_bad_in_the_shadow_never_serve(plant: Plant) -> None:
    with swapping(plant) as feeder:
        for n, (turn, why) in enumerate(TURNS[:2]):
            version = f"1.{n + 1}.0"
            install(plant, version, "--candidate", graph=GRAPHS / f"stuck_{turn}.onnx")
            plant.configure(gate(version, turn, min_rows=15_000))  # three seconds; it turns in the first one
            plant.cli("reload", "agent.yaml")
            eventually(lambda: shadow_report(plant)["compared"], "scores of both")
            feeder.stuck.set()
            eventually(lambda: shadow_report(plant)["phase"] != "running", f"the rejection of {turn}")
            report = shadow_report(plant)
            assert report["phase"] == "rejected", report
            assert report["reason"].startswith(why), report
            assert report["candidate"].startswith(f"sensor-anomaly@{version}#")
            assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
            feeder.stuck.clear()
        wanted = {f"sensor-anomaly@{n}": {"rejected": 1} for n in ("1.1.0", "1.2.0")}  # they gave nothing
        eventually(
            lambda: by_version(plant).items() >= wanted.items(), "both rejections in the ledger, on disk"
        )


def by_version(plant: Plant) -> dict[str, dict[str, int]]:
    """Return what the ledger counts, by model and version."""
    return {model.partition("#")[0]: events for model, events in models_of(plant).items()}


# -- thresholds ---------------------------------------------------------------------------------------------

KEYED = """\
sources:
  a: {type: file, path: a.csv, format: csv, follow: true, time: {field: ts, unit: s}}
pipelines:
  a: {source: a, linger: 20ms, key: dev, steps: [infer: {model: sensor-anomaly, inputs: [value], calibration: 64}]}
"""
DEVICES = 3
PARTS = (
    0,
    150,
    900,
    1700,
    2400,
    3000,
)  # rows; a device is calibrated after 88 readings, so the first kill hits that
ROWS = PARTS[-1]


def value(row: int) -> float | None:
    """Return the value of a row, of scales that differ by device; now and then there is none."""
    if row % 97 == 5:
        return None
    return round(float(np.sin(row / 7) * 10 ** (row % DEVICES) + ((row * 7919) % 101) / 50), 3)


def cell(row: int) -> str:
    """Return it as it stands in the file."""
    number = value(row)
    return ("", "NaN")[row % 2] if number is None else str(number)


def test_thresholds_learned_in_the_calibration_outlive_kills(plant: Plant) -> None:
    """What the center has after kills at any moment is what one step says that saw all rows without a break."""
    path = plant.folder / "a.csv"
    path.write_text("ts,dev,id,value\n")
    plant.configure(KEYED)
    plant.start_receiver()
    for start, end in pairwise(PARTS):
        child = plant.start_agent()
        with path.open("a") as file:
            file.writelines(f"{i},d{i % DEVICES},{i},{cell(i)}\n" for i in range(start, end))
        eventually(
            lambda k=(start + end) // 2: rows_of(plant.sink, f"SELECT 1 FROM a WHERE id >= {k}"), "rows"
        )
        if end < ROWS:
            kill(child)
    eventually(lambda: rows_of(plant.sink, "SELECT count(*) FROM a") == [(ROWS,)], "all rows")
    found = rows_of(plant.sink, "SELECT id, anomaly FROM a ORDER BY id")
    assert [row[0] for row in found] == list(range(ROWS))

    options = InferOptions(model="sensor-anomaly", inputs=["value"], calibration=64)
    step = infer.build("infer", options, key="dev")
    columns = (
        Column.of(Type.STR, [f"d{i % DEVICES}" for i in range(ROWS)]),
        Column.of(Type.F64, [value(i) for i in range(ROWS)]),
    )
    schema = Schema("a", (Field("dev", Type.STR), Field("value", Type.F64)), "dev")
    (whole,) = step.process(Block(schema, np.arange(ROWS, dtype=np.int64) * 10**9, columns))
    expected = whole.columns[-1].to_list(Type.F64)
    assert [row[1] is None for row in found] == [score is None for score in expected], "calibrated once"
    assert [row[1] or 0.0 for row in found] == pytest.approx([score or 0.0 for score in expected], abs=2e-4)
    assert 0 < sum(score is not None and score > 0.5 for score in expected) < ROWS // 2
    gave = sum(events["gave"] for events in models_of(plant).values())
    assert gave == sum(score is not None for score in expected), "the ledger is exact after the kills"
