"""Arrays on the whole road: waveforms and polled registers, eight channels through features, urgent rows, streams."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.array_agent import CHANNELS, RATE_HZ, waveform
from benchmarks.gateway_site import Site, Usage
from benchmarks.model import Budget, Effort, Figure, cpu_seconds
from forebay import preprocess
from forebay.blocks import Block
from forebay.config.preprocess import WindowOptions
from forebay.wire.columns import encode_columns

_HEAD = """
gateway: {id: gw-1}
masking: {policy: base}
spool: {dir: spool, sync: full}
forward: {endpoints: [ENDPOINT], keys: {own: keys/gateway.key, server: keys/center.pub}}
log: {level: error}
"""
_FEATURES = """
    steps:
      - window: {size: 256}
      - infer: {model: sensor-anomaly, inputs: [INPUTS]}
"""
_WINDOW = 256
_STATS = 9  # of the window step, where none are named


class ArrayRoad:
    """A receiver, and agents that are fed with arrays."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._facts = site.folder / "facts.json"

    def run(self, streams: int = 1, lane: str = "normal", steps: str = "", **spec: Any) -> Usage:
        """Run one agent to its end, everything acknowledged."""
        pipelines = "".join(f"  s{n}:\n    source: s{n}\n    lane: {lane}\n{steps}" for n in range(streams))
        sources = "".join(f"  s{n}: {{type: system}}\n" for n in range(streams))
        self.site.write_agent(f"{_HEAD}sources:\n{sources}pipelines:\n{pipelines}")
        spec_file = self.site.folder / "spec.json"
        spec_file.write_text(json.dumps(spec | {"facts": str(self._facts)}))
        command = [
            sys.executable,
            "-m",
            "benchmarks.array_agent",
            str(spec_file),
            "run",
            "agent.yaml",
            "--once",
        ]
        return self.site.run_to_end(command)

    def facts(self) -> dict[str, Any]:
        """Return what the last run's source saw."""
        found: dict[str, Any] = json.loads(self._facts.read_text())
        return found

    def stored(self) -> tuple[int, int]:
        """Return readings and bytes that the receiver has."""
        ((readings, size),) = self.site.query("SELECT total(readings), total(wire_bytes) FROM batches")
        return int(readings), int(size)


@contextmanager
def array_road() -> Iterator[ArrayRoad]:
    """Open a receiver for a while."""
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder)) as site:
        yield ArrayRoad(site)


def arrays(effort: Effort) -> list[Figure]:
    """Measure readings per CPU second of the agent, durable and acknowledged."""
    return [
        _throughput(
            "registers", "polled registers, 20 fields, 1,000 rows a block", effort, rows=1_000, fields=20
        ),
        _throughput(
            "waveform", "waveforms, 8 channels, 8,192 rows a block", effort, rows=8_192, fields=CHANNELS
        ),
    ]


def _throughput(kind: str, what: str, effort: Effort, rows: int, fields: int) -> Figure:
    count = (10_000_000 if effort.repeats > 1 else 2_000_000) // (rows * fields)
    readings = count * rows * fields
    best, size = float("inf"), 0
    repeats = min(2, effort.repeats)
    for _ in range(repeats):
        with array_road() as road:
            empty = road.run(kind=kind, rows=rows, fields=fields, count=0)
            full = road.run(kind=kind, rows=rows, fields=fields, count=count)
            stored, size = road.stored()
            assert stored == readings, f"expected {readings} readings at the receiver, found {stored}"
        best = min(best, full.cpu_s - empty.cpu_s)
    return Figure(
        f"arrays-{kind}",
        f"from arrays, {what}: source to acknowledged",
        readings / best / 1e6,
        "M readings/CPU-s",
        Budget(10.0, most=False),
        note=f"{readings / 1e6:.1f} M readings, {size / readings:.2f} B/reading on the wire, "
        f"best of {repeats}, start-up subtracted",
    )


