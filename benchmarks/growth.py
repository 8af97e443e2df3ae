"""How cost grows: rows a block, streams of a gateway, gateways of a receiver, bytes in the spool."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from benchmarks import reference_series, wire
from benchmarks.arrays import ArrayRoad, array_road, percentiles
from benchmarks.fleet import Fleet
from benchmarks.model import Effort, Figure
from forebay.blocks import Lane
from forebay.spool import Limits, Spool
from forebay.stages import Commit, Sealed

_FIELDS = 10
_OWNER = "f/pump"
_COMMITS = 150  # measured at each size
_AHEAD = 4  # commits that are queued while the spool is filled
_SEGMENTS_OF_10_GB = 150  # of 64 MiB
_LINGER_0 = "    linger: 0s\n"  # each block is a batch


def rows_per_block(effort: Effort) -> list[Figure]:
    """Measure polled registers on the whole road, each block a batch, and the size of the reference series."""
    figures = []
    series = reference_series.generate(20_000)
    for rows in (10, 50, 200, 500, 1_000):
        blocks = min(2_000, (600_000 if effort.repeats > 1 else 200_000) // rows)
        with array_road() as road:
            cpu, _ = _cpu(road, 1, rows, blocks, _LINGER_0)
        what = f"{rows} rows a block"
        size = wire.size_per_reading(reference_series.blocks(series, rows), reference_series.READINGS)
        figures += [
            Figure(f"grow-rows-{rows}-cpu", f"{what}: agent, a batch a block", cpu, "us/row"),
            Figure(f"grow-rows-{rows}-bytes", f"{what}: reference series on the wire", size, "B/reading"),
        ]
    return figures


def streams(effort: Effort) -> list[Figure]:
    """Measure the same registers split over several sources, pipelines and streams of one agent."""
    figures = []
    total = 600 if effort.repeats > 1 else 200
    for count in (1, 10, 50, 100):
        with array_road() as road:
            cpu, rss = _cpu(road, count, 1_000, max(1, total // count), "")
        figures += [
            Figure(f"grow-streams-{count}-cpu", f"{count} streams: agent", cpu, "us/row"),
            Figure(f"grow-streams-{count}-rss", f"{count} streams: most memory", rss / 1e6, "MB"),
        ]
    return figures


def _cpu(road: ArrayRoad, streams: int, rows: int, blocks: int, steps: str) -> tuple[float, int]:
    """Return CPU us a row, start-up subtracted, and the most memory."""
    shape = {"kind": "registers", "rows": rows, "fields": _FIELDS, "streams": streams, "steps": steps}
    empty = road.run(count=0, **shape)
    full = road.run(count=blocks, **shape)
    stored, _ = road.stored()
    expected = streams * blocks * rows * _FIELDS
    assert stored == expected, f"expected {expected} readings at the receiver, found {stored}"
    return (full.cpu_s - empty.cpu_s) / (streams * blocks * rows) * 1e6, full.max_rss


def gateways(effort: Effort) -> list[Figure]:
    """Measure the receiver with several simulated gateways that each wait for their answers."""
    figures = []
    total = 400 if effort.repeats > 1 else 200
    for count in (1, 10, 50, 200):
        found = Fleet(count).run(max(1, total // count))
        rate = found["readings"] / found["cpu_s"] / 1e6
        waits = percentiles(found["waits"])
        what = f"{count} gateways, batches of 1,000 rows"
        figures += [
            Figure(f"grow-gateways-{count}-cpu", f"{what}: receiver", rate, "M readings/CPU-s"),
            Figure(f"grow-gateways-{count}-p99", f"{what}: sent to acknowledged, p99", waits["p99"], "ms",
                   percentiles=waits),
            Figure(f"grow-gateways-{count}-rss", f"{what}: memory of the receiver", found["rss"] / 1e6, "MB"),
        ]  # fmt: skip
    return figures


def spool_size(effort: Effort) -> list[Figure]:
    """Measure commits, opening and reading of a spool that holds 1 MB to 1 GB (quick: to 100 MB), and commits beside
    as many segments as 10 GB have: filling that much would measure the disk."""
    figures = []
    one = wire.sealer()
    block = next(reference_series.blocks(reference_series.generate(1_000), 1_000))
    batch = one.seal(block, None)
    # As large as batches get under load, so that a gigabyte is there in seconds; random, as if compressed.
    filler = Sealed(
        "reference", Lane.NORMAL, os.urandom(256 * 1024), batch.tag, 1_000, 5_000, 1, 2, batch.bodies
    )
    with tempfile.TemporaryDirectory() as folder:
        held = 0
        for megabytes in (1, 10, 100, *((1_000,) if effort.repeats > 1 else ())):
            target = megabytes * 1_000_000
            spool = _open(folder)
            held += _fill(spool, filler, target - held, one.bodies)
            assert spool.close(120.0), "not everything was written in 120 s"
            begin = time.perf_counter()
            spool = _open(folder)
            opened = time.perf_counter() - begin
            cpu, waits = _commits(spool, batch, one.bodies)
            reader = spool.reader()
            begin = time.perf_counter()
            first = reader.pending("normal", -1, 16)
            read = time.perf_counter() - begin
            assert len(first) >= min(16, held // len(filler.data))
            reader.close()
            assert spool.close(60.0), "not everything was written in 60 s"
            held += _COMMITS * len(batch.data)
            name, what = f"grow-spool-{megabytes}", f"{megabytes:,} MB in the spool"
            figures += [
                Figure(f"{name}-open", f"{what}: to open it", opened * 1e3, "ms"),
                Figure(f"{name}-cpu", f"{what}: CPU of a commit of 1,000 rows", cpu, "us"),
                Figure(
                    f"{name}-p50", f"{what}: commit of 1,000 rows, p50", waits["p50"], "ms", percentiles=waits
                ),
                Figure(f"{name}-read", f"{what}: to read the first batches to send", read * 1e3, "ms"),
            ]
    if effort.repeats > 1:
        with tempfile.TemporaryDirectory() as folder:
            spool = _open(folder, segment_bytes=4 * len(filler.data))
            for _ in range(_SEGMENTS_OF_10_GB):
                _commit(spool, [filler] * 5, one.bodies)  # fills one
            cpu, _ = _commits(spool, batch, one.bodies)
            segments = len(spool.store.segments)
            assert segments >= _SEGMENTS_OF_10_GB, f"expected {_SEGMENTS_OF_10_GB} segments, found {segments}"
            assert spool.close(60.0), "not everything was written in 60 s"
        what = f"{segments} segments, as 10 GB have: CPU of a commit of 1,000 rows"
        figures.append(Figure("grow-segments-cpu", what, cpu, "us"))
    return figures


def _open(folder: str, segment_bytes: int = 0) -> Spool:
    limits = Limits(4 << 30, segment_bytes=segment_bytes)
    spool = Spool.open(Path(folder), sync="full", limits=limits, on_stored=lambda: None)
    spool.writer.start()
    return spool


def _fill(spool: Spool, filler: Sealed, size: int, bodies: dict[bytes, bytes]) -> int:
    """Store at least `size` bytes, a few commits ahead of the disk. Return how many."""
    done = 0
    while done < size:
        part = [filler] * min(16, -(-(size - done) // len(filler.data)))
        spool.writer.submit(_made(part, bodies))
        done += len(part) * len(filler.data)
        assert spool.writer.wait_below(_OWNER, _AHEAD, 60.0), "a commit was not durable in 60 s"
    assert spool.writer.wait_below(_OWNER, 1, 60.0), "a commit was not durable in 60 s"
    return done


def _commits(spool: Spool, batch: Sealed, bodies: dict[bytes, bytes]) -> tuple[float, dict[str, float]]:
    """Return CPU us of a commit, and percentiles of the time until it is durable."""
    cpu = time.process_time()
    waits = percentiles([_commit(spool, [replace(batch)], bodies) for _ in range(_COMMITS)])
    return (time.process_time() - cpu) / _COMMITS * 1e6, waits


def _commit(spool: Spool, batches: list[Sealed], bodies: dict[bytes, bytes]) -> float:
    """Commit and wait until it is durable; return the seconds."""
    durable = threading.Event()
    commit = _made(batches, bodies)
    commit.done.append(lambda ok: durable.set() if ok else None)
    begin = time.perf_counter()
    spool.writer.submit(commit)
    assert durable.wait(60), "a commit was not durable in 60 s"
    return time.perf_counter() - begin


def _made(batches: list[Sealed], bodies: dict[bytes, bytes]) -> Commit:
    readings = sum(b.readings for b in batches)
    ledger = Counter({("reference", "read", ""): readings, ("reference", "accepted", ""): readings})
    return Commit(_OWNER, batches, bodies, ledger, b"p" * 300)
