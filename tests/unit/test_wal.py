"""A write-ahead log that is examined before SQLite opens it: what it says after one bit of it has flipped."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from forebay.spool.wal import FRAME_HEADER_BYTES, HEADER_BYTES, examine

PAGE = 4096
STEP = FRAME_HEADER_BYTES + PAGE


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the log of a killed writer: several transactions, the last of many frames."""
    db = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA wal_autocheckpoint=0")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)")
    rng = random.Random(1)
    for count in (1, 3, 8):
        db.execute("BEGIN")
        db.executemany("INSERT INTO t (data) VALUES (?)", [(rng.randbytes(3000),) for _ in range(count)])
        db.execute("COMMIT")
        shutil.copy(tmp_path / "live.db-shm", tmp_path / f"index-{count}")
    shutil.copy(tmp_path / "live.db-wal", tmp_path / "log")
    db.close()
    return tmp_path / "log"


def pages(path: Path) -> dict[int, bytes]:
    wal = examine(path)
    return {number: wal.page(number) for number in wal.pages}


def commits(raw: bytes) -> list[int]:
    """Return the offsets of frames that end a transaction."""
    starts = range(HEADER_BYTES, len(raw) - STEP + 1, STEP)
    return [at for at in starts if raw[at + 4 : at + 8] != bytes(4)]


def flip(path: Path, at: int, bit: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)


def test_an_intact_log_is_not_damaged(log):
    wal = examine(log)
    assert not wal.is_damaged
    assert len(wal.pages) >= 8


