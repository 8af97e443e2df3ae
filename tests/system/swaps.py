"""Gateways whose models are exchanged while rows come: what tests of swaps and of the gate share."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
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
        self.stuck = threading.Event()  # from now on `value` does not change any more
        for name in "ab":
            (folder / f"{name}.csv").write_text("ts,id,value\n")
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.wait(0.01):
            stuck = self.stuck.is_set()
            lines = "".join(
                f"{i},{i},{50 if stuck else (i * 7919) % 101}\n" for i in range(self.rows, self.rows + 50)
            )
            for name in "ab":
                with (self.folder / f"{name}.csv").open("a") as file:
                    file.write(lines)
            self.rows += 50

    def end(self) -> int:
        """Stop; return how many rows each file has."""
        self.stop.set()
        self.thread.join()
        return self.rows


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def bundle(plant: Plant, version: str, graph: Path | None = None) -> Path:
    """Return `sensor-anomaly` under another version, signed; with another graph that has the same golden output."""
    made = Path(shutil.copytree(find("sensor-anomaly"), plant.folder / "made" / version))
    manifest = yaml.safe_load((made / "manifest.yaml").read_text()) | {"version": version}
    if graph is not None:
        shutil.copyfile(graph, made / "model.onnx")
        manifest["files"]["model.onnx"] = hashlib.sha256(graph.read_bytes()).hexdigest()
    (made / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    plant.cli("models", "sign", made, "--key", "keys/gateway.key")
    return made


def install(plant: Plant, version: str, *more: str, graph: Path | None = None) -> None:
    """Install that version."""
    plant.cli("models", "install", bundle(plant, version, graph), "--config", "agent.yaml", *more)


@contextmanager
def swapping(plant: Plant) -> Iterator[Feeder]:
    """Run gateway and center while both files grow; at the end each row must have come once, and the books balance."""
    feeder = Feeder(plant.folder)
    try:
        plant.configure(TWO % "")
        install(plant, "1.0.1")
        plant.start_receiver()
        plant.start_agent()
        eventually(lambda: rows_of(plant.sink, "SELECT id FROM a LIMIT 1"), "rows")
        yield feeder
        rows = feeder.end()
        for name in "ab":
            eventually(lambda n=name: rows_of(plant.sink, f"SELECT count(*) FROM {n}") == [(rows,)], name)
            found = [row[0] for row in rows_of(plant.sink, f"SELECT id FROM {name} ORDER BY id")]
            assert found == list(range(rows)), "a row was lost or doubled"
        status = plant.status()
        assert status["balanced"]
        gave = sum(events.get("gave", 0) for events in models_of(plant).values())
        assert rows_of(plant.sink, "SELECT count(anomaly) FROM a") == [(gave,)], (
            "the ledger counts each result"
        )
        agent = plant.children[-1]
        agent.terminate()
        assert agent.wait(PATIENCE_S) == 0, plant.log()[-3000:]
    finally:
        feeder.end()
        for child in plant.children:
            kill(child)


def models_of(plant: Plant) -> dict[str, dict[str, int]]:
    """Return what the ledger counts of the models of stream `a`."""
    found: dict[str, dict[str, int]] = plant.status()["streams"]["a"]["models"]
    return found


def model_in_use(plant: Plant) -> str:
    """Return the model that serves stream `a`."""
    return str(plant.live()["pipelines"]["a"]["reports"]["infer"]["model"])


def shadow_report(plant: Plant) -> dict[str, Any]:
    """Return what `forebay models shadow` says of the one candidate."""
    (report,) = json.loads(plant.cli("models", "shadow", "agent.yaml", "--json"))
    return dict(report)
