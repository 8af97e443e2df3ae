"""The receiver's desk and SQLite sink without sockets: numbers, limits, times, checkpoints."""

from __future__ import annotations

import sqlite3
from collections import Counter

import pytest
from world import KEY, NS, Center, FakeClock, Gateway

from forebay.keys import generate
from forebay.receive.caps import DAY_NS, EpochGate, Limits
from forebay.receive.sql_tables import VERSION
from forebay.receive.sqlite_schema import open_database
from forebay.receive.tables import SYSTEM_TABLES, table_name
from forebay.signing import sign, sign_apart, verify
from forebay.spool.store import Answers
from forebay.stages import Commit
from forebay.wire import messages as m
from forebay.wire.checkpoint import DOMAIN, Statement


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def center(tmp_path, clock):
    made = Center(tmp_path, clock)
    yield made
    made.sink.close()


@pytest.fixture
def gateway(tmp_path, clock):
    made = Gateway(tmp_path, clock, window=1000, checkpoint_s=60)
    yield made
    made.close()


def messages(gateway, count) -> list[list[bytes]]:
    """Return bodies and `count` batches as messages, without sending them."""
    gateway.store(*[[n] for n in range(count)])
    rows = list(gateway.door.reader.all_batches())
    bodies = gateway.door.reader.bodies([rows[0].schema_id, rows[0].context_id])
    out = [[m.encode(m.Bodies(list(bodies.values())))]]
    return out + [[m.encode(m.Batch(r.lane, r.epoch, r.seq, r.tag)), r.data] for r in rows]


def replies(center, frames) -> list[m.Message]:
    return [reply for _, reply in center.handle([(b"p", f) for f in frames])]


# -- numbers -----------------------------------------------------------------------------------------------


def test_beyond_256_ranges_above_a_hole_the_desk_asks_to_retry_later(center, gateway):
    bodies, *batches = messages(gateway, 620)
    lone = batches[2::2]  # 3, 5, 7, ...: each is a range of its own
    told = replies(center, [bodies, *lone])
    assert [len(t.numbers) for t in told if isinstance(t, m.Ack)] == [256]
    later = [t for t in told if isinstance(t, m.RetryLater)]
    assert [len(t.numbers) for t in later] == [len(lone) - 256]
    assert center.rows("SELECT count(*) FROM batches") == [(256,)]
    replies(center, batches[:600])
    told = replies(center, batches)
    assert sum(len(t.numbers) for t in told if isinstance(t, m.Ack)) == 620
    assert center.rows("SELECT count(*), max(mark), max(above) FROM batches, marks") == [(620, 620, "")]


def test_a_number_that_is_taken_by_other_data_is_a_conflict_and_never_acknowledged(center, gateway):
    bodies, first, second = messages(gateway, 2)
    replies(center, [bodies, first])
    head = m.decode(second[0])
    forged = [m.encode(m.Batch(head.lane, head.epoch, 1, head.tag)), second[1]]
    assert replies(center, [forged]) == [m.Conflict([(head.epoch, 1)])]
    assert center.rows("SELECT id FROM pump") == [(0,)]


def test_a_damaged_batch_is_asked_for_again(center, gateway):
    bodies, batch = messages(gateway, 1)
    damaged = [batch[0], batch[1][:-1] + bytes([batch[1][-1] ^ 1])]
    (told,) = replies(center, [bodies, damaged])
    assert isinstance(told, m.RetryLater)
    (told,) = replies(center, [batch])
    assert isinstance(told, m.Ack)


def test_a_welcome_tells_marks_and_what_is_above(center, gateway):
    bodies, *batches = messages(gateway, 9)
    replies(center, [bodies, *batches[:3], batches[5], batches[6], batches[8]])
    epoch = m.decode(batches[0][0]).epoch
    (told,) = replies(center, [[m.encode(m.Hello(1, "gw-1", "b", "0", {epoch: ("normal", 10)}, ""))]])
    assert m.decode(m.encode(told)) == told
    assert (told.marks, told.above) == ({epoch: 3}, {epoch: [(6, 7), (9, 9)]})


