"""Models exchanged under load: installed, reloaded, promoted, rolled back, and no row lost or doubled."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from plant import Plant
from swaps import TWO, Feeder, eventually, install, model_in_use, models_of, shadow_report, swapping


@pytest.fixture
def feeder(plant: Plant) -> Iterator[Feeder]:
    with swapping(plant) as made:
        yield made


def test_an_installed_version_is_taken_over_by_reload_under_load_and_rolled_back(
    plant: Plant, feeder: Feeder
) -> None:
    assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
    before = plant.status()["pipelines"]["b"]["restarts"]
    install(plant, "1.0.2")
    told = plant.cli("reload", "agent.yaml", "--json")
    assert json.loads(told)["rebuilt"] == ["a"], "only the pipeline that uses the model"
    eventually(lambda: model_in_use(plant).startswith("sensor-anomaly@1.0.2#"), "the new model")
    plant.cli("models", "rollback", "sensor-anomaly", "--config", "agent.yaml")
    assert json.loads(plant.cli("reload", "agent.yaml", "--json"))["rebuilt"] == ["a"]
    eventually(lambda: model_in_use(plant).startswith("sensor-anomaly@1.0.1#"), "the old model")
    assert plant.status()["pipelines"]["b"]["restarts"] == before


def test_a_bundle_that_cannot_be_used_leaves_the_running_model_alone(plant: Plant, feeder: Feeder) -> None:
    install(plant, "1.0.2")
    card = plant.folder / "bundles/sensor-anomaly/1.0.2/CARD.md"
    card.write_text("changed on the way")
    plant.cli("reload", "agent.yaml", expect=1)
    assert "expected sha256" in plant.last_error
    assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
    plant.cli("models", "rollback", "sensor-anomaly", "--config", "agent.yaml")


def test_a_candidate_is_promoted_by_itself_under_load_and_stays_so(plant: Plant, feeder: Feeder) -> None:
    install(plant, "1.1.0", "--candidate")
    gate = ", shadow: sensor-anomaly@1.1.0, promote: {after: 100ms, min_rows: 100, max_latency_ratio: 1000}"
    plant.configure(TWO % gate)
    plant.cli("reload", "agent.yaml")

    def promoted() -> bool:
        report = shadow_report(plant)
        assert report["phase"] not in ("rejected", "rolled_back"), report
        return bool(report["phase"] == "promoted")

    eventually(promoted, "the promotion, and the probation behind it")
    assert model_in_use(plant).startswith("sensor-anomaly@1.1.0#")
    assert "is promoted" in plant.cli("status", "agent.yaml")
    assert "a candidate was promoted" in plant.log()
    events = next(
        found for model, found in models_of(plant).items() if model.startswith("sensor-anomaly@1.1.0#")
    )
    assert {name: events[name] for name in ("promoted", "confirmed", "serves")} == {
        "promoted": 1,
        "confirmed": 1,
        "serves": 1,
    }


def test_the_audit_log_holds_which_model_served_and_the_promotion(plant: Plant, feeder: Feeder) -> None:
    install(plant, "1.1.0", "--candidate")
    gate = ", shadow: sensor-anomaly@1.1.0, promote: {after: 100ms, min_rows: 100, max_latency_ratio: 1000}"
    plant.configure(TWO % gate)
    plant.cli("reload", "agent.yaml")

    def told() -> set[str]:
        facts = json.loads(plant.cli("audit", "report", plant.folder / "spool", "--json"))
        return {row["operator"] for row in facts["hits"] if row["class"] == "model" and row["stream"] == "a"}

    def has(*beginnings: str) -> bool:
        return all(any(line.startswith(start) for line in told()) for start in beginnings)

    eventually(
        lambda: has(
            "serves sensor-anomaly@1.0.1#", "promoted sensor-anomaly@1.1.0#", "serves sensor-anomaly@1.1.0#"
        ),
        "the notes",
    )
    assert json.loads(plant.cli("audit", "verify", plant.folder / "spool", "--json"))["ok"]
