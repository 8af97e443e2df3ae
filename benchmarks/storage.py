"""Operations on disk: the spool's commits beside a bare SQLite, wear, and the receiver's sink."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks import reference_series
from benchmarks.model import Budget, Effort, Figure
from benchmarks.wire import sealer
from forebay.receive.checks import Bodies, read_batch
from forebay.receive.sink import Verdict, Work
from forebay.receive.sqlite import SqliteSink
from forebay.spool import Spool
from forebay.stages import Commit, Sealed
from forebay.wire.messages import Batch


def _batches(count: int, rows: int) -> tuple[list[Sealed], dict[bytes, bytes]]:
    one = sealer()
    series = reference_series.generate(count * rows)
    return [one.seal(b, None) for b in reference_series.blocks(series, rows)], one.bodies


def _written() -> int:
    """Return the bytes that this process has given to storage since it started."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def spool_commits(effort: Effort) -> list[Figure]:
    """Measure commits of 1 and of 1,000 rows, durable when told so, one after the other."""
    figures = []
    for rows in (1, 1_000):
        count = 200 if effort.repeats == 1 else 1_000
        batches, bodies = _batches(count, rows)
        waits, written, cpu = _run_spool(batches, bodies)
        bare_waits, _, bare_cpu = _run_bare(batches)
        what = f"spool, {rows} row{'s' * (rows > 1)} a commit"
        stored = sum(len(b.data) for b in batches)
        budgets = _latency_budgets(bare_waits) if rows == 1 else (None, None)
        figures += [
            Figure(f"spool-{rows}-p50", f"{what}: submitted to durable, p50", _ms(waits, 50), "ms", budgets[0],
                   {"bare SQLite": _ms(bare_waits, 50)}),
            Figure(f"spool-{rows}-p99", f"{what}: p99", _ms(waits, 99), "ms", budgets[1],
                   {"bare SQLite": _ms(bare_waits, 99)}),
            Figure(f"spool-{rows}-cpu", f"{what}: CPU", cpu / count * 1e6, "us/commit", None,
                   {"bare SQLite": bare_cpu / count * 1e6}),
            Figure(f"spool-{rows}-wear", f"{what}: bytes written per stored byte", written / stored, "B/B",
                   note=f"{stored / count:.0f} B a commit"),
        ]  # fmt: skip
    return [*figures, _wear()]


def _latency_budgets(bare: list[float]) -> tuple[Budget, Budget]:
    """Return p50 and p99 budgets: so much over what the disk itself takes in the same run."""
    return Budget(round(_ms(bare, 50) + 1.5, 2)), Budget(round(_ms(bare, 99) + 5.0, 2))


def _ms(waits: list[float], percent: int) -> float:
    return float(np.percentile(waits, percent)) * 1e3


def _wear() -> Figure:
    """Write at least 16 KB a commit, as the default linger makes of a fast stream."""
    batches, bodies = _batches(400, 1_000)
    _, written, _ = _run_spool(batches, bodies, group=10)
    stored = sum(len(b.data) for b in batches)
    return Figure(
        "spool-wear",
        "spool, >= 16 KB a commit: bytes written per stored byte, checkpoints included",
        written / stored,
        "B/B",
        Budget(4.0),
        note=f"{stored / 40:.0f} B a commit",
    )


def _run_spool(
    batches: list[Sealed], bodies: dict[bytes, bytes], group: int = 1
) -> tuple[list[float], int, float]:
    """Commit group by group, each when the one before is durable. Return waits, bytes written, CPU seconds."""
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool.open(
            Path(folder), sync="full", max_bytes=1 << 30, on_full="block", on_stored=lambda: None
        )
        spool.writer.start()
        before, cpu = _written(), time.process_time()
        for first in range(0, len(batches), group):
            durable = threading.Event()
            part = batches[first : first + group]
            ledger = Counter({("pump", "read", ""): sum(b.readings for b in part)})
            ledger["pump", "accepted", ""] = ledger["pump", "read", ""]
            commit = Commit("f/pump", part, bodies, ledger, b"p" * 300)
            commit.done.append(lambda ok, event=durable: event.set())  # type: ignore[misc]
            begin = time.perf_counter()
            spool.writer.submit(commit)
            assert durable.wait(30)
            waits.append(time.perf_counter() - begin)
        cpu = time.process_time() - cpu
        reader = spool.reader()
        found, _, _ = reader.counts()
        reader.close()
        assert found == len(batches), f"expected {len(batches)} batches in the spool, found {found}"
        assert spool.close()
        return waits, _written() - before, cpu


def _run_bare(batches: list[Sealed]) -> tuple[list[float], int, float]:
    """Insert each blob in a transaction of its own: what this disk and SQLite take without us."""
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE batch (id INTEGER PRIMARY KEY, data BLOB)")
        before, cpu = _written(), time.process_time()
        for batch in batches:
            begin = time.perf_counter()
            db.execute("INSERT INTO batch (data) VALUES (?)", (batch.data,))
            waits.append(time.perf_counter() - begin)
        cpu = time.process_time() - cpu
        db.close()
        return waits, _written() - before, cpu


def receiver(effort: Effort) -> list[Figure]:
    """Measure the SQLite sink with everything that stands before it: tag, envelope, columns, marks, rows."""
    count = 100 if effort.repeats == 1 else 500
    batches, made = _batches(count, 1_000)
    best = float("inf")
    for _ in range(effort.repeats):
        with tempfile.TemporaryDirectory() as folder:
            sink = SqliteSink(Path(folder) / "center.db")
            bodies = Bodies(sink.body)
            for body in made.values():
                bodies.add(body)
            begin = time.process_time()
            for first in range(0, count, 16):
                part = enumerate(batches[first : first + 16], first + 1)
                work = Work(
                    [read_batch(Batch("normal", 1, n, b.tag), b.data, len(b.data), bodies) for n, b in part],
                    received_at=1,
                )
                sink.store(work)
                assert all(b.verdict is Verdict.STORED for b in work.batches)
            best = min(best, time.process_time() - begin)
            sink.close()
            with sqlite3.connect(Path(folder) / "center.db") as db:
                ((rows,),) = db.execute("SELECT count(*) FROM reference").fetchall()
            db.close()
            assert rows == count * 1_000
    readings = count * 1_000 * reference_series.READINGS
    return [
        Figure(
            "receiver",
            "receiver, SQLite sink, batches of 1,000 rows of 5 readings",
            readings / best / 1e6,
            "M readings/CPU-s",
            Budget(1.0, most=False),
        )
    ]
