"""A process that runs out of descriptors for a while: what it cannot open now is not damaged, and not empty."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from forebay.errors import SpoolError
from forebay.spool import Limits, Spool, recovery, rolling, schema
from forebay.spool import writer as writer_module
from forebay.spool.reader import equations_hold
from forebay.spool.store import Answers

sys.path.insert(0, str(Path(__file__).parent))
from test_spool import commit, numbers, sealed

MIB = 1024 * 1024
LIMITS = Limits(64 * MIB, segment_bytes=100_000)
WAIT_S = 60.0


def opened(folder: Path) -> Spool:
    return Spool.open(folder, sync="normal", limits=LIMITS, on_stored=lambda: None)


def fill(spool: Spool, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        spool.store.apply([commit(sealed(n, size=10_000), position=b"%d" % n)], Answers())


def no_descriptors(*_arguments, **_options):
    raise OSError(errno.EMFILE, "Too many open files")


def wait_for(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_all_waits(folder: Path, count: int) -> None:
    """Open the spool again, as after a crash, and see that each batch waits under its number."""
    spool = opened(folder)
    spool.writer.start()
    try:
        wait_for(lambda: all(state == "sealed" for _, _, state in spool.store.segments.values()))
        reader = spool.reader()
        assert numbers(reader) == [("normal", n + 1) for n in range(count)]
        assert len({b.epoch for b in reader.all_batches()}) == 1
        assert spool.store.progress("source/pump")[""] == b"%d" % (count - 1)
        assert all(equations_hold(entry) for entry in reader.ledger().values())
        assert not reader.gaps(10)
        reader.close()
    finally:
        spool.close()


def test_an_older_segment_that_cannot_be_opened_now_is_not_damaged(tmp_path, monkeypatch):
    spool = opened(tmp_path)
    fill(spool, 25)
    assert len(spool.store.segments) >= 2
    reported: list[int] = []
    spool.writer.suspect = reported.append  # type: ignore[method-assign]
    reader = spool.reader()
    reader.counts()  # the newest is open
    real = sqlite3.connect
    with monkeypatch.context() as patch:  # what SQLite says without a descriptor, of a file that is not there
        patch.setattr(
            sqlite3, "connect", lambda *_, **options: real(f"file:{tmp_path}/none?mode=ro", **options)
        )
        with pytest.raises(SpoolError, match="CANTOPEN"):
            reader.pending("normal", -1, 10)
    assert reported == []
    assert numbers(reader) == [("normal", n + 1) for n in range(25)]
    reader.close()
    spool.close()
    check_all_waits(tmp_path, 25)


@pytest.mark.parametrize("fails", ["open", "fsync"])
def test_a_new_segment_whose_name_cannot_be_made_durable_is_not_left_behind(tmp_path, monkeypatch, fails):
    spool = opened(tmp_path)
    fill(spool, 5)
    with monkeypatch.context() as patch:
        if fails == "open":
            patch.setattr(schema, "opened_folder", no_descriptors)
        else:
            patch.setattr(rolling.os, "fsync", no_descriptors)
        with pytest.raises(OSError, match="Too many"):
            rolling.roll(spool.store)
    assert [p.name for p in tmp_path.glob("segment-*.db")] == ["segment-000001.db"]
    fill(spool, 3, first=5)  # what the segment that was left behind would know nothing of
    os.close(spool.lock)  # killed
    check_all_waits(tmp_path, 8)


def test_setting_a_segment_aside_that_fails_halfway_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "RETRY_S", (0.01,))
    monkeypatch.setattr(writer_module, "LOOK_S", 0.01)
    spool = opened(tmp_path)
    fill(spool, 5)
    calls: list[Path] = []

    def create(path: Path, *arguments, **options) -> None:
        calls.append(path)
        if len(calls) < 3:
            no_descriptors()
        rolling.create(path, *arguments, **options)

    monkeypatch.setattr(recovery, "create", create)
    spool.writer.start()
    spool.writer.suspect(1)  # somebody took the newest for damaged
    wait_for(lambda: len(calls) >= 2)
    spool.writer.submit(commit(sealed(5, size=10_000), position=b"5"))
    assert spool.writer.wait_below("source/pump", 1, WAIT_S), spool.writer.condition
    wait_for(lambda: all(state == "sealed" for _, _, state in spool.store.segments.values()))
    assert spool.close()
    check_all_waits(tmp_path, 6)


def test_the_books_of_a_segment_that_cannot_be_read_now_are_not_lost(tmp_path, monkeypatch):
    spool = opened(tmp_path)
    fill(spool, 5)
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "open_pages", no_descriptors)
        with pytest.raises(OSError, match="Too many"):
            spool.recovery.replace(spool.store, "somebody took it for damaged")
    assert spool.recovery.is_half_done(spool.store)
    os.close(spool.lock)  # killed
    check_all_waits(tmp_path, 5)
