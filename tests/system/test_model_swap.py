"""Models exchanged under load: installed, reloaded, promoted, rolled back, and no row lost or doubled."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plant import Plant, kill, rows_of

from forebay.infer.bundle import find

PATIENCE_S = 60.0

TWO = """\
models: {dir: bundles, trust: [keys/gateway.pub], require_signature: true}
sources:
  a: {type: file, path: a.csv, format: csv, follow: true, time: {field: ts, unit: s}}
  b: {type: file, path: b.csv, format: csv, follow: true, time: {field: ts, unit: s}}
pipelines:
  a: {source: a, linger: 20ms, steps: [infer: {model: sensor-anomaly, inputs: [value], calibration: 64%s}]}
  b: {source: b, linger: 20ms}
"""


class Feeder:
    """Writes rows to both files until it is told to stop."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, 0
        for name in "ab":
            (folder / f"{name}.csv").write_text("ts,id,value\n")
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.wait(0.01):
            lines = "".join(f"{i},{i},{(i * 7919) % 101}\n" for i in range(self.rows, self.rows + 50))
            for name in "ab":
                with (self.folder / f"{name}.csv").open("a") as file:
                    file.write(lines)
            self.rows += 50

    def end(self) -> int:
        self.stop.set()
        self.thread.join()
        return self.rows


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def bundle(plant: Plant, version: str) -> Path:
    made = Path(shutil.copytree(find("sensor-anomaly"), plant.folder / "made" / version))
    text = (made / "manifest.yaml").read_text()
    (made / "manifest.yaml").write_text(text.replace("version: 1.0.0", f"version: {version}"))
    plant.cli("models", "sign", made, "--key", "keys/gateway.key")
    return made


def install(plant: Plant, version: str, *more: str) -> None:
    plant.cli("models", "install", bundle(plant, version), "--config", "agent.yaml", *more)


@pytest.fixture
def swapping(plant: Plant) -> Iterator[Plant]:
    feeder = Feeder(plant.folder)
    try:
        plant.configure(TWO % "")
        install(plant, "1.0.1")
        plant.start_receiver()
        child = plant.start_agent()
        try:
            eventually(lambda: rows_of(plant.sink, "SELECT id FROM a LIMIT 1"), "rows")
            yield plant
            rows = feeder.end()
            for name in "ab":
                eventually(lambda n=name: rows_of(plant.sink, f"SELECT count(*) FROM {n}") == [(rows,)], name)
                found = [row[0] for row in rows_of(plant.sink, f"SELECT id FROM {name} ORDER BY id")]
                assert found == list(range(rows)), "a row was lost or doubled"
            assert plant.status()["balanced"]
            child.terminate()
            assert child.wait(PATIENCE_S) == 0, plant.log()[-3000:]
        finally:
            kill(child)
    finally:
        feeder.end()


def model_in_use(plant: Plant) -> str:
    return plant.status()["pipelines"]["a"]["reports"]["infer"]["model"]


def test_an_installed_version_is_taken_over_by_reload_under_load_and_rolled_back(swapping: Plant) -> None:
    plant = swapping
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


def test_a_bundle_that_cannot_be_used_leaves_the_running_model_alone(swapping: Plant) -> None:
    plant = swapping
    install(plant, "1.0.2")
    card = plant.folder / "bundles/sensor-anomaly/1.0.2/CARD.md"
    card.write_text("changed on the way")
    plant.cli("reload", "agent.yaml", expect=1)
    assert "expected sha256" in plant.last_error
    assert model_in_use(plant).startswith("sensor-anomaly@1.0.1#")
    plant.cli("models", "rollback", "sensor-anomaly", "--config", "agent.yaml")


def test_a_candidate_is_promoted_by_itself_under_load_and_stays_so(swapping: Plant) -> None:
    plant = swapping
    install(plant, "1.1.0", "--candidate")
    gate = ", shadow: sensor-anomaly@1.1.0, promote: {after: 100ms, min_rows: 100, max_latency_ratio: 1000}"
    plant.configure(TWO % gate)
    plant.cli("reload", "agent.yaml")

    def promoted() -> bool:
        (report,) = json.loads(plant.cli("models", "shadow", "agent.yaml", "--json"))
        assert report["phase"] != "rejected", report
        return bool(report["phase"] == "promoted")

    eventually(promoted, "the promotion")
    assert model_in_use(plant).startswith("sensor-anomaly@1.1.0#")
    assert "is promoted" in plant.cli("status", "agent.yaml")
    assert "a candidate was promoted" in plant.log()


def test_the_audit_log_holds_which_model_served_and_the_promotion(swapping: Plant) -> None:
    plant = swapping
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
