"""Models that hang or crash in a real agent: the rows go on without a score, the other pipelines notice nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from plant import Plant, kill, rows_of
from swaps import TWO, eventually, install, model_in_use, models_of, shadow_report, swapping

GRAPHS = Path(__file__).parents[1] / "data" / "models"


def limited(isolated: bool) -> str:
    """Return the configuration with a time limit, its model in a process of its own or not."""
    text = TWO % (", isolated: true" if isolated else "")
    return text.replace("models: {", "models: {time_limit: 500ms, ")


def children_of(pid: int) -> list[int]:
    """Return the processes that one has started."""
    return [child.pid for child in psutil.Process(pid).children()]


@pytest.mark.parametrize("isolated", [False, True])
def test_a_model_that_hangs_costs_its_scores_and_nothing_else(plant: Plant, isolated: bool) -> None:
    with swapping(plant) as feeder:
        install(plant, "1.0.2", graph=GRAPHS / "stuck_hangs.onnx")
        plant.configure(limited(isolated))
        plant.cli("reload", "agent.yaml")
        hanging = plant.live()["pipelines"]["a"]["reports"]["infer"]["model"]
        eventually(lambda: models_of(plant).get(hanging, {}).get("gave"), "scores")
        feeder.stuck.set()
        eventually(lambda: models_of(plant)[hanging].get("failed"), "runs that were ended")
        assert "not done within 0.5 s" in plant.log()
        seen = feeder.rows
        eventually(lambda: rows_of(plant.sink, f"SELECT 1 FROM a WHERE id >= {seen} LIMIT 1"), "rows go on")
        assert rows_of(plant.sink, "SELECT anomaly FROM a ORDER BY id DESC LIMIT 1") == [(None,)]
        assert plant.live()["pipelines"]["a"]["restarts"] == 0


def test_a_model_that_crashes_in_native_code_takes_its_own_process_only(plant: Plant) -> None:
    with swapping(plant) as feeder:
        plant.configure(limited(isolated=True))
        plant.cli("reload", "agent.yaml")
        agent = plant.children[-1]
        eventually(lambda: len(children_of(agent.pid)) == 1, "the model's process")
        (child,) = children_of(agent.pid)
        os.kill(child, signal.SIGSEGV)
        eventually(lambda: child not in children_of(agent.pid) and children_of(agent.pid), "another process")
        seen = feeder.rows
        scored = f"SELECT 1 FROM a WHERE id >= {seen} AND anomaly IS NOT NULL LIMIT 1"
        eventually(lambda: rows_of(plant.sink, scored), "scores go on")
        assert agent.poll() is None
        assert plant.live()["pipelines"]["a"]["restarts"] == 0


def missing(folder: Path) -> None:
    (folder / "manifest.yaml").unlink()


def damaged(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("damage", "message", "code"),
    [(missing, "no bundle `sensor-anomaly@1.1.0`", 2), (damaged, "model.onnx: expected sha256", 1)],
)
def test_a_candidate_that_is_damaged_stops_no_pipeline_after_a_restart_and_mended_is_taken_up_by_reload(
    plant: Plant, damage: Callable[[Path], None], message: str, code: int
) -> None:
    with swapping(plant) as feeder:
        install(plant, "1.1.0", "--candidate")
        plant.configure(TWO % ", shadow: sensor-anomaly@1.1.0")
        plant.cli("reload", "agent.yaml")
        eventually(lambda: shadow_report(plant)["compared"], "scores of both")
        kill(plant.children[-1])
        damage(plant.folder / "bundles/sensor-anomaly/1.1.0")
        assert message in plant.cli("check", "agent.yaml", "--live", expect=code)
        plant.start_agent()
        seen = feeder.rows
        scored = f"SELECT 1 FROM a WHERE id >= {seen} AND anomaly IS NOT NULL LIMIT 1"
        eventually(lambda: rows_of(plant.sink, scored), "scores go on")
        assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
        assert "a candidate cannot be loaded, the model in use runs alone" in plant.log()
        plant.cli("models", "install", "made/1.1.0", "--config", "agent.yaml", "--candidate")
        assert json.loads(plant.cli("reload", "agent.yaml", "--json"))["rebuilt"] == ["a"]
        eventually(lambda: shadow_report(plant)["compared"], "scores of both again")
        assert json.loads(plant.cli("reload", "agent.yaml", "--json"))["rebuilt"] == [], "it is there now"
