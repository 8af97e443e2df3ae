"""Thirty simulated days without a receiver at 1,000 readings a second, against a quota of 512 MiB.

A hundred rows of ten fields a second, in blocks of 1,000 rows (the most that an ordinary one has), each sealed by the
product from slices of arrays; one commit is 100 seconds. Spool with its writer, quota, eviction, ledger, session, desk
and sink are the product's; the clocks are the test's. Then the spool is opened again, the receiver comes back, and
every row of its table is looked at: row n must say what row n said at the source, and the rows that are not there must
be those of the numbers that gap records name.

Amount and quota are divided by FOREBAY_OUTAGE_SCALE (1; the short test: 20), so that the quota is met at the same day
and overflows as often. At full size: 10 minutes of CPU, 3 GB (use a folder in memory, or a disk of its own).
"""

from __future__ import annotations

import os
import resource
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from results import record
from world import Center, FakeClock, Gateway

from forebay.blocks import Block, Column, Field, Lane, Schema, Type
from forebay.spool import Limits
from forebay.spool.reader import equations_hold
from forebay.stages import Commit

SCALE = int(os.environ.get("FOREBAY_OUTAGE_SCALE", "1"))
HERE = ".venv/bin/python -m pytest tests/system/test_long_outage.py"
MIB = 1024 * 1024
QUOTA = 512 * MIB
SHARES = {"urgent": 0.1, "normal": 0.3, "bulk": 0.2}
TICK_S, BLOCK_S = 100, 10
TICKS = 30 * 86_400 // TICK_S
FIELDS, ROWS = 10, 100  # a second
BLOCK_ROWS = BLOCK_S * ROWS
WALKS = FIELDS - 1
SCHEMA = Schema("pump", (Field("id", Type.I64), *(Field(f"f{n}", Type.F64) for n in range(WALKS))))
START_NS, ROW_NS = 1_700_000_000 * 10**9, 10_000_000
PERIOD = 60_013  # rows after which the values come again; the ids do not
AHEAD = 1  # commits on their way to the writer: of a small quota several at once would be a large part
OWNER = "s/p"


def walks() -> np.ndarray:
    """Return the values of rows 0 to PERIOD and some more, so that each block is a slice: noise of 6 decimals."""
    steps = np.random.default_rng(1).normal(0, 0.5, (WALKS, PERIOD))
    values = np.cumsum(steps, axis=1).round(6)
    return np.hstack([values, values[:, :BLOCK_ROWS]])


def tick_lanes(tick: int) -> list[Lane]:
    """Return the lanes of the blocks of a commit: half are bulk, and of a thousand two are urgent."""
    first = Lane.URGENT if tick % 50 == 0 else Lane.NORMAL
    return [first, *[Lane.NORMAL] * 4, *[Lane.BULK] * 5]


@dataclass
class Count:
    """The test's own books: by lane, the first row of number 1, 2, 3, ..."""

    first: dict[str, list[int]] = field(default_factory=lambda: {str(lane): [] for lane in Lane})


class Watch:
    """Looks at the spool's files after each transaction, and before and after the log is folded in."""

    def __init__(self, gateway: Gateway) -> None:
        self.folder, self.most, self.looks, self.rss = gateway.folder, 0, 0, {0: 0, 1: 0}
        self.half = 0
        checkpoint = gateway.spool.store.checkpoint

        def folded(mode: str) -> bool:
            self.look()
            done = checkpoint(mode)
            self.look()
            return done

        gateway.spool.store.checkpoint = folded

    def look(self, _durable: bool = True) -> None:
        self.most = max(self.most, sum(entry.stat().st_size for entry in os.scandir(self.folder)))
        self.looks += 1
        if self.looks % 50 == 0:
            self.rss[self.half] = max(self.rss[self.half], rss_bytes())


def rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def accept_a_month(gateway: Gateway, watch: Watch, ticks: int, values: np.ndarray) -> Count:
    """Commit the month; the spool's clock goes on with each commit."""
    count, clock, row = Count(), gateway.clock, 0
    writer, numbers = gateway.spool.writer, np.arange(BLOCK_ROWS, dtype=np.int64)
    for tick in range(ticks):
        clock.advance(TICK_S)
        watch.half = int(tick >= ticks // 2)
        commit = Commit(OWNER, position=b"%d" % (tick + 1))
        for lane in tick_lanes(tick):
            ids, at = numbers + row, row % PERIOD
            columns = (Column(ids), *(Column(walk[at : at + BLOCK_ROWS]) for walk in values))
            block = Block(SCHEMA, START_NS + ids * ROW_NS, columns, lane)
            commit.batches.append(gateway.sealer.seal(block, None))
            count.first[str(lane)].append(row)
            row += BLOCK_ROWS
        commit.bodies = dict(gateway.sealer.bodies)
        readings = sum(batch.readings for batch in commit.batches)
        commit.ledger["pump", "read", ""] = commit.ledger["pump", "accepted", ""] = readings
        commit.done.append(watch.look)
        assert writer.wait_below(OWNER, AHEAD, 300), writer.condition
        writer.submit(commit)
    assert writer.wait_below(OWNER, 1, 300), writer.condition
    return count


@dataclass
class Found:
    """What the month has come to, in readings if nothing else is said."""

    accepted: int
    evicted: int
    kept_bytes: dict[str, int]
    kept_numbers: dict[str, tuple[int, int, int]]  # by lane: lowest, highest, count
    gap_records: int
    most_bytes: int
    rss: dict[int, int]
    cpu_s: dict[str, float]
    quota: int


def outage(folder: Path, scale: int) -> Found:
    """Fill the spool for thirty days, open it again, let the receiver come back, look at every row."""
    clock, ticks, values = FakeClock(), TICKS // scale, walks()
    limits = Limits(QUOTA // scale, "evict_lowest_value", reserve=SHARES)
    gateway = Gateway(folder, clock, window=64, sync="full", limits=limits)
    store = gateway.spool.store
    store._monotonic_ns, store._since_ns = clock.monotonic_ns, clock.monotonic_ns()
    watch, cpu_s, begun = Watch(gateway), {}, time.process_time()
    gateway.spool.writer.start()
    try:
        count = accept_a_month(gateway, watch, ticks, values)
        cpu_s["accept"] = time.process_time() - begun
        assert store.counters["uptime_ns"] // 10**9 == ticks * TICK_S  # by the test's clock
        gateway.kill()
        assert gateway.spool.store.progress(OWNER)[""] == b"%d" % ticks
        entry = gateway.door.reader.ledger()["pump"]
        assert equations_hold(entry)
        waiting: dict[str, list] = {str(lane): [] for lane in Lane}
        sizes = dict.fromkeys(waiting, 0)
        for batch in gateway.door.reader.all_batches():
            waiting[batch.lane].append(batch.seq)
            sizes[batch.lane] += len(batch.data)
        begun = time.process_time()
        center = Center(folder, clock)
        try:
            gateway.drain(center, turns=1_000_000)
        finally:
            center.sink.close()
        cpu_s["deliver"], begun = time.process_time() - begun, time.process_time()
        accepted = ticks * TICK_S * ROWS * FIELDS
        assert entry["accepted"] == accepted
        gaps = judge(center.path, count, values, accepted - sum(entry["evicted"].values()))
        cpu_s["judge"] = time.process_time() - begun
        return Found(
            accepted,
            sum(entry["evicted"].values()),
            sizes,
            {lane: (min(n), max(n), len(n)) for lane, n in waiting.items()},
            gaps,
            watch.most,
            watch.rss,
            cpu_s,
            limits.max_bytes,
        )
    finally:
        gateway.close()


def judge(path: Path, count: Count, values: np.ndarray, stored_readings: int) -> int:
    """Compare the sink's table with the test's own books, without product code. Return how many gap records there are.

    Each row once and as it was; each number of each lane a batch or in a gap; rows that are not there are the gaps'.
    """
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    seen = np.zeros(BLOCK_ROWS * sum(map(len, count.first.values())), dtype=np.bool_)
    rows = db.execute(f"SELECT id, time, f0, f{WALKS - 1} FROM pump")
    while part := rows.fetchmany(100_000):
        ids, times = np.array([row[:2] for row in part], dtype=np.int64).T
        assert len(np.unique(ids)) == len(ids)
        assert not seen[ids].any(), "a row is stored twice"
        seen[ids] = True
        assert (times == START_NS + ids * ROW_NS).all()
        cells = np.array([row[2:] for row in part]).T
        assert (cells == values[[0, -1]][:, ids % PERIOD]).all()
    assert int(seen.sum()) * FIELDS == stored_readings
    gaps = db.execute("SELECT lane, g.epoch, seq_from, seq_to, g.rows, g.readings, cause FROM gaps g"
                      " JOIN (SELECT DISTINCT epoch, lane FROM batches) USING (epoch)").fetchall()  # fmt: skip
    assert db.execute("SELECT count(*) FROM gaps").fetchone() == (len(gaps),)
    closed = {lane: np.zeros(len(first) + 1, dtype=np.int8) for lane, first in count.first.items()}
    for lane, seq in db.execute("SELECT lane, seq FROM batches"):
        closed[lane][seq] += 1
    for lane, _epoch, low, high, in_gap, readings, cause in gaps:
        assert cause == "evicted"
        closed[lane][low : high + 1] += 1
        assert in_gap == (high - low + 1) * BLOCK_ROWS
        assert readings == in_gap * FIELDS
        for first in count.first[lane][low - 1 : high]:
            assert not seen[first : first + BLOCK_ROWS].any(), "a gap names what is stored"
            seen[first : first + BLOCK_ROWS] = True
    db.close()
    assert seen.all(), "a row is neither stored nor in a gap"
    assert all((numbers[1:] == 1).all() for numbers in closed.values())
    return len(gaps)


def check(found: Found) -> None:
    """Assert that the quota held to the byte, and that the least valuable and the oldest went."""
    assert found.most_bytes <= found.quota
    assert found.evicted > found.accepted // 2
    for lane, (low, high, count) in found.kept_numbers.items():
        assert count == high - low + 1, f"of {lane} not the newest are kept"
    assert found.kept_numbers["urgent"][0] == 1  # all of the urgent ones fit in their share
    step = found.quota // 16  # what may go at once
    for lane in ("normal", "bulk"):
        assert found.kept_numbers[lane][0] > 1
        assert found.kept_bytes[lane] > SHARES[lane] * found.quota - step, "less than its share is left"


@pytest.mark.slow
def test_a_scaled_month_without_a_receiver_keeps_the_quota_and_accounts_for_all(tmp_path):
    check(outage(tmp_path, 20))


@pytest.mark.torture
def test_a_month_without_a_receiver_keeps_quota_and_memory_and_accounts_for_all(tmp_path):
    found = outage(tmp_path, SCALE)
    growth = found.rss[1] - found.rss[0]
    size = "" if SCALE == 1 else f" (both divided by {SCALE})"
    print(found)
    check(found)
    assert growth < 16 * MIB
    record(
        "outage",
        f"30 simulated days without a receiver at 1,000 readings/s, quota 512 MiB{size}",
        f"FOREBAY_OUTAGE_SCALE={SCALE} {HERE} -m torture --basetemp=/dev/shm/outage",
        1,
        note=f"{found.accepted:,} readings accepted, {found.evicted:,} evicted with {found.gap_records:,} gap records,"
        f" the others stored once; most on disk {found.most_bytes:,} of {found.quota:,} bytes; RSS at most"
        f" {found.rss[0] / MIB:.1f} MiB in the first half and {found.rss[1] / MIB:.1f} in the second; CPU"
        + ", ".join(f" {found.cpu_s[part]:.0f} s to {part}" for part in found.cpu_s),
    )
