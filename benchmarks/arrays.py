"""The road from arrays: waveforms and polled registers to durable and acknowledged, in processes of their own.

`python -m benchmarks.arrays KIND BLOCKS run CONFIG --once` is `forebay run` whose file source gives blocks made
of arrays instead: everything behind the source is the product's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gateway_site import Site
from benchmarks.model import Budget, Effort, Figure
from forebay.blocks import MAX_ROWS, MAX_WAVEFORM_ROWS, Block, Column, Field, Schema, Type
from forebay.stages import Chunk, Emit

_AGENT = """
gateway: {id: gw-1}
sources: {pump: {type: file, path: pump.jsonl, format: jsonl, time: {field: ts, unit: ms}}}
masking: {policy: base}
pipelines: {pump: {source: pump}}
spool: {dir: spool, sync: full}
forward: {endpoints: [ENDPOINT], keys: {own: keys/gateway.key, server: keys/center.pub}}
log: {level: error}
"""
_READINGS = 5_000_000
_WHAT = {
    "waveform": "8 channels of a waveform, 65,536 samples a block, to acknowledged: agent",
    "registers": "20 polled registers, 1,000 polls a block, to acknowledged: agent",
}
_RATE_HZ = 25_600


def waveform() -> Block:
    """Return 8 channels of vibration at 25.6 kHz, mm/s to 0.001: three tones and noise."""
    rng = np.random.default_rng(3)
    seconds = np.arange(MAX_WAVEFORM_ROWS) / _RATE_HZ
    fields, columns = [], []
    for channel in range(8):
        tones = sum(
            a * np.sin(2 * np.pi * f * seconds + channel) for f, a in ((49.7, 2.0), (993, 0.5), (3100, 0.2))
        )
        values = np.round(tones + rng.normal(0, 0.05, len(seconds)), 3)
        fields.append(Field(f"c{channel}", Type.F64, unit="mm/s"))
        columns.append(Column(values))
    time = 1_760_000_000_000_000_000 + np.arange(MAX_WAVEFORM_ROWS) * (1_000_000_000 // _RATE_HZ)
    return Block(Schema("pump", tuple(fields)), time, tuple(columns))


def registers() -> Block:
    """Return 1,000 polls of 20 registers that walk, 10 a second."""
    rng = np.random.default_rng(4)
    fields = tuple(Field(f"r{number}", Type.I64) for number in range(20))
    columns = tuple(Column(np.cumsum(rng.integers(-3, 4, MAX_ROWS)) + 2_000) for _ in fields)
    time = 1_760_000_000_000_000_000 + np.arange(MAX_ROWS) * 100_000_000
    return Block(Schema("pump", fields), time, columns)


_KINDS = {"waveform": waveform, "registers": registers}


class _Arrays:
    """A source of the same block again and again, moved in time."""

    replayable = True

    def __init__(self, block: Block, count: int) -> None:
        self._block, self._count = block, count

    def run(self, emit: Emit, position: bytes | None) -> None:
        step = int(self._block.time[-1] - self._block.time[0]) + 1_000_000
        done = int.from_bytes(position or b"", "big")
        for number in range(done, self._count):
            columns = tuple(Column(c.values) for c in self._block.columns)
            block = Block(self._block.schema, self._block.time + number * step, columns)
            if not emit(Chunk([block], (number + 1).to_bytes(4, "big"))):
                return

    def stop(self) -> None:
        return


def arrays(effort: Effort) -> list[Figure]:
    """Measure readings a CPU second of the agent, start subtracted."""
    figures = []
    for kind, make in _KINDS.items():
        a_block = make().readings()
        count = -(-_READINGS // a_block)
        with tempfile.TemporaryDirectory() as folder, Site(Path(folder)) as site:
            empty = min(_run(site, kind, 0) for _ in range(2))
            best = min(_run(site, kind, count) for _ in range(effort.repeats))
            ((readings, wire_bytes),) = site.query("SELECT sum(readings), sum(wire_bytes) FROM batches")
        assert readings == effort.repeats * count * a_block, f"{readings} readings at the receiver"
        value = readings / effort.repeats / (best - empty) / 1e6
        note = f"{wire_bytes / readings:.2f} B/reading on the wire"
        figures.append(
            Figure(
                f"arrays-{kind}", _WHAT[kind], value, "M readings/CPU-s", Budget(10, most=False), note=note
            )
        )
    return figures


def _run(site: Site, kind: str, count: int) -> float:
    words = [sys.executable, "-m", "benchmarks.arrays", kind, str(count)]
    return site.run_once(b"", _AGENT, words).cpu_s


def _main(kind: str, count: int, words: list[str]) -> None:
    import forebay.cli
    import forebay.sources.file as room

    block = _KINDS[kind]()
    stand_in: Any = lambda *_args, **_options: _Arrays(block, count)  # noqa: E731
    room.FileSource = stand_in  # type: ignore[misc]
    sys.argv[1:] = words
    forebay.cli.main()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
