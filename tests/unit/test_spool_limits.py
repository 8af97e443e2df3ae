"""Quotas, what goes when they are reached, and migrations."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from forebay.blocks import Lane
from forebay.errors import SpoolError
from forebay.spool import Limits, Reader, Spool, StreamLimits, rolling, schema, segment_path
from forebay.spool import room as room_module
from forebay.spool import writer as writer_module
from forebay.spool.claims import Claims
from forebay.spool.disk import Disk
from forebay.spool.reader import equations_hold
from forebay.spool.store import Answers, Store

sys.path.insert(0, str(Path(__file__).parent))
from test_spool import CONTEXT, SCHEMA, commit, numbers, sealed

MIB = 1024 * 1024
HOUR = 3_600_000_000_000


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def open_store(folder: Path, clock: Clock | None = None, **limits) -> tuple[Store, Reader]:
    settings = {"max_bytes": 64 * MIB} | limits
    path = segment_path(folder)
    made = Store(
        path, sync="normal", claims=Claims(), limits=Limits(**settings), monotonic_ns=clock or Clock()
    )
    return made, Reader(path, current=lambda: made.path)


def close(*parts) -> None:
    for part in parts:
        part.close()


def test_segments_roll_by_size_and_go_when_all_is_delivered(tmp_path):
    store, reader = open_store(tmp_path, segment_bytes=100_000)
    for n in range(40):
        store.apply([commit(sealed(n, size=10_000), position=b"%d" % n)], Answers())
    assert len(store.segments) >= 3
    assert numbers(reader) == [("normal", n + 1) for n in range(40)]
    assert reader.bodies([SCHEMA, CONTEXT]) == {SCHEMA: b"the schema", CONTEXT: b"the context"}
    store.apply([], Answers(acked=[b.id for b in reader.all_batches()]))
    assert reader.is_empty()
    assert [p.name for p in tmp_path.glob("segment-*.db")] == [store.path.name]
    assert reader.ledger()["pump"]["delivered"] == 800
    assert store.progress("source/pump")[""] == b"39"
    close(reader, store)


def test_age_counts_uptime_over_restarts_not_the_time_switched_off(tmp_path):
    clock = Clock()
    store, reader = open_store(tmp_path, clock, max_age_ns=10 * HOUR)
    store.apply([commit(sealed(1))], Answers())
    clock.now = 6 * HOUR
    store.apply([commit(sealed(2))], Answers())
    close(reader, store)
    clock.now = 1000 * HOUR  # another boot, whose clock says something else
    store, reader = open_store(tmp_path, clock, max_age_ns=10 * HOUR)
    store.room.enforce()
    assert len(numbers(reader)) == 2
    clock.now += 5 * HOUR
    store.room.enforce()
    assert numbers(reader) == [("normal", 2)]
    assert reader.ledger()["pump"]["evicted"] == {"expired": 20}
    close(reader, store)


@pytest.mark.parametrize(
    ("quota", "kept"), [({"max_bytes": 50_000, "max_batches": 8}, 8), ({"max_bytes": 30_000}, 7)]
)
def test_a_stream_is_cut_to_its_own_quota_and_others_are_not(tmp_path, quota, kept):
    store, reader = open_store(tmp_path, streams={"pump": StreamLimits(**quota)})
    for n in range(20):
        store.apply([commit(sealed(n, size=4_000), sealed(n + 100, size=4_000, stream="valve"))], Answers())
    store.room.enforce()
    ledger = reader.ledger()
    assert ledger["pump"]["pending"] == kept * 20
    assert ledger["pump"]["evicted"] == {"stream_quota": (20 - kept) * 20}
    assert ledger["valve"]["pending"] == 20 * 20
    assert [b.stream for b in reader.all_batches()][:12].count("pump") == 0, "the oldest went"
    close(reader, store)


def test_a_stream_has_an_age_of_its_own(tmp_path):
    clock = Clock()
    store, reader = open_store(tmp_path, clock, streams={"pump": StreamLimits(max_age_ns=HOUR)})
    for hours in (0, 2):
        clock.now = hours * HOUR
        store.apply([commit(sealed(hours), sealed(hours + 100, stream="valve"))], Answers())
    store.room.enforce()
    ledger = reader.ledger()
    assert ledger["pump"]["evicted"] == {"expired": 20}
    assert (ledger["pump"]["pending"], ledger["valve"]["pending"]) == (20, 40)
    close(reader, store)


def test_a_count_for_the_whole_holds(tmp_path):
    store, reader = open_store(tmp_path, max_batches=5)
    for n in range(9):
        store.apply([commit(sealed(n, lane=Lane.BULK if n % 2 else Lane.URGENT))], Answers())
    store.room.enforce()
    assert [lane for lane, _ in numbers(reader)] == ["urgent"] * 5
    close(reader, store)


def test_thin_keeps_every_nth_before_it_deletes(tmp_path):
    store, reader = open_store(tmp_path, max_bytes=2 * MIB, on_full="thin", thin_keep=4)
    for n in range(70):
        store.apply([commit(sealed(n, size=30_000))], Answers())
    left = [seq for _, seq in numbers(reader)]
    oldest = [seq for seq in left if seq < min(set(range(1, 71)) - set(left), default=0) + 30]
    assert oldest[:4] == [4, 8, 12, 16]
    assert left[-5:] == [66, 67, 68, 69, 70]
    assert set(reader.ledger()["pump"]["evicted"]) == {"thin"}
    close(reader, store)


def test_thin_keeps_of_each_stream_where_they_take_turns(tmp_path):
    store, reader = open_store(tmp_path, max_bytes=2 * MIB, on_full="thin", thin_keep=4)
    streams = ("pump", "valve", "door", "motor")
    for n in range(80):
        store.apply([commit(sealed(n, size=30_000, stream=streams[n % 4]))], Answers())
    ledger = reader.ledger()
    assert all(0 < ledger[name]["pending"] < 20 * 20 for name in streams)
    gone = [sum(ledger[name]["evicted"].values()) for name in streams]
    assert max(gone) - min(gone) <= 20, "one batch: none pays for the others"
    close(reader, store)


def test_a_reserved_share_is_left_to_its_lane(tmp_path):
    left = {}
    for reserve in ({}, {"bulk": 0.4}):
        folder = tmp_path / str(len(reserve))
        folder.mkdir()
        store, reader = open_store(folder, max_bytes=2 * MIB, on_full="evict_lowest_value", reserve=reserve)
        for n in range(100):
            store.apply(
                [commit(sealed(n, size=30_000, lane=Lane.BULK if n < 30 else Lane.NORMAL))], Answers()
            )
        left[len(reserve)] = [lane for lane, _ in numbers(reader)].count("bulk")
        close(reader, store)
    assert left[0] == 0
    assert left[1] * 30_000 >= 0.35 * 2 * MIB


@pytest.mark.parametrize("policy", ["evict_lowest_value", "drop_oldest", "drop_newest", "thin"])
def test_the_quota_holds_to_the_byte_through_a_long_outage(tmp_path, policy):
    limits = {"max_bytes": 8 * MIB, "on_full": policy}
    store, reader = open_store(tmp_path, **limits)
    lanes = [Lane.NORMAL, Lane.NORMAL, Lane.BULK, Lane.URGENT]
    for n in range(600):
        store.apply([commit(sealed(n, size=30_000, lane=lanes[n % 4]))], Answers())
        assert sum(p.stat().st_size for p in tmp_path.iterdir() if not p.name.endswith("-shm")) <= 8 * MIB
    entry = reader.ledger()["pump"]
    assert equations_hold(entry)
    assert entry["pending"] == sum(reader.recount().values()) >= 100 * 20, "the quota is used"
    close(reader, store)


def test_dead_letters_have_a_quota_of_their_own_and_stay_counted(tmp_path):
    store, reader = open_store(tmp_path, dead_letter_bytes=50_000)
    for n in range(10):
        store.apply([commit(sealed(n, size=10_000))], Answers())
    store.apply([], Answers(dead=[(b.id, "dead_lettered", "no table") for b in reader.all_batches()]))
    assert reader.dead_letters() == [("pump", "no table", 4, 80)]
    assert reader.ledger()["pump"]["dead_lettered"] == {"no table": 200}
    rolling.roll(store)
    assert reader.dead_letters() == [("pump", "no table", 4, 80)]
    close(reader, store)


def test_the_watchdog_stops_and_resumes_and_the_ballast_comes_and_goes(tmp_path):
    free = [100 * MIB]
    limits = Limits(MIB, stop_free=10 * MIB, resume_free=20 * MIB, ballast_bytes=MIB)
    disk = Disk(tmp_path, limits, free=lambda _: free[0])
    assert disk.look() is False
    assert (tmp_path / "ballast").stat().st_size == MIB
    told = []
    for now in (9, 15, 19, 20, 15):
        free[0] = now * MIB
        told.append(disk.look())
    assert told == [True, True, True, False, False]
    disk.fill()
    assert not (tmp_path / "ballast").exists()
    assert disk.look() is True, "15 MiB are not 20"
    free[0] = 30 * MIB
    assert disk.look() is False
    assert (tmp_path / "ballast").exists()


VERSION_1 = """
CREATE TABLE batch (id INTEGER PRIMARY KEY, lane TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    stream TEXT NOT NULL, rows INTEGER NOT NULL, readings INTEGER NOT NULL, first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL, schema_id BLOB NOT NULL, context_id BLOB NOT NULL, tag BLOB NOT NULL,
    data BLOB NOT NULL);
