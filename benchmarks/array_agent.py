"""An agent whose source hands over arrays: `python -m benchmarks.array_agent SPEC.json run agent.yaml --once`.

Nothing but the source is the benchmark's: worker, steps, masking, spool and forwarder are those of `forebay run`. The
configuration names a source of type `system`, and this program hands `ArraySource` out for it, as a driver of a data
acquisition card would be added (`pipeline.build_live`). What the source saw is written to the file `facts` of the spec.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.stages import Chunk, Emit

RATE_HZ = 25_600
CHANNELS = 8
_TEMPLATES = 8
_START_NS = 1_760_000_000_000_000_000


def registers(stream: str, rows: int, fields: int) -> list[Block]:
    """Return blocks as a poller of registers makes them: 16-bit counts that walk, a row every 100 ms."""
    rng = np.random.default_rng(31)
    schema = Schema(stream, tuple(Field(f"r{n:02d}", Type.I64) for n in range(fields)))
    time_ns = _START_NS + np.arange(rows, dtype=np.int64) * 100_000_000
    out = []
    for _ in range(_TEMPLATES):
        steps = rng.integers(-3, 4, (fields, rows)).cumsum(axis=1) + rng.integers(1_000, 50_000, (fields, 1))
        out.append(Block(schema, time_ns, tuple(Column(np.ascontiguousarray(values)) for values in steps)))
    return out


def waveform(stream: str, rows: int, channels: int) -> list[Block]:
    """Return blocks of vibration: two tones and noise, m/s2, as a 16-bit converter of +-50 m/s2 gives it."""
    rng = np.random.default_rng(37)
    at = np.arange(rows) / RATE_HZ
    schema = Schema(stream, tuple(Field(f"ch{n}", Type.F64, unit="m/s²") for n in range(channels)))
    time_ns = _START_NS + (np.arange(rows, dtype=np.int64) * 1_000_000_000) // RATE_HZ
    out = []
    for turn in range(_TEMPLATES):
        columns = []
        for number in range(channels):
            tone = 3.0 * np.sin(2 * np.pi * (29.5 + number) * at + turn) + np.sin(2 * np.pi * 1_187.0 * at)
            counts = np.rint((tone + rng.normal(0.0, 0.4, rows)) / 50.0 * 32_768)
            columns.append(Column(counts * (50.0 / 32_768)))
        out.append(Block(schema, time_ns, tuple(columns)))
    return out


class ArraySource:
    """Emits `count` blocks one after the other, or one every `every_s` seconds."""

    replayable = False

    def __init__(self, spec: dict[str, Any], stream: str) -> None:
        self._spec, self._stream = spec, stream
        self._stop = threading.Event()

    def stop(self) -> None:
        """See stages.Source."""
        self._stop.set()

    def run(self, emit: Emit, position: bytes | None) -> None:
        """See stages.Source."""
        if self._spec["kind"] == "urgent":
            _Urgent(self._spec, self._stream).run(emit)
            return
        begin, cpu, warm = time.monotonic(), time.process_time(), int(self._spec.get("warm", 0))
        every = float(self._spec.get("every_s", 0.0))
        for number, block in enumerate(self._blocks()):
            if number == warm:
                begin, cpu = time.monotonic(), time.process_time()
            if (
                every
                and number >= warm
                and self._stop.wait(begin + (number - warm) * every - time.monotonic())
            ):
                return
            if not emit(Chunk([block], nbytes=block.nbytes)):
                return
        if every:
            self._stop.wait(every)
            took, used = time.monotonic() - begin, time.process_time() - cpu
            Path(self._spec["facts"]).write_text(json.dumps({"wall_s": took, "cpu_s": used}))

    def _blocks(self) -> Iterator[Block]:
        make = waveform if self._spec["kind"] == "waveform" else registers
        templates = make(self._stream, int(self._spec["rows"]), int(self._spec["fields"]))
        length = int(
            templates[0].time[-1] - templates[0].time[0] + templates[0].time[1] - templates[0].time[0]
        )
        for number in range(int(self._spec["count"])):
            block = templates[number % len(templates)]
            yield replace(block, time=block.time + number * length)


class _Urgent:
    """One urgent row at a time: when it was durable here, when the receiver had acknowledged it."""

    def __init__(self, spec: dict[str, Any], stream: str) -> None:
        self._spec = spec
        self._schema = Schema(stream, (Field("pressure", Type.F64),))

    def run(self, emit: Emit) -> None:
        durable, acked, bare = [], [], []
        with contextlib.closing(sqlite3.connect("bare.db", isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("CREATE TABLE IF NOT EXISTS batch (id INTEGER PRIMARY KEY, data BLOB)")
            for number in range(int(self._spec["count"])):
                stored = threading.Event()
                moment = {}

                def done(
                    ok: bool, stored: threading.Event = stored, moment: dict[str, float] = moment
                ) -> None:
                    assert ok
                    moment["durable"] = time.perf_counter()
                    stored.set()

                block = Block(self._schema, np.array([time.time_ns()]), (Column(np.array([number * 0.5])),))
                ACKED.clear()
                begin = time.perf_counter()
                if not emit(Chunk([block], done=done, nbytes=64, wants_reply=True)):
                    return
                assert stored.wait(30), "not durable in 30 s"
                assert ACKED.wait(30), "no acknowledgement in 30 s"
                acked.append(ACK_TIME[0] - begin)
                durable.append(moment["durable"] - begin)
                time.sleep(0.003)
                for _ in range(2):  # the road has two disks in its way, one after the other
                    begin = time.perf_counter()
                    db.execute("INSERT INTO batch (data) VALUES (?)", (bytes(160),))
                    bare.append(time.perf_counter() - begin)
                time.sleep(0.002)
        Path(self._spec["facts"]).write_text(json.dumps({"durable": durable, "acked": acked, "bare": bare}))


ACKED = threading.Event()
ACK_TIME = [0.0]


def _watch_acknowledgements() -> None:
    """Note the moment at which the forwarder hands an acknowledgement to the spool."""
    from forebay import forwarding

    plain = forwarding.SpoolDoor

    def door(reader: Any, claims: Any, answer: Any) -> Any:
        def told(*words: Any, **facts: Any) -> Any:
            if facts.get("acked"):
                ACK_TIME[0] = time.perf_counter()
                ACKED.set()
            return answer(*words, **facts)

        return plain(reader, claims, told)

    forwarding.SpoolDoor = door  # type: ignore[misc,assignment]


def main() -> None:
    """Run the agent with the source of the spec."""
    from forebay import pipeline
    from forebay.cli import main as forebay

    spec = json.loads(Path(sys.argv.pop(1)).read_text())
    pipeline.build_live = lambda _options, context: ArraySource(spec, context.stream)
    if spec["kind"] == "urgent":
        _watch_acknowledgements()
    forebay()


if __name__ == "__main__":
    main()