def channels(effort: Effort) -> list[Figure]:
    """Feed eight channels in real time through window features, model, spool and wire."""
    seconds = 10 if effort.repeats > 1 else 4
    rows, every = RATE_HZ // 10, 0.1
    warm = 80  # 800 windows: beyond the model's calibration, and everything imported
    inputs = ", ".join(f"ch{n}_rms" for n in range(CHANNELS))
    steps = _FEATURES.replace("INPUTS", inputs)
    count = warm + seconds * 10
    with array_road() as road:
        road.run(
            kind="waveform", rows=rows, fields=CHANNELS, count=count, warm=warm, every_s=every, steps=steps
        )
        facts, (stored, _) = road.facts(), road.stored()
        ((scored,),) = road.site.query("SELECT count(anomaly) FROM s0")
    windows = count * rows // _WINDOW
    fields = windows * CHANNELS * _STATS
    assert scored > 0.6 * windows, f"the model scored {scored} of {windows} windows"
    assert stored == fields + scored, f"expected {fields + scored} readings, found {stored}"
    return [
        Figure(
            "channels",
            "8 channels x 25.6 kHz in real time: 72 features a window of 256, model, spool, wire",
            facts["cpu_s"] / facts["wall_s"] * 100.0,
            "% of a core",
            Budget(5.0),
            _parts(rows, every),
            note=f"{seconds} s, a block every 0.1 s, {RATE_HZ / _WINDOW * CHANNELS:.0f} model runs' rows a second",
        )
    ]


def _parts(rows: int, every_s: float) -> dict[str, float]:
    """Return what the steps and the payload of such a block take by themselves, in % of a core."""
    block, *_ = waveform("s0", rows, CHANNELS)
    window = preprocess.build("window", WindowOptions(size=_WINDOW), key="")
    turns = itertools.count(1)
    period = int(every_s * 1e9)

    def features() -> Block:
        return window.process(replace(block, time=block.time + next(turns) * period))[0]

    made = features()
    parts = {
        "the window step alone": features,
        "columns to payload alone": lambda: encode_columns(made, level=1),
    }
    return {name: cpu_seconds(part, 0.2) / every_s * 100.0 for name, part in parts.items()}


def urgent(effort: Effort) -> list[Figure]:
    """Measure urgent rows one by one: durable in the spool, acknowledged by the receiver, beside a bare SQLite."""
    count = 400 if effort.repeats > 1 else 150
    with array_road() as road:
        road.run(kind="urgent", count=count, lane="urgent")
        facts, (stored, _) = road.facts(), road.stored()
    assert stored == count, f"expected {count} readings at the receiver, found {stored}"
    waits = {name: percentiles(facts[name]) for name in ("durable", "acked")}
    one = facts["bare"]
    bare = {1: percentiles(one), 2: percentiles([a + b for a, b in zip(one[::2], one[1::2], strict=True)])}
    figures = []
    for name, what, disks, over in (
        ("durable", "urgent row, source to durable", 1, (1.5, 5.0)),
        ("acked", "urgent row, source to acknowledged by the receiver's SQLite", 2, (3.0, 10.0)),
    ):
        for percent, most in zip(("p50", "p99"), over, strict=True):
            budget = Budget(round(bare[disks][percent] + most, 2))
            peer = {("bare SQLite commit", "two bare SQLite commits")[disks - 1]: bare[disks][percent]}
            figures.append(
                Figure(
                    f"urgent-{name}-{percent}", f"{what}, {percent}", waits[name][percent], "ms", budget, peer
                )
            )
        figures[-2].percentiles = waits[name]
    return figures


def percentiles(waits_s: list[float]) -> dict[str, float]:
    """Return a histogram of seconds as percentiles in ms."""
    points = (1, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
    return {f"p{p:g}": round(float(np.percentile(waits_s, p)) * 1e3, 4) for p in points}