# -- limits ------------------------------------------------------------------------------------------------


def test_an_epoch_gate_lets_a_days_number_through_and_refills(clock):
    gate = EpochGate(Limits(epochs_per_day=10))
    gate.learn("gw", [1, 2])
    assert all(gate.admits("gw", epoch, 0) for epoch in [1, 2, *range(10, 20), 1, 15])
    assert not gate.admits("gw", 20, 0)
    assert gate.admits("other", 20, 0)
    assert gate.admits("gw", 20, DAY_NS // 10)
    assert not gate.admits("gw", 21, DAY_NS // 10)
    assert gate.admits("gw", 2, DAY_NS // 10)


def test_batches_of_too_many_new_epochs_wait_and_known_epochs_go_on(tmp_path, clock, gateway):
    center = Center(tmp_path, clock, Limits(epochs_per_day=3))
    try:
        bodies, batch, last = messages(gateway, 2)
        head = m.decode(batch[0])
        many = [[m.encode(m.Batch("normal", e, 1, head.tag)), batch[1]] for e in range(5)]
        told = replies(center, [bodies, *many])
        assert [t.numbers for t in told if isinstance(t, m.Ack)] == [[(0, 1), (1, 1), (2, 1)]]
        assert [(t.numbers, t.delay_ms) for t in told if isinstance(t, m.RetryLater)] == [
            ([(3, 1), (4, 1)], 60_000)
        ]
        center.restart()
        again = [m.encode(m.Batch("normal", 2, 2, m.decode(last[0]).tag)), last[1]]
        assert replies(center, [again]) == [m.Ack([(2, 2)])]
    finally:
        center.sink.close()


def test_streams_and_columns_beyond_the_limits_are_kept_whole(tmp_path, clock, gateway):
    center = Center(tmp_path, clock, Limits(streams=2, columns=4))
    try:
        for name in ("a", "b", "c"):
            _store_stream(gateway, name, ["x"])
        _store_stream(gateway, "a", ["x", "y", "z"])
        _store_stream(gateway, "b", ["x", "y"])
        gateway.drain(center)
        assert center.rows("SELECT stream, columns FROM gateway_streams ORDER BY 1") == [("a", 3), ("b", 1)]
        assert center.rows("SELECT stream, reason FROM unplaced ORDER BY 1") == [
            ("b", "more than 4 columns of one gateway"),
            ("c", "more than 2 streams of one gateway"),
        ]
        assert center.rows("SELECT count(*) FROM batches") == [(5,)]  # acknowledged: nothing is lost
    finally:
        center.sink.close()


def _store_stream(gateway, stream, fields):
    import numpy as np

    from forebay.blocks import Block, Column, Field, Schema, Type
    from forebay.spool.store import Answers
    from forebay.stages import Commit

    schema = Schema(stream, tuple(Field(name, Type.I64) for name in fields))
    block = Block(schema, np.array([1], dtype=np.int64), tuple(Column.of(Type.I64, [1]) for _ in fields))
    batch = gateway.sealer.seal(block, None)
    gateway.spool.store.apply([Commit("s/p", [batch], dict(gateway.sealer.bodies))], Answers())


# -- times -------------------------------------------------------------------------------------------------


def test_times_are_corrected_in_a_view_once_the_boots_clock_is_synced(center, gateway, clock):
    truth = clock.offset
    clock.offset, clock.quality = -clock.mono + 5 * NS, "unsynced"  # 1970
    gateway.store([1])
    real = clock.mono + truth
    wrong = clock.wall_ns()
    gateway.drain(center)
    query = "SELECT id, time, corrected_time FROM pump_corrected ORDER BY id"
    assert center.rows(query) == [(1, wrong, None)]
    clock.advance(60)
    clock.offset, clock.quality = truth, "synced"
    gateway.store([2])
    now = clock.wall_ns()
    gateway.drain(center)
    assert center.rows(query) == [(1, wrong, real), (2, now, now)]
    assert center.rows("SELECT id, time FROM pump ORDER BY id") == [(1, wrong), (2, now)]
    ((wall, monotonic, state),) = center.rows("SELECT wall_time, monotonic, clock FROM boots")
    assert (wall - monotonic, state) == (truth, "synced")


def test_a_store_of_the_first_version_is_carried_over(tmp_path, clock, gateway):
    center = Center(tmp_path, clock)
    gateway.store([1])
    gateway.drain(center)
    center.sink.close()
    with sqlite3.connect(center.path) as old:
        old.execute("DROP VIEW pump_corrected")
        old.execute("DROP VIEW clock_corrections")
        old.execute("DROP TABLE checkpoints")
        old.execute("DROP TABLE gateway_streams")
        old.execute("DROP TABLE positions")
        old.execute("DROP TABLE models")
        old.execute("ALTER TABLE boots DROP COLUMN met")
        old.execute("PRAGMA user_version=1")
    old.close()
    db = open_database(center.path)
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert db.execute("SELECT id, corrected_time = time FROM pump_corrected").fetchall() == [(1, 1)]
    assert db.execute("SELECT stream FROM gateway_streams").fetchall() == [("pump",)]
    # Batches of it are there, and nobody knows any more how far it was read.
    assert db.execute("SELECT gateway, owner, position FROM positions").fetchall() == [("gw-1", "s/p", None)]
    db.close()


# -- checkpoints -------------------------------------------------------------------------------------------


def checkpoint(gateway, center, clock, ids):
    """Deliver batches and the checkpoint over them."""
    gateway.store(*ids)
    gateway.drain(center)
    clock.advance(61)
    gateway.turn()
    if gateway.notary._open is not None:
        gateway.notary._open.thread.join(20)
    for _ in range(3):
        gateway.turn()
        gateway.apply()


def verdicts(center):
    return center.rows("SELECT number, verdict, batches FROM checkpoints ORDER BY rowid")


def test_checkpoints_cover_every_batch_once_and_are_verified(center, gateway, clock):
    checkpoint(gateway, center, clock, [[1], [2], [3]])
    checkpoint(gateway, center, clock, [[4]])
    gateway.kill()
    checkpoint(gateway, center, clock, [[5], [6]])
    assert verdicts(center) == [(1, "ok", 3), (2, "ok", 1), (3, "ok", 2)]
    assert gateway.door.reader.receipts(10) == []
    body, signature = center.rows("SELECT body, signature FROM checkpoints WHERE number = 2")[0]
    assert verify(KEY.public.signing, DOMAIN + body, signature)
    said = Statement.parse(body)
    assert (said.gateway, said.batches, said.covered[0][1:]) == ("gw-1", 1, (4, 4))
    assert ("pump", "delivered", "", 4) in said.ledger


def test_a_ledger_s_kind_of_a_newer_agent_poisons_neither_batch_nor_checkpoint(center, gateway, clock):
    entry = ("pump", "kept_cold", "why")  # no release knows it
    gateway.spool.store.apply([Commit("pump", [], {}, Counter({entry: 9}))], Answers())
    checkpoint(gateway, center, clock, [[1], [2]])
    assert verdicts(center) == [(1, "ok", 2)]
    assert center.rows("SELECT count(*) FROM pump") == [(2,)]
    ((body,),) = center.rows("SELECT body FROM checkpoints")
    assert (*entry, 9) in Statement.parse(body).ledger, "as it was signed"


def test_receipts_of_a_killed_agent_are_covered_by_the_next_checkpoint(center, gateway, clock):
    gateway.store([1], [2])
    gateway.drain(center)
    gateway.kill()
    gateway.connect(center)
    for _ in range(3):  # at once: an earlier run left them
        gateway.turn()
        if gateway.notary._open is not None:
            gateway.notary._open.thread.join(20)
    assert verdicts(center) == [(1, "ok", 2)]


def test_a_relay_that_acknowledged_what_it_dropped_shows(center, gateway, clock):
    gateway.store([1], [2], [3])
    gateway.drain(center)
    center.sink._db.execute("DELETE FROM batches WHERE seq = 2")
    checkpoint(gateway, center, clock, [[4]])
    assert verdicts(center) == [(1, "mismatch", 4)]
    assert "1 batches" in center.rows("SELECT detail FROM checkpoints")[0][0]


def test_a_relay_that_exchanged_a_batch_shows(center, gateway, clock):
    gateway.store([1], [2], [3])
    gateway.drain(center)
    center.sink._db.execute("UPDATE batches SET tag = zeroblob(16) WHERE seq = 2")
    checkpoint(gateway, center, clock, [[4]])
    assert verdicts(center) == [(1, "mismatch", 4)]


def test_a_checkpoint_that_never_arrived_shows(center, gateway, clock):
    checkpoint(gateway, center, clock, [[1]])
    checkpoint(gateway, center, clock, [[2]])
    center.sink._db.execute("DELETE FROM checkpoints WHERE number = 2")
    checkpoint(gateway, center, clock, [[3]])
    assert verdicts(center) == [(1, "ok", 1), (3, "chain_broken", 1)]


def test_a_new_spool_counts_anew_and_that_is_said(center, gateway, clock):
    checkpoint(gateway, center, clock, [[1]])
    checkpoint(gateway, center, clock, [[2]])
    gateway.memory.number, gateway.memory.digest = 0, b""
    checkpoint(gateway, center, clock, [[3]])
    assert verdicts(center)[-1] == (1, "restarted", 1)


@pytest.mark.parametrize("what", ["body", "signature", "key"])
def test_a_forged_checkpoint_shows_and_its_bytes_are_not_kept(center, gateway, clock, what):
    checkpoint(gateway, center, clock, [[1]])
    body, signature = center.rows("SELECT body, signature FROM checkpoints")[0]
    if what == "body":
        body = body.replace(b"gw-1", b"gw-2")
    elif what == "signature":
        signature = bytes(64)
    else:
        signature = sign(generate("thief"), DOMAIN + body)
    (told,) = replies(center, [[m.encode(m.Checkpoint(body, signature))]])
    assert told.verdict == "forged"
    kept = center.rows("SELECT verdict, number, length(body) FROM checkpoints WHERE verdict <> 'ok'")
    assert kept == [("forged", 0, 0)]


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x81\xa4kind\xaacheckpoint", b"\xdd\xff\xff\xff\xff"])
def test_a_signed_checkpoint_that_is_none_is_unreadable_and_harmless(center, gateway, body):
    (told,) = replies(center, [[m.encode(m.Checkpoint(body, sign(KEY, DOMAIN + body)))]])
    assert told.verdict == "unreadable"


def test_a_child_process_signs_like_this_one(tmp_path, monkeypatch):
    import sys

    from forebay.keys import write_pair

    path, _ = write_pair(KEY, tmp_path)
    with monkeypatch.context() as patch:
        for name in [n for n in sys.modules if n.split(".")[0] == "cryptography"]:
            patch.delitem(sys.modules, name)
        signature = sign_apart(path, b"text")
    assert verify(KEY.public.signing, b"text", signature)
    assert not verify(KEY.public.signing, b"other", signature)


def test_no_stream_gets_a_table_of_the_system(tmp_path):
    """`positions` and `models` were missing: the rows of such a stream could not be stored."""
    db = open_database(tmp_path / "center.db")
    made = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    db.close()
    assert {name for name in made if not name.startswith("sqlite_")} == set(SYSTEM_TABLES)
    assert all(table_name(name) != name for name in made)