CREATE TABLE body (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE progress (owner TEXT NOT NULL, step TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (owner, step));
CREATE TABLE ledger (stream TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL, readings INTEGER NOT NULL,
    PRIMARY KEY (stream, kind, reason)) WITHOUT ROWID;
CREATE TABLE gap (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seq_from INTEGER NOT NULL, seq_to INTEGER NOT NULL,
    stream TEXT NOT NULL, rows INTEGER NOT NULL, readings INTEGER NOT NULL, first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL, cause TEXT NOT NULL);
CREATE TABLE dead_letter (id INTEGER PRIMARY KEY, lane TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    stream TEXT NOT NULL, rows INTEGER NOT NULL, readings INTEGER NOT NULL, first_time INTEGER NOT NULL,
    last_time INTEGER NOT NULL, schema_id BLOB NOT NULL, context_id BLOB NOT NULL, tag BLOB NOT NULL,
    data BLOB NOT NULL, reason TEXT NOT NULL);
PRAGMA user_version=1;
"""


def make_version_1(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.executescript(VERSION_1)
    rank = 1 << 56
    for n in range(1, 31):
        b = sealed(n, size=2_000)
        row = (rank + n, "normal", 77, n, "pump", 10, 20, n, n + 9, SCHEMA, CONTEXT, b.tag, b.data)
        if n == 1:
            db.execute(f"INSERT INTO dead_letter VALUES ({'?,' * 13}?)", (*row, "old"))
        else:
            db.execute(f"INSERT INTO batch VALUES ({'?,' * 12}?)", row)
    db.executemany("INSERT INTO body VALUES (?, ?)", [(SCHEMA, b"the schema"), (CONTEXT, b"the context")])
    counters = {"txn": 9, "running": 30, "normal.epoch": 77, "normal.next": 31}
    counters |= {"urgent.epoch": 5, "urgent.next": 1, "bulk.epoch": 6, "bulk.next": 1}
    db.executemany("INSERT INTO counter VALUES (?, ?)", counters.items())
    db.execute("INSERT INTO progress VALUES ('source/pump', '', x'3330')")
    ledger = [("read", "", 600), ("accepted", "", 600), ("dead_lettered", "old", 20)]
    db.executemany("INSERT INTO ledger VALUES ('pump', ?, ?, ?)", ledger)
    db.execute("INSERT INTO gap VALUES (3, 77, 1, 1, 'pump', 10, 20, 1, 10, 'old')")
    db.commit()
    db.close()


def test_a_spool_of_version_1_keeps_every_waiting_batch(tmp_path):
    make_version_1(tmp_path / "segment-000001.db")
    spool = Spool.open(tmp_path, sync="full", max_bytes=64 * MIB, on_stored=lambda: None)
    reader = spool.reader()
    assert [(b.epoch, b.seq, b.data) for b in reader.all_batches()] == [
        (77, n, sealed(n, size=2_000).data) for n in range(2, 31)
    ]
    assert equations_hold(reader.ledger()["pump"])
    assert reader.ledger()["pump"]["pending"] == 580
    assert reader.dead_letters() == [("pump", "old", 1, 20)]
    assert [g.seq_from for g in reader.gaps(9)] == [1]
    assert spool.store.progress("source/pump")[""] == b"30"
    spool.store.apply([commit(sealed(31))], Answers())
    assert numbers(reader)[-1] == ("normal", 31)
    assert not reader.damaged()
    reader.close()
    spool.close()


def test_a_migration_that_was_cut_off_begins_again(tmp_path, monkeypatch):
    from forebay.spool import migrate

    make_version_1(tmp_path / "segment-000001.db")
    real = migrate.mark
    calls = []

    def stop(table, values):
        calls.append(table)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return real(table, values)

    monkeypatch.setattr(migrate, "mark", stop)
    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path)
    monkeypatch.undo()
    store, reader = open_store(tmp_path)
    assert len(numbers(reader)) == 29
    close(reader, store)


def test_a_newer_spool_is_refused_with_a_word_and_left_alone(tmp_path):
    store, reader = open_store(tmp_path)
    close(reader, store)
    db = sqlite3.connect(tmp_path / "segment-000001.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    before = (tmp_path / "segment-000001.db").read_bytes()
    with pytest.raises(SpoolError, match="version 2 or older, found 99"):
        Spool.open(tmp_path, sync="full", max_bytes=64 * MIB, on_stored=lambda: None)
    assert (tmp_path / "segment-000001.db").read_bytes() == before


@pytest.mark.parametrize("page_bytes", [2048, 4096])
@pytest.mark.parametrize("size", [1_000, 1_900, 5_000])
def test_the_quota_holds_for_batches_that_fill_their_pages_badly(tmp_path, monkeypatch, page_bytes, size):
    monkeypatch.setattr(schema, "PAGE_BYTES", page_bytes)
    store, reader = open_store(tmp_path, max_bytes=4 * MIB, on_full="drop_oldest")
    assert store.extent.page_bytes == page_bytes
    count = 600_000 // size
    for n in range(12):
        store.apply([commit(*(sealed(n * count + i, size=size) for i in range(count)))], Answers())
        assert sum(p.stat().st_size for p in tmp_path.iterdir() if not p.name.endswith("-shm")) <= 4 * MIB
    assert equations_hold(reader.ledger()["pump"])
    close(reader, store)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_segment_of_an_earlier_release_with_larger_pages_is_used_and_salvaged(tmp_path, monkeypatch, lost):
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "PAGE_BYTES", 4096)
        store, reader = open_store(tmp_path)
        store.apply([commit(sealed(1, size=3_000), sealed(2, size=9_000), position=b"p")], Answers())
        close(reader, store)
    path = tmp_path / "segment-000001.db"
    data = bytearray(path.read_bytes())
    assert data[16:18] == (4096).to_bytes(2, "big")
    data[: lost * 50] = bytes(lost * 50)  # nothing, the start of the header, all of it
    path.write_bytes(data)
    spool = Spool.open(tmp_path, sync="full", max_bytes=64 * MIB, on_stored=lambda: None)
    while spool.recovery.poll(spool.store):
        time.sleep(0.02)
    spool.store.apply([commit(sealed(3))], Answers())
    rolling.roll(spool.store)
    spool.store.apply([commit(sealed(4))], Answers())
    assert spool.store.extent.page_bytes == 2048
    reader = spool.reader()
    assert sorted(b.data for b in reader.all_batches()) == [
        sealed(n, size=size).data for n, size in ((1, 3_000), (2, 9_000), (3, 100), (4, 100))
    ]
    assert spool.store.progress("source/pump")[""] == b"p"
    reader.close()
    assert spool.close()


@pytest.mark.parametrize("on_full", ["block", "drop_oldest"])
def test_a_disk_that_cannot_be_asked_for_its_room_does_not_end_the_writer(tmp_path, monkeypatch, on_full):
    asked = []

    def away(folder: Path) -> int:
        asked.append(folder)
        if len(asked) < 6:
            raise OSError(errno.EIO, "Input/output error")
        return 1 << 40

    monkeypatch.setattr(writer_module, "RETRY_S", (0.01,))
    spool = Spool.open(tmp_path, sync="normal", limits=Limits(64 * MIB, on_full), on_stored=lambda: None)
    monkeypatch.setattr(room_module, "free_bytes", away)
    spool.writer.start()
    for n in range(6):
        spool.writer.submit(commit(sealed(n)))
        assert spool.writer.wait_below("source/pump", 1, 60), spool.writer.condition
    assert len(asked) >= 6
    assert spool.close()


def test_nothing_is_accepted_into_files_that_were_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "RETRY_S", (0.01,))
    told: list[bool] = []
    folder = tmp_path / "spool"
    spool = Spool.open(folder, sync="normal", limits=Limits(64 * MIB), on_stored=lambda: None)
    spool.writer.start()
    shutil.rmtree(folder)
    last = commit(sealed(1))
    last.done.append(told.append)
    spool.writer.submit(last)
    deadline = time.monotonic() + 60
    while spool.writer.condition.state != "failing":
        assert time.monotonic() < deadline, spool.writer.condition
        time.sleep(0.01)
    assert not spool.close(0.1)
    assert told == [False]


# -- when it is full ---------------------------------------------------------------------------------------


def test_the_rate_is_of_now_whatever_lanes_and_segments_what_waits_is_in(tmp_path):
    clock = Clock()
    store, reader = open_store(tmp_path, clock, segment_bytes=MIB)
    for second in range(1000):
        clock.now = second * 1_000_000_000
        alarms = [sealed(second, lane=Lane.URGENT)] if second % 100 == 0 else []
        store.apply([commit(sealed(second, size=4_000), *alarms)], Answers())
    assert len(store.segments) > 1
    held = sum(len(b.data) for b in reader.all_batches() if b.lane == "normal")
    assert reader.rate() == pytest.approx(held / 1000, rel=0.05)
    clock.now += 1_000_000_000_000  # the source has been silent since: it fills more slowly, if at all
    assert reader.rate(store.uptime_ns()) == pytest.approx(held / 1000 * 199 / 1199, rel=0.05)
    close(reader, store)


def test_the_rate_of_one_batch_is_none_yet(tmp_path):
    store, reader = open_store(tmp_path)
    assert reader.rate() == 0
    store.apply([commit(sealed(1))], Answers())
    assert reader.rate() == 0
    close(reader, store)
