"""Models exchanged under load: installed, reloaded, promoted, rolled back, and no row lost or doubled."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from plant import Plant
from swaps import TWO, Feeder, bundle, eventually, install, model_in_use, models_of, shadow_report, swapping

from forebay.infer.signing import sign
from forebay.keys import read_secret


@pytest.fixture
def feeder(plant: Plant) -> Iterator[Feeder]:
    with swapping(plant) as made:
        yield made


def test_an_installed_version_is_taken_over_by_reload_under_load_and_rolled_back(
    plant: Plant, feeder: Feeder
) -> None:
    assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
    before = plant.live()["pipelines"]["b"]["restarts"]
    install(plant, "1.0.2")
    told = plant.cli("reload", "agent.yaml", "--json")
    assert json.loads(told)["rebuilt"] == ["a"], "only the pipeline that uses the model"
    eventually(lambda: model_in_use(plant).startswith("sensor-anomaly@1.0.2#"), "the new model")
    plant.cli("models", "rollback", "sensor-anomaly", "--config", "agent.yaml")
    assert json.loads(plant.cli("reload", "agent.yaml", "--json"))["rebuilt"] == ["a"]
    eventually(lambda: model_in_use(plant).startswith("sensor-anomaly@1.0.1#"), "the old model")
    assert plant.live()["pipelines"]["b"]["restarts"] == before


def signed(plant: Plant, folder: Path, **changes: object) -> None:
    """Change a bundle's manifest and sign it again, by its maker: it is wrong, not forged."""
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    secret = read_secret(plant.folder / "keys" / "gateway.key")
    (folder / "manifest.sig").write_bytes(sign(path.read_bytes(), secret))


def tampered(_plant: Plant, folder: Path) -> None:
    (folder / "CARD.md").write_text("changed on the way")


def unsigned(_plant: Plant, folder: Path) -> None:
    (folder / "manifest.sig").unlink()


def other_opset(plant: Plant, folder: Path) -> None:
    signed(plant, folder, opset=11)


def other_shape(plant: Plant, folder: Path) -> None:
    signed(plant, folder, inputs=[{"name": "window", "dtype": "float32", "shape": ["n", 30]}])


def other_type(plant: Plant, folder: Path) -> None:
    signed(plant, folder, inputs=[{"name": "window", "dtype": "float64", "shape": ["n", 26]}])


def no_graph(plant: Plant, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a graph" * 100)
    files = yaml.safe_load((folder / "manifest.yaml").read_text())["files"]
    files["model.onnx"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    signed(plant, folder, files=files)


def test_a_bundle_that_was_changed_leaves_the_running_model_alone(plant: Plant, feeder: Feeder) -> None:
    install(plant, "1.0.2")
    installed = plant.folder / "bundles/sensor-anomaly/1.0.2"
    good = shutil.copytree(installed, plant.folder / "good")
    for spoil, message in ((tampered, "expected sha256"), (unsigned, "not signed")):
        spoil(plant, installed)
        plant.cli("reload", "agent.yaml", expect=1)
        assert message in plant.last_error, spoil.__name__
        assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
        shutil.rmtree(installed)
        shutil.copytree(good, installed)
    plant.cli("models", "rollback", "sensor-anomaly", "--config", "agent.yaml")


def test_a_bundle_that_is_wrong_is_not_installed(plant: Plant, feeder: Feeder) -> None:
    for number, (spoil, message) in enumerate(
        (
            (other_opset, "opset"),
            (other_shape, "window"),
            (other_type, "window"),
            (no_graph, "model.onnx"),
        )
    ):
        made = bundle(plant, f"1.1.{number}")
        spoil(plant, made)
        plant.cli("models", "install", made, "--config", "agent.yaml", expect=1)
        assert message in plant.last_error, spoil.__name__
    assert json.loads(plant.cli("reload", "agent.yaml", "--json"))["rebuilt"] == []
    assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")


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

    def events() -> dict[str, int]:
        """What the ledger counts of the candidate: it is committed with the next rows, after the report has changed."""
        kept = models_of(plant).items()
        found = next((found for model, found in kept if model.startswith("sensor-anomaly@1.1.0#")), {})
        return {name: found.get(name, 0) for name in ("promoted", "confirmed", "serves")}

    eventually(lambda: all(events().values()), "the ledger's counts")
    assert events() == {"promoted": 1, "confirmed": 1, "serves": 1}


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
