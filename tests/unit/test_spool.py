"""The spool's parts: store, writer, claims, reader."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from forebay.blocks import Lane
from forebay.errors import SpoolError
from forebay.spool import Claims, Limits, Reader, Spool, Writer, rolling, segment_path
from forebay.spool import writer as writer_module
from forebay.spool.books import empty_entry, equations_hold
from forebay.spool.store import RANK, Answers, Store
from forebay.stages import Commit, Sealed
from forebay.wire.envelope import content_tag

MIB = 1024 * 1024
SCHEMA, CONTEXT = b"schema01", b"context1"


def sealed(number: int, *, size: int = 100, lane: Lane = Lane.NORMAL, stream: str = "pump") -> Sealed:
    data = number.to_bytes(8, "big") + bytes(size)
    return Sealed(stream, lane, data, content_tag(data), 10, 20, number, number + 9, (SCHEMA, CONTEXT))


def commit(*batches: Sealed, position: bytes | None = None, **state: bytes) -> Commit:
    ledger: Counter[tuple[str, str, str]] = Counter()
    for b in batches:
        ledger[b.stream, "read", ""] += b.readings
        ledger[b.stream, "accepted", ""] += b.readings
    bodies = {SCHEMA: b"the schema", CONTEXT: b"the context"} if batches else {}
    return Commit("source/pump", list(batches), bodies, ledger, position, state)


def open_store(folder: Path, claims: Claims | None = None, **options) -> Store:
    settings = {"sync": "full", "max_bytes": 64 * MIB, "on_full": "block"} | options
    return Store(folder / "segment-000001.db", claims=claims or Claims(), **settings)


@pytest.fixture
def store(tmp_path):
    made = open_store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def reader(store):
    made = Reader(store.path)
    yield made
    made.close()


def numbers(reader: Reader) -> list[tuple[str, int]]:
    return [(b.lane, b.seq) for b in reader.all_batches()]


# -- store --------------------------------------------------------------------------------------------------


def test_batches_are_numbered_per_lane_without_a_hole(store, reader):
    store.apply([commit(sealed(1), sealed(2, lane=Lane.URGENT)), commit(sealed(3))], Answers())
    store.apply([commit(sealed(4, lane=Lane.BULK), sealed(5))], Answers())
    assert sorted(numbers(reader)) == [
        ("bulk", 1),
        ("normal", 1),
        ("normal", 2),
        ("normal", 3),
        ("urgent", 1),
    ]
    assert [b.lane for b in reader.all_batches()] == ["urgent", "normal", "normal", "normal", "bulk"]
    assert len({b.epoch for b in reader.all_batches()}) == 3
    assert dict(store.epochs().values()) == {"urgent": 2, "normal": 4, "bulk": 2}


def test_position_and_states_move_with_their_batches(store):
    store.apply([commit(sealed(1), position=b"p1", window=b"w1", other=b"o1")], Answers())
    store.apply([commit(sealed(2), position=b"p2", window=b"w2")], Answers())
    store.apply([commit(sealed(3))], Answers())  # a chunk that does not move the position
    assert store.progress("source/pump") == {"": b"p2", "window": b"w2", "other": b"o1"}
    assert store.progress("another") == {}


def test_a_state_that_did_not_change_is_not_written_again_but_every_change_is(store):
    store.apply([commit(sealed(1), position=b"p1", window=b"w1")], Answers())
    statements: list[str] = []
    store.db.set_trace_callback(statements.append)
    store.apply([commit(sealed(2), position=b"p2", window=b"w1")], Answers())
    store.db.set_trace_callback(None)
    written = [s for s in statements if "progress" in s]
    assert len(written) == 1, "the position alone"
    assert store.progress("source/pump") == {"": b"p2", "window": b"w1"}
    store.apply([commit(window=b"w2"), commit(window=b"w1"), commit(window=b"w3")], Answers())
    assert store.progress("source/pump") == {"": b"p2", "window": b"w3"}
    store.reopen()
    store.apply([commit(window=b"w1")], Answers())
    assert store.progress("source/pump")["window"] == b"w1"


def test_a_state_whose_transaction_failed_is_written_the_next_time(store, monkeypatch):
    store.apply([commit(sealed(1), window=b"w1")], Answers())

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store.audit, "write", fail)
    with pytest.raises(sqlite3.OperationalError):
        store.apply([commit(sealed(2), window=b"w2")], Answers())
    monkeypatch.undo()
    store.apply([commit(sealed(2), window=b"w2")], Answers())
    assert store.progress("source/pump") == {"window": b"w2"}


def test_the_sizes_known_are_those_on_disk(store):
    for n in range(5):
        store.apply([commit(sealed(n, size=10_000))], Answers())
        log = store.path.with_name(store.path.name + "-wal")
        assert store.extent.log_bytes == log.stat().st_size
        assert store.extent.pages == store.db.execute("PRAGMA page_count").fetchone()[0]
    store.apply([], Answers(acked=[(1 << 56) + 2]))
    assert store.extent.free_pages == store.db.execute("PRAGMA freelist_count").fetchone()[0] > 0
    assert store.extent.unfolded_bytes() > 0
    assert store.checkpoint("TRUNCATE")
    assert (store.extent.log_bytes, store.extent.unfolded_bytes()) == (0, 0)


def test_a_failed_transaction_leaves_nothing_behind(store, reader, monkeypatch):
    store.apply([commit(sealed(1), position=b"p1")], Answers())
    before = store.epochs(), store.txn, reader.ledger(), numbers(reader)

    def fail(ledger):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store, "_count", fail)
    with pytest.raises(sqlite3.OperationalError):
        store.apply([commit(sealed(2), position=b"p2")], Answers(acked=[next(reader.all_batches()).id]))
    monkeypatch.undo()
    assert (store.epochs(), store.txn, reader.ledger(), numbers(reader)) == before
    assert store.progress("source/pump") == {"": b"p1"}
    store.apply([commit(sealed(2), position=b"p2")], Answers())
    assert numbers(reader) == [("normal", 1), ("normal", 2)]


def test_reopen_tells_whether_the_last_transaction_took_place(store):
    store.apply([commit(sealed(1))], Answers())
    assert store.reopen() is False
    store.counters["txn"] -= 1
    store.txn -= 1  # as if the answer of the commit had been lost
    assert store.reopen() is True


def test_everything_is_there_after_reopening(tmp_path):
    first = open_store(tmp_path)
    first.apply([commit(sealed(1), sealed(2), position=b"p")], Answers())
    epochs = first.epochs()
    first.close()
    second = open_store(tmp_path)
    second.apply([commit(sealed(3))], Answers())
    reader = Reader(second.path)
    assert numbers(reader) == [("normal", 1), ("normal", 2), ("normal", 3)]
    assert {e: lane for e, (lane, _) in epochs.items()} == {
        e: lane for e, (lane, _) in second.epochs().items()
    }
    assert reader.bodies([SCHEMA, CONTEXT, b"unknown!"]) == {SCHEMA: b"the schema", CONTEXT: b"the context"}
    reader.close()
    second.close()


def test_acknowledged_batches_leave_and_are_counted_once(store, reader):
    store.apply([commit(sealed(1), sealed(2))], Answers())
    first, second = (b.id for b in reader.all_batches())
    store.apply([], Answers(acked=[first, first]))
    store.apply([], Answers(acked=[first, 12345]))
    entry = reader.ledger()["pump"]
    assert (entry["accepted"], entry["delivered"], entry["pending"]) == (40, 20, 20)
    assert equations_hold(entry)
    store.apply([], Answers(acked=[second]))
    assert reader.is_empty()
    assert reader.ledger()["pump"]["delivered"] == 40


def test_a_refused_batch_is_set_aside_with_its_reason_and_leaves_a_gap(store, reader):
    store.apply([commit(sealed(1), sealed(2), sealed(3))], Answers())
    ids = [b.id for b in reader.all_batches()]
    store.apply([], Answers(dead=[(ids[1], "dead_lettered", "no table"), (ids[1], "dead_lettered", "again")]))
    entry = reader.ledger()["pump"]
    assert entry["dead_lettered"] == {"no table": 20}
    assert equations_hold(entry)
    assert reader.dead_letters() == [("pump", "no table", 1, 20)]
    (gap,) = reader.gaps(10)
    assert (gap.seq_from, gap.seq_to, gap.rows, gap.readings, gap.cause) == (2, 2, 10, 20, "no table")
    assert not reader.is_empty(), "the gap must still be told"
    store.apply([], Answers(acked=[ids[0], ids[2]], gaps_confirmed=[gap.id]))
    assert reader.is_empty()


def test_eviction_takes_bulk_before_normal_before_urgent_and_joins_gaps(tmp_path):
    store = open_store(tmp_path, max_bytes=2 * MIB, on_full="evict_lowest_value")
    reader = Reader(store.path)
    lanes = [Lane.URGENT, Lane.NORMAL, Lane.BULK]
    for n in range(90):
        store.apply([commit(sealed(n, size=30_000, lane=lanes[n % 3]))], Answers())
        assert store.room.used_bytes() <= 2 * MIB
    left = Counter(lane for lane, _ in numbers(reader))
    assert left["urgent"] >= left["normal"] >= left["bulk"]
    assert left["urgent"] == 30
    gaps = reader.gaps(100)
    assert gaps
    told = {(g.epoch, n) for g in gaps for n in range(g.seq_from, g.seq_to + 1)}
    kept = {(b.epoch, b.seq) for b in reader.all_batches()}
    assert not told & kept
    assert len(told | kept) == 90
    assert sum(g.readings for g in gaps) + 20 * len(kept) == 90 * 20
    assert equations_hold(reader.ledger()["pump"])
    reader.close()
    store.close()


def test_what_is_on_the_wire_is_not_evicted(tmp_path):
    claims = Claims()
    store = open_store(tmp_path, claims, max_bytes=MIB, on_full="drop_oldest")
    reader = Reader(store.path)
    store.apply([commit(sealed(0, size=30_000))], Answers())
    (sent,) = reader.all_batches()
    assert claims.claim(sent.id, reader.exists)
    for n in range(1, 60):
        store.apply([commit(sealed(n, size=30_000))], Answers())
    assert reader.exists(sent.id)
    assert len(numbers(reader)) < 60
    store.apply([], Answers(acked=[sent.id]))
    assert reader.ledger()["pump"]["delivered"] == 20
    reader.close()
    store.close()


def test_drop_newest_keeps_the_old_and_moves_the_position(tmp_path):
    store = open_store(tmp_path, max_bytes=MIB, on_full="drop_newest")
    reader = Reader(store.path)
    for n in range(60):
        store.apply([commit(sealed(n, size=30_000), position=b"%d" % n)], Answers())
    kept = [seq for _, seq in numbers(reader)]
    assert kept[0] == 1
    assert len(kept) < 60
    assert store.progress("source/pump")[""] == b"59"
    assert reader.ledger()["pump"]["evicted"] == {"drop_newest": 20 * (60 - len(kept))}
    reader.close()
    store.close()


def test_a_commit_larger_than_the_quota_is_counted_not_waited_for(tmp_path):
    store = open_store(tmp_path, max_bytes=MIB)
    assert not store.room.fits_ever(2 * MIB)
    store.apply([commit(sealed(1, size=2 * MIB), position=b"p")], Answers())
    reader = Reader(store.path)
    assert reader.ledger()["pump"]["evicted"] == {"too_large": 20}
    assert store.progress("source/pump")[""] == b"p"
    reader.close()
    store.close()


def test_a_spool_of_a_newer_release_is_refused_untouched(tmp_path):
    store = open_store(tmp_path)
    store.close()
    db = sqlite3.connect(tmp_path / "segment-000001.db")
    db.execute("PRAGMA user_version=999")
    db.close()
    with pytest.raises(SpoolError, match="version"):
        open_store(tmp_path)


def test_a_ledger_s_entry_of_a_newer_kind_is_passed_over_and_the_rest_is_read(store, reader):
    counts = Counter({("pump", "read", ""): 20, ("pump", "accepted", ""): 20, ("pump", "kept_cold", "x"): 7})
    counts["pump", "newest", ""] = 3
    store.apply([replace(commit(sealed(1)), ledger=counts)], Answers())
    entry = reader.ledger()["pump"]
    assert (entry["read"], entry["accepted"], entry["pending"]) == (20, 20, 20)
    assert equations_hold(entry)
    assert set(entry) == set(empty_entry())
    assert ("pump", "kept_cold", "x", 7) in reader.ledger_entries(), "it stays, and goes upstream"


@pytest.mark.parametrize("lane", list(Lane))
def test_pending_reads_one_lane_in_order_from_a_cursor(store, reader, lane):
    for n in range(5):
        store.apply([commit(sealed(n, lane=one)) for one in Lane], Answers())
    first = reader.pending(str(lane), -1, 2)
    rest = reader.pending(str(lane), first[-1].id, 10)
    assert [b.seq for b in first + rest] == [1, 2, 3, 4, 5]
    assert {b.lane for b in first + rest} == {str(lane)}
    assert reader.pending(str(lane), rest[-1].id, 10) == []
    assert RANK[lane] == first[0].id >> 56


def test_a_reader_of_nothing_says_so(tmp_path):
    with pytest.raises(SpoolError, match="no spool here"):
        Reader(tmp_path / "segment-000001.db")


# -- claims -------------------------------------------------------------------------------------------------


def test_a_batch_is_never_claimed_and_doomed():
    claims = Claims()
    assert claims.claim(1, lambda _: True)
    assert not claims.doom(1)
    assert claims.doom(2)
    assert not claims.claim(2, lambda _: True)
    claims.settle_doomed()
    assert not claims.claim(2, lambda _: False), "it is gone"
    claims.release([1, 99])
    assert claims.doom(1)


# -- writer -------------------------------------------------------------------------------------------------


def test_done_is_told_after_the_commit_is_readable(store, reader):
    writer = Writer(store)
    writer.start()
    seen: list[int] = []
    finished = threading.Event()

    def done(durable: bool) -> None:
        assert durable
        seen.append(reader.counts()[0])
        finished.set()

    one = commit(sealed(1))
    one.done.append(done)
    writer.submit(one)
    assert finished.wait(10)
    assert seen == [1]
    assert writer.wait_below("source/pump", 1, 5)
    assert writer.close()


def test_an_io_error_is_retried_until_it_passes_and_nothing_is_doubled(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "RETRY_S", (0.001,))
    store = open_store(tmp_path)
    real, calls = store.write, []

    def flaky(commits, answers):
        calls.append(len(commits))
        if len(calls) < 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(commits, answers)
        if len(calls) == 3:  # committed, but the answer is lost
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store, "write", flaky)
    # `reopen` compares with the number before the transaction: as if the process had not seen the commit
    real_reopen = store.reopen

    def reopen() -> bool:
        store.txn -= len(calls) >= 3
        return real_reopen()

    monkeypatch.setattr(store, "reopen", reopen)
    writer = Writer(store)
    writer.start()
    done = threading.Event()
    one = commit(sealed(1), position=b"p")
    one.done.append(lambda durable: done.set() if durable else None)
    writer.submit(one)
    assert done.wait(10)
    assert writer.condition.state == "ok"
    assert writer.close()
    reader = Reader(store.path)
    assert numbers(reader) == [("normal", 1)]
    assert reader.ledger()["pump"]["accepted"] == 20
    reader.close()


def test_a_failure_while_tidying_does_not_write_a_commit_twice(tmp_path, monkeypatch):
    """A new segment that could not be made was taken for a commit that had failed, and the commit was repeated."""
    store = open_store(tmp_path, limits=Limits(64 * MIB, segment_bytes=10_000))
    failures = []

    def fail(*_: object) -> None:
        failures.append(1)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(rolling, "create", fail)
    writer = Writer(store)
    writer.start()
    for n in range(3):
        writer.submit(commit(sealed(n, size=20_000)))
        assert writer.wait_below("source/pump", 1, 30)
    assert writer.close()
    assert failures
    reader = Reader(store.path)
    assert numbers(reader) == [("normal", 1), ("normal", 2), ("normal", 3)]
    assert reader.ledger()["pump"]["accepted"] == 60
    reader.close()


def test_a_commit_is_told_durable_before_a_new_segment_is_made(tmp_path, monkeypatch):
    store = open_store(tmp_path, limits=Limits(64 * MIB, segment_bytes=10_000))
    told, order = threading.Event(), []
    real = rolling.roll

    def roll(*arguments: Store) -> bool:
        order.append("roll")
        return real(*arguments)

    def done(durable: bool) -> None:
        order.append("told" if durable else "given up")
        told.set()

    monkeypatch.setattr(rolling, "roll", roll)
    writer = Writer(store)
    writer.start()
    one = commit(sealed(1, size=20_000))
    one.done.append(done)
    writer.submit(one)
    assert told.wait(30)
    assert writer.close()
    assert order == ["told", "roll"]


@pytest.mark.parametrize("kind", ["disk I/O error", "database or disk is full"])
def test_answers_outlive_a_failing_disk_receipts_and_thinned_batches_too(tmp_path, monkeypatch, kind):
    """They were dropped when they were put aside, and what was never taken out was waited for without end."""
    monkeypatch.setattr(writer_module, "RETRY_S", (0.001,))
    store = open_store(tmp_path)
    store.apply([commit(*(sealed(n) for n in range(30)))], Answers())
    reader = Reader(store.path)
    batches = reader.pending("normal", -1, 30)
    real, calls = store.apply, []

    def failing(commits, answers):
        calls.append(1)
        if len(calls) == 1:
            error = sqlite3.OperationalError(kind)
            error.sqlite_errorname = "SQLITE_IOERR" if "I/O" in kind else "SQLITE_FULL"
            raise error
        real(commits, answers)

    monkeypatch.setattr(store, "apply", failing)
    writer = Writer(store)
    acked = batches[:20]
    writer.answer(
        acked=[b.id for b in acked],
        receipts=[(b.epoch, b.seq, b.tag) for b in acked],
        thinned=[batches[20].id],
    )
    writer.start()
    writer.submit(commit(sealed(30)))
    assert writer.wait_below("source/pump", 1, 20)
    assert writer.close()
    assert len(reader.receipts(100)) == 20
    assert [b.seq for b in reader.pending("normal", -1, 100)] == list(range(22, 32))
    reader.close()


def test_a_full_spool_holds_commits_until_an_answer_makes_room(tmp_path):
    store = open_store(tmp_path, max_bytes=MIB)
    writer = Writer(store)
    writer.start()
    reader = Reader(store.path)
    for n in range(40):
        writer.submit(commit(sealed(n, size=40_000)))
    assert not writer.wait_below("source/pump", 1, 0.3)
    assert writer.condition.state == "full"
    while not writer.wait_below("source/pump", 1, 0.01):
        writer.answer(acked=[b.id for b in reader.pending("normal", -1, 5)])
    assert writer.condition.state == "ok"
    entry = reader.ledger()["pump"]
    assert entry["accepted"] == 40 * 20
    assert equations_hold(entry)
    reader.close()
    assert writer.close()


def test_commits_that_cannot_be_written_are_given_up_at_close_and_told(tmp_path, monkeypatch):
    store = open_store(tmp_path)

    def fail(commits, answers):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store, "write", fail)
    writer = Writer(store)
    writer.start()
    told: list[bool] = []
    one = commit(sealed(1))
    one.done.append(told.append)
    writer.submit(one)
    assert writer.close(0.05) is False
    assert told == [False]


def test_the_log_is_folded_in_once_for_each_step_that_it_grows(store, monkeypatch):
    monkeypatch.setattr(writer_module, "PASSIVE_WAL_BYTES", 20_000)
    checkpointer = writer_module.Checkpointer(store)
    woken = []
    for n in range(12):
        store.apply([commit(sealed(n, size=3_000))], Answers())
        checkpointer.look()
        if checkpointer._wake.is_set():
            woken.append(store.extent.log_bytes)
            checkpointer._wake.clear()
    assert 2 <= len(woken) < 12
    assert all(b - a > 20_000 for a, b in itertools.pairwise(woken))
    store.checkpoint("TRUNCATE")
    for n, size in ((98, 100), (99, 30_000)):
        store.apply([commit(sealed(n, size=size))], Answers())
        checkpointer.look()
    assert checkpointer._wake.is_set(), "a log that began anew counts from its beginning"


# -- spool --------------------------------------------------------------------------------------------------


def open_spool(folder: Path) -> Spool:
    return Spool.open(folder, sync="full", max_bytes=64 * MIB, on_full="block", on_stored=lambda: None)


def test_a_second_agent_is_kept_out_until_the_first_has_gone(tmp_path):
    first = open_spool(tmp_path / "spool")
    first.writer.start()
    with pytest.raises(SpoolError, match="another agent"):
        open_spool(tmp_path / "spool")
    assert first.close()
    second = open_spool(tmp_path / "spool")
    second.writer.start()
    assert second.close()


@pytest.mark.parametrize(
    "content", [b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 4096, b"\0" * 8192]
)
def test_a_damaged_segment_is_kept_and_a_fresh_one_accepts_under_new_epochs(tmp_path, content):
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "segment-000007.db").write_bytes(content)
    spool = open_spool(folder)
    assert segment_path(folder).name == "segment-000008.db"
    assert all(epoch >> 32 >= 8 for epoch in spool.store.epochs())
    spool.writer.start()
    assert spool.close()
    kept = [p for name in ("damaged", "lost") for p in folder.glob(f"{name}-000007.db")]
    assert [p.read_bytes() for p in kept] == [content]


def test_a_spool_that_was_opened_but_never_started_is_closed(tmp_path):
    spool = open_spool(tmp_path / "spool")
    assert spool.close()
    open_spool(tmp_path / "spool").close()


def test_the_folder_of_a_spool_is_private(tmp_path):
    spool = open_spool(tmp_path / "spool")
    spool.writer.start()
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert spool.close()
