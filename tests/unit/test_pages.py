"""Pages read without SQLite: whatever points to whatever, the work is linear in the pages that are there."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

import pytest

from forebay.spool import schema
from forebay.spool.pages import Pages
from forebay.spool.salvage import open_pages
from forebay.spool.schema import PAGE_BYTES, ROOTS
from forebay.spool.wal import Wal

BATCH = ROOTS["batch"]
MOST_READS = 10  # of a page on average: by its tree, as an orphan, and a few times by chains
LEAST = (PAGE_BYTES - 12) * 32 // 255 - 23  # of a record that goes on in a chain, in its cell


class Counted(Pages):
    """Pages that count how often one is read; more than their number allows is an error at once, not minutes later."""

    reads = 0

    def page(self, number: int) -> bytes:
        self.reads += 1
        assert self.reads <= MOST_READS * len(self.numbers), "the work is not linear"
        return super().page(number)


def varint(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))


def cell(rowid: int, blob_bytes: int, overflow: int) -> bytes:
    """Return a cell of a table whose only column is a blob that goes on in a chain, its header as it should be."""
    kind = varint(12 + 2 * blob_bytes)
    header = bytes([1 + len(kind)]) + kind
    size = len(header) + blob_bytes
    local = LEAST + (size - LEAST) % (PAGE_BYTES - 4)
    local = LEAST if local > PAGE_BYTES - 35 else local
    return varint(size) + varint(rowid) + header.ljust(local, b"x") + struct.pack(">I", overflow)


def leaf(one: bytes, pointers: int) -> bytes:
    """Return a leaf page whose pointers all lead to one cell."""
    at = PAGE_BYTES - len(one)
    head = struct.pack(">BHHHB", 13, 0, pointers, at, 0) + struct.pack(">H", at) * pointers
    assert len(head) <= at
    return head.ljust(at, b"\0") + one


def inner(children: list[int]) -> bytes:
    cells = b"".join(struct.pack(">I", child) + b"\1" for child in children[:-1])
    at = PAGE_BYTES - len(cells)
    places = [at + 5 * n for n in range(len(children) - 1)]
    head = struct.pack(">BHHHBI", 5, 0, len(places), at, 0, children[-1])
    return (head + struct.pack(f">{len(places)}H", *places)).ljust(at, b"\0") + cells


def empty() -> list[bytes]:
    """Return the pages of a file that has the first page and the roots, of which nothing is in order."""
    return [bytes(PAGE_BYTES) for _ in range(max(ROOTS.values()))]


def test_a_tree_that_leads_back_into_itself_is_walked_once():
    file = empty()
    file[BATCH - 1] = inner([BATCH, BATCH + 1, BATCH] * 60)
    file[BATCH] = inner([BATCH, BATCH + 1, BATCH + 2] * 60)
    file[BATCH + 1] = leaf(b"\5\1\2\x12abc", 1)
    pages = Counted(b"".join(file))
    assert list(pages.rows("batch")) == [[b"abc"]]
    assert pages.lost


def test_chains_that_bite_their_tails_are_followed_a_few_times_only():
    """Each of hundreds of cells claims the whole file, by a ring of few pages."""
    file = empty()
    count = 400
    ring = [struct.pack(">I", len(file) + (n + 1) % 3 + 1).ljust(PAGE_BYTES, b"r") for n in range(3)]
    first = len(file) + 1
    file += ring
    claimed = LEAST + (count - 50) * (PAGE_BYTES - 4) - 4  # so that hardly anything is in the cell itself
    leaves = [leaf(cell(n, claimed, first), 400) for n in range(count)]
    start = len(file) + 1
    file += leaves
    file[BATCH - 1] = inner([*range(start, start + 250)])
    pages = Counted(b"".join(file))
    assert not list(pages.rows("batch", rowid=True))
    assert not list(pages.orphans())
    assert pages.lost


def test_a_cell_that_claims_the_chain_of_another_does_not_take_it_away():
    """The first that comes is the damaged one: the second is still read."""
    file = empty()
    blob = PAGE_BYTES + 500
    file.append(b"\0\0\0\0".ljust(PAGE_BYTES, b"x"))
    file[BATCH - 1] = inner([BATCH + 1, BATCH + 2])
    file[BATCH], file[BATCH + 1] = (leaf(cell(n, blob, len(file)), 1) for n in (1, 2))
    assert list(Counted(b"".join(file)).rows("batch")) == [[b"x" * blob]] * 2


def test_a_record_whose_header_does_not_make_its_length_is_broken_before_its_chain_is_read():
    file = empty()
    wrong = bytearray(cell(1, 40 * PAGE_BYTES, 3))
    wrong[5] ^= 1  # in the length of the blob
    file[BATCH - 1] = leaf(bytes(wrong), 1)
    pages = Counted(b"".join(file))
    before = pages.reads
    assert not list(pages.rows("batch"))
    assert pages.reads == before + 1


@pytest.mark.parametrize("number", [503_316_488, 2**32 - 1])
def test_the_number_of_a_page_in_a_log_says_nothing_of_how_many_there_are(number):
    frame = leaf(b"\5\1\2\x12abc", 1)
    wal = Wal(bytearray(frame), PAGE_BYTES, 1, pages={number: 0}, db_pages=number)
    pages = Counted(b"".join(empty()), wal)
    assert not list(pages.rows("batch"))
    assert list(pages.orphans()) == [[1]]


def test_every_row_of_a_segment_is_read_as_sqlite_reads_it(tmp_path: Path):
    """Of all sizes, so that the length of a record is checked at each kind of cell there is."""
    path = tmp_path / "segment-000001.db"
    db = schema.connect(path, wal=False)
    schema.create_tables(db)
    for n in range(150):
        db.execute("INSERT INTO body VALUES (?, ?)", (n.to_bytes(8, "big"), bytes([n]) * (n * n)))
        db.execute(
            "INSERT INTO dead_letter VALUES (?, 'l', ?, 0, 's', 1, ?, ?, 4, 'a', 'b', 'c', 5, 6, 'm', ?, 'r')",
            (n, n << n % 40, -n, 255**n % 2**62, bytes([n]) * (n * 100)),
        )
    db.close()
    pages = open_pages(path)
    read = sqlite3.connect(path)
    bodies = read.execute("SELECT * FROM body ORDER BY id")
    assert sorted(pages.rows("body")) == [list(row) for row in bodies]
    rows = read.execute("SELECT * FROM dead_letter ORDER BY id")
    assert list(pages.rows("dead_letter", rowid=True)) == [list(row) for row in rows]
    assert not pages.broken
    read.close()
