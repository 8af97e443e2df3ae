"""Thirty simulated days without a receiver at 1,000 readings a second, against a quota of 512 MiB.

Both the amount and the quota are divided by FOREBAY_OUTAGE_SCALE (10; the short test: 200), so that the quota is
met at the same day and overflows as often; the time of the spool's own clock is not simulated.
"""

from __future__ import annotations

import os
import random
import resource
from collections import Counter

import numpy as np
import pytest
from results import record
from world import Center, FakeClock, Gateway

from forebay.blocks import Block, Column, Field, Lane, Schema, Type
from forebay.spool.reader import equations_hold
from forebay.spool.store import Answers
from forebay.stages import Commit, Sealed

SCALE = int(os.environ.get("FOREBAY_OUTAGE_SCALE", "10"))
HERE = ".venv/bin/python -m pytest tests/system/test_long_outage.py"
QUOTA = 512 * 1024 * 1024
BATCHES = 30 * 86_400  # of 1,000 readings: one a second
SCHEMA = Schema("pump", tuple(Field(f"f{n}", Type.F64) for n in range(10)))
LANES = [Lane.URGENT] + [Lane.NORMAL] * 39 + [Lane.BULK] * 60  # of a hundred batches


def rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def pool(gateway: Gateway) -> list[Sealed]:
    """Return batches of 100 rows of ten noisy walks, sealed once: the spool sees bytes, not what they say."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(32):
        walks = np.cumsum(rng.normal(0, 0.05, (10, 100)), axis=1).round(2)
        columns = tuple(Column.of(Type.F64, list(map(float, walk))) for walk in walks)
        block = Block(SCHEMA, np.arange(100, dtype=np.int64) * 10**9, columns)
        made.append(gateway.sealer.seal(block, None))
    return made


def outage(folder, scale: int) -> dict[str, object]:
    """Fill the spool for thirty days, then let the receiver come back. Return what was measured."""
    clock, rng = FakeClock(), random.Random(7)
    gateway = Gateway(folder, clock, window=64, quota=QUOTA // scale, on_full="evict_lowest_value")
    center = Center(folder, clock)
    batches = pool(gateway)
    accepted: Counter[str] = Counter()
    most, early, late = 0, 0, 0
    total = BATCHES // scale
    try:
        for done in range(0, total, 100):
            commit = Commit("s/p", bodies=dict(gateway.sealer.bodies))
            for lane in LANES:
                batch = rng.choice(batches)
                commit.batches.append(_in_lane(batch, lane))
                accepted[str(lane)] += batch.readings
                commit.ledger["pump", "read", ""] += batch.readings
                commit.ledger["pump", "accepted", ""] += batch.readings
            gateway.spool.store.apply([commit], Answers())
            if done % 1_000 == 0:
                most = max(most, sum(p.stat().st_size for p in gateway.folder.rglob("*") if p.is_file()))
                late = max(late, rss_bytes()) if done > total // 2 else late
                early = max(early, rss_bytes()) if done <= total // 2 else early
        entry = gateway.door.reader.ledger()["pump"]
        assert equations_hold(entry)
        lanes = _waiting(gateway)
        gateway.drain(center, turns=100_000)
        stored = dict(center.rows("SELECT lane, sum(readings) FROM batches GROUP BY lane"))
        (missing,) = center.rows("SELECT total(readings), count(*) FROM gaps")
        return {
            "accepted": accepted,
            "evicted": sum(entry["evicted"].values()),
            "waiting": lanes,
            "stored": stored,
            "in_gaps": int(missing[0]),
            "gap_records": missing[1],
            "most_bytes": most,
            "quota": QUOTA // scale,
            "rss_growth": late - early,
        }
    finally:
        gateway.close()
        center.sink.close()


def _in_lane(batch: Sealed, lane: Lane) -> Sealed:
    names = ("stream", "data", "tag", "rows", "readings", "first_time", "last_time", "bodies")
    return Sealed(lane=lane, **{name: getattr(batch, name) for name in names})


def _waiting(gateway: Gateway) -> dict[str, int]:
    out: Counter[str] = Counter()
    for batch in gateway.door.reader.all_batches():
        out[batch.lane] += batch.readings
    return dict(out)


def check(found: dict) -> None:
    accepted, stored = found["accepted"], found["stored"]
    assert sum(stored.values()) + found["in_gaps"] == sum(accepted.values())
    assert found["evicted"] == found["in_gaps"] > sum(accepted.values()) // 2
    assert stored == found["waiting"]
    kept = {lane: stored[lane] / accepted[lane] for lane in stored}  # each lane has a reserved share
    assert kept["urgent"] > 0.9  # the least valuable went first
    assert max(kept["normal"], kept["bulk"]) < 0.5
    assert found["most_bytes"] <= found["quota"]


@pytest.mark.slow
def test_a_scaled_month_without_a_receiver_keeps_the_quota_and_accounts_for_all(tmp_path):
    found = outage(tmp_path, 200)
    check(found)


@pytest.mark.torture
def test_a_month_without_a_receiver_keeps_quota_and_memory_and_accounts_for_all(tmp_path):
    found = outage(tmp_path, SCALE)
    check(found)
    assert found["rss_growth"] < 16 * 1024 * 1024
    mib = 1024 * 1024
    record(
        "outage",
        f"30 simulated days without a receiver at 1,000 readings/s, quota 512 MiB (both divided by {SCALE})",
        f"FOREBAY_OUTAGE_SCALE={SCALE} {HERE} -m torture",
        1,
        note=f"{sum(found['accepted'].values()):,} readings accepted, {found['in_gaps']:,} evicted with"
        f" {found['gap_records']:,} gap records; most on disk {found['most_bytes'] / mib:.1f} of"
        f" {found['quota'] / mib:.1f} MiB; RSS grew {found['rss_growth'] / mib:.1f} MiB in the second half",
    )
