"""Power cuts of the receiver in the middle of its transactions: what was acknowledged is stored, once and whole.

FOREBAY_SINK_CUTS (1000 in the long run), FOREBAY_SINK_SEED.
"""

from __future__ import annotations

import os
import random
import sqlite3

import pytest
from powercut import PowerCut, PowerLost
from results import record
from world import Center, FakeClock, Gateway

from forebay.receive import sqlite_schema
from forebay.wire import messages as m

CUTS = int(os.environ.get("FOREBAY_SINK_CUTS", "1000"))
SEED = int(os.environ.get("FOREBAY_SINK_SEED", "20263"))
HERE = ".venv/bin/python -m pytest tests/system/test_sink_power_cuts.py"
BATCHES = 60


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """Return bodies and batches as an agent sends them."""
    gateway = Gateway(tmp_path_factory.mktemp("agent"), FakeClock())
    gateway.store(*[list(range(n * 20, n * 20 + 20)) for n in range(BATCHES)])
    rows = list(gateway.door.reader.all_batches())
    bodies = gateway.door.reader.bodies([rows[0].schema_id, rows[0].context_id])
    out = [[m.encode(m.Bodies(list(bodies.values())))]]
    out += [[m.encode(m.Batch(r.lane, r.epoch, r.seq, r.tag)), r.data] for r in rows]
    gateway.close()
    return out


def serve(center: Center, bodies, batches, rng: random.Random, acked: set) -> None:
    """Hand the batches to the center in groups, some twice and out of order; note what it acknowledged."""
    waiting = [*batches, *rng.sample(batches, 10)]
    for at in range(0, len(waiting) - 6, 6):  # neighbours change places
        part = waiting[at : at + 6]
        rng.shuffle(part)
        waiting[at : at + 6] = part
    while waiting:
        size = rng.randint(1, 8)
        group, waiting = waiting[:size], waiting[size:]
        for _, reply in center.handle([(b"p", bodies), *((b"p", frames) for frames in group)]):
            if isinstance(reply, m.Ack):
                acked.update(reply.numbers)


def one_cut(folder, traffic, seed: int, monkeypatch, operations: int) -> tuple[bool, int]:
    """Cut the power once and look. Return whether it fell into the run, and the acknowledged batches."""
    rng = random.Random(seed)
    bodies, *batches = traffic
    Center(folder, FakeClock()).sink.close()  # the store is there already: its making is not what is cut
    cut = PowerCut(seed, at=rng.randint(1, operations))
    acked: set[tuple[int, int]] = set()
    fell = False
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema.sqlite3, "connect", lambda path, **_: cut.connect(path))
        try:
            serve(Center(folder, FakeClock()), bodies, batches, rng, acked)
        except PowerLost:
            fell = True
    cut.crash()
    again = Center(folder, FakeClock())
    try:
        check(again, acked)
        all_acked: set[tuple[int, int]] = set()
        serve(again, bodies, batches, rng, all_acked)
        assert len(all_acked) == BATCHES
        rows = again.rows("SELECT id FROM pump ORDER BY epoch, seq, rowid")
        assert rows == [(n,) for n in range(BATCHES * 20)]
        assert again.rows("SELECT mark, above FROM marks") == [(BATCHES, "")]
    finally:
        again.sink.close()
    return fell, len(acked)


def check(center: Center, acked: set[tuple[int, int]]) -> None:
    """Assert that the file is whole and holds what was acknowledged, rows, batches and marks agreeing."""
    with sqlite3.connect(center.path) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        stored = set(plain.execute("SELECT epoch, seq FROM batches"))
        lost = acked - stored
        assert not lost, f"acknowledged and not there: {sorted(lost)}"
        rows = dict(plain.execute("SELECT seq, count(*) FROM pump GROUP BY seq")) if stored else {}
        assert rows == {seq: 20 for _, seq in stored}
        marked = set()
        for epoch, mark, above in plain.execute("SELECT epoch, mark, above FROM marks"):
            marked |= {(epoch, n) for n in range(1, mark + 1)}
            for part in above.split(",") if above else ():
                low, _, high = part.partition("-")
                marked |= {(epoch, n) for n in range(int(low), int(high or low) + 1)}
        assert marked == stored
    plain.close()


def cuts(tmp_path, traffic, monkeypatch, count: int) -> int:
    measured = PowerCut(SEED)
    folder = tmp_path / "measure"
    folder.mkdir()
    Center(folder, FakeClock()).sink.close()
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema.sqlite3, "connect", lambda path, **_: measured.connect(path))
        serve(Center(folder, FakeClock()), traffic[0], traffic[1:], random.Random(SEED), set())
    measured.crash()
    fell = 0
    for number in range(count):
        folder = tmp_path / f"cut-{number}"
        folder.mkdir()
        hit, _ = one_cut(folder, traffic, SEED + number, monkeypatch, measured.ops)
        fell += hit
        for path in folder.iterdir():
            path.unlink()
    return fell


def test_power_cuts_of_the_receiver_lose_and_double_nothing(tmp_path, traffic, monkeypatch):
    assert cuts(tmp_path, traffic, monkeypatch, 12) >= 6


@pytest.mark.torture
def test_a_thousand_power_cuts_of_the_receiver_lose_and_double_nothing(tmp_path, traffic, monkeypatch):
    fell = cuts(tmp_path, traffic, monkeypatch, CUTS)
    assert fell >= CUTS // 2
    record(
        "sink-power",
        "power cut of the receiver: unsynced writes dropped, reordered, torn (SQLite sink)",
        f"FOREBAY_SINK_CUTS={CUTS} FOREBAY_SINK_SEED={SEED} {HERE} -m torture",
        fell,
        note=f"{BATCHES} batches of 20 rows in each; what was acknowledged was there, after a resend all was",
    )