@pytest.mark.parametrize("bit", range(0, 32, 3))
def test_a_bit_flipped_in_the_last_transaction_is_told_as_damage_and_mostly_mended(log, bit):
    """SQLite would drop the transaction without a word; a torn write it was not, for all else of it is there."""
    rng, raw, whole = random.Random(bit), log.read_bytes(), pages(log)
    last = commits(raw)[-2] + STEP
    mended = 0
    for _ in range(20):
        frame = rng.randrange(last, len(raw), STEP)
        flip(log, frame + FRAME_HEADER_BYTES + rng.randrange(0, PAGE - 4, 4) + bit // 8, bit % 8)
        wal = examine(log)
        assert wal.is_damaged
        found = pages(log)
        assert found.items() <= whole.items()  # what is lost is lost, and nothing is made up
        assert len(found) >= len(whole) - 1
        mended += found == whole
        log.write_bytes(raw)
    assert mended == 20 or bit >= 23


@pytest.mark.parametrize(
    "part", ["page number", "commit size", "salt", "checksum", "first word", "last word"]
)
@pytest.mark.parametrize("frame", ["first of the last", "last"])
def test_each_part_of_a_frame_is_mended(log, part, frame):
    raw, whole = log.read_bytes(), pages(log)
    at = commits(raw)[-2] + STEP if frame == "first of the last" else commits(raw)[-1]
    places = {
        "page number": 0,
        "commit size": 4,
        "salt": 9,
        "checksum": 21,
        "first word": 24,
        "last word": STEP - 4,
    }
    flip(log, at + places[part], 1)
    assert examine(log).is_damaged
    if (part, frame) == ("last word", "last"):
        # Nothing follows that would tell it from a flip in the checksum: the page is kept as it is, and the marks of
        # its rows tell.
        assert pages(log).keys() == whole.keys()
    else:
        assert pages(log) == whole


def test_a_write_torn_in_the_last_transaction_is_taken_as_never_finished(log):
    raw = log.read_bytes()
    last = commits(raw)[-2] + STEP
    rng = random.Random(3)
    for _ in range(30):
        torn = bytearray(raw)
        for at in range(last, len(raw), 512):  # sectors that did not make it hold what was there before
            if rng.random() < 0.5:
                torn[at : at + 512] = bytes(len(torn[at : at + 512]))
        if bytes(torn) == raw:
            continue
        log.write_bytes(torn)
        wal = examine(log)
        assert not wal.is_damaged
        log.write_bytes(raw[:last])
        before = pages(log)
        log.write_bytes(torn)
        assert pages(log) == before


def test_two_words_broken_before_the_last_transaction_are_damage(log):
    raw = log.read_bytes()
    at = commits(raw)[1]
    flip(log, at + 1_000, 0)
    flip(log, at + 2_000, 0)
    assert examine(log).is_damaged


def test_two_equal_flips_are_not_mended_into_a_third_damage(log):
    """The checksums of both together are those of one larger error in the word between them."""
    raw = log.read_bytes()
    first = commits(raw)[-2] + STEP
    log.write_bytes(raw[:first])
    before = pages(log)
    for distance in range(16, 3_000, 248):
        log.write_bytes(raw)
        flip(log, first + 1_000, 0)
        flip(log, first + 1_000 + distance, 0)
        assert pages(log) == before  # taken as SQLite takes it


# -- with the index that a killed process leaves beside it ----------------------------------------------------


def leave_index(log: Path, of: int) -> Path:
    """Put the index beside the log as it was after the transaction of so many rows."""
    return Path(shutil.copy(log.with_name(f"index-{of}"), log.with_name("log-shm")))


def break_last(log: Path, rng: random.Random) -> None:
    """Break bytes of the last transaction, more of them than can be mended."""
    raw = bytearray(log.read_bytes())
    last = commits(raw)[-2] + STEP
    for _ in range(rng.randrange(4, 200)):
        raw[rng.randrange(last, len(raw))] ^= rng.randrange(1, 256)
    log.write_bytes(raw)


def test_the_index_says_that_a_broken_last_transaction_was_finished(log):
    raw, whole = log.read_bytes(), pages(log)
    index = leave_index(log, 8)
    assert not examine(log).is_damaged
    for seed in range(20):
        log.write_bytes(raw)
        break_last(log, random.Random(seed))
        assert examine(log).is_damaged
        assert pages(log).items() <= whole.items()
        index.rename(log.with_name("aside"))
        wal = examine(log)
        assert wal.ends_torn
        assert not wal.is_damaged, "without the index it is a torn write"
        log.with_name("aside").rename(index)


def test_a_transaction_that_the_index_does_not_count_yet_is_torn(log):
    leave_index(log, 3)
    break_last(log, random.Random(1))
    wal = examine(log)
    assert wal.ends_torn
    assert not wal.is_damaged


@pytest.mark.parametrize("at", [16, 33, 45, 16 + 48])
def test_an_index_that_is_damaged_itself_says_nothing(log, at):
    index = leave_index(log, 8)
    flip(index, at, 2)
    break_last(log, random.Random(2))
    assert not examine(log).is_damaged


def test_an_index_of_another_log_says_nothing(log):
    index = leave_index(log, 8)
    other = sqlite3.connect(log.with_name("other.db"), isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.executescript("CREATE TABLE t (id); INSERT INTO t VALUES (1)")
    shutil.copy(log.with_name("other.db-shm"), index)
    other.close()
    break_last(log, random.Random(3))
    assert not examine(log).is_damaged


def test_a_log_that_is_shorter_than_its_index_says_has_a_torn_end(log):
    leave_index(log, 8)
    raw = log.read_bytes()
    log.write_bytes(raw[: commits(raw)[-2] + 3 * STEP])
    wal = examine(log)
    assert wal.ends_torn
    assert not wal.is_damaged


def test_a_broken_checksum_is_not_mended_into_the_number_of_the_next_page(log):
    """Where a frame is broken in many places, its first checksum among them, the next frame's sums are off by the same
    as if its page number were wrong in a byte."""
    raw, whole = log.read_bytes(), pages(log)
    index = leave_index(log, 8)
    first = commits(raw)[-2] + STEP
    for bit in range(32):
        log.write_bytes(raw)
        flip(log, first + 16 + bit // 8, bit % 8)
        for place in (100, 900, 2_000, 3_000):
            flip(log, first + FRAME_HEADER_BYTES + place, 3)
        wal = examine(log)
        assert wal.is_damaged
        assert {*wal.pages, *wal.stale} == whole.keys()
        assert pages(log).items() <= whole.items()
        assert len(wal.stale) <= 2
    index.unlink()
