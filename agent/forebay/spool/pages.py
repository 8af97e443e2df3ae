"""Rows straight from the pages of an SQLite file, without SQLite: for files that SQLite refuses, hangs on or misreads.

Every step is checked and bounded; whatever is broken is skipped and counted. A walk visits each page of a tree once and
reads each page of an overflow chain a few times at most, and only pages that are there count: its work is linear in
the size of the file and its log, whatever numbers stand in them. Only rowid and WITHOUT ROWID tables with
UTF-8 text and no reserved bytes are read, which is what a segment is (https://sqlite.org/fileformat2.html).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

from forebay.spool.schema import KNOWN_PAGE_BYTES, PAGE_BYTES, ROOTS
from forebay.spool.wal import Wal

_LEAF_TABLE, _INNER_TABLE, _LEAF_INDEX, _INNER_INDEX = 13, 5, 10, 2
_MOST_HEADER = 200  # of a record, in bytes: a table of a segment has 17 columns at most
_MOST_READS = 4  # of a page by chains: it is of one, but a damaged cell that claims it must not take it away
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


class Broken(Exception):
    """A page or record that is not what it should be."""


def _page_bytes(data: Any, wal: Wal) -> int:
    """Return the size of a file's pages: what its log or header says, else where the root of the first table is."""
    said = wal.page_bytes or int.from_bytes(data[16:18], "big")
    if said in KNOWN_PAGE_BYTES:
        return said
    roots = (size for size in KNOWN_PAGE_BYTES if data[size : size + 1] in (b"\x05", b"\x0d"))
    return next(roots, PAGE_BYTES)


class Pages:
    """The pages of a file as of its last commit, the log laid over it.

    Attributes
    ----------
    broken : pages and cells so far that were skipped, or whose frame in the log is broken; of the latter rows are read
        all the same, each has a mark of its own
    lost : those that were skipped
    """

    def __init__(self, data: Any, wal: Wal | None = None) -> None:
        self._data, self._wal = data, wal or Wal()
        self.size = _page_bytes(data, self._wal)
        # Those that are there: a page number in a log says nothing of how many there are, it may be damaged.
        self.numbers = {*range(1, len(data) // self.size + 1), *self._wal.pages, *self._wal.stale} - {0}
        self.broken = self.lost = 0
        self._seen: set[int] = set()
        self._reads: Counter[int] = Counter()  # of pages of overflow chains
        self._roots = ROOTS | self._named_roots()
        self.broken = self.lost = 0

    def page(self, number: int) -> bytes:
        """Return a page. Raises Broken."""
        if number not in self.numbers:
            raise Broken
        at = self._wal.stale.get(number)
        if at is not None:
            self.broken += 1
            return self._wal.at(at)
        page = self._wal.page(number)
        if page is None:
            page = bytes(self._data[(number - 1) * self.size : number * self.size])
        if len(page) != self.size:
            raise Broken
        return page

    def rows(self, table: str, *, rowid: bool = False) -> Iterator[list[Any]]:
        """Yield the rows of a table; `rowid`: its first column is the rowid. Broken ones are counted."""
        self._seen, self._reads = set(), Counter()
        for values in self._walk(self._roots[table]):
            yield [values[0], *values[2:]] if rowid else values[1:]

    def _named_roots(self) -> dict[str, int]:
        """Return what the schema table says; a migrated file has its tables elsewhere than a new one."""
        return {
            row[2]: row[4]
            for row in self._walk(1)
            if len(row) == 6 and row[1] == "table" and row[4] in self.numbers and row[4] > 1
        }

    def orphans(self) -> Iterator[list[Any]]:
        """Yield rows of leaf pages that the walk before did not reach and that are not free."""
        free = self._free_pages()
        if free is None:
            return
        self._reads = Counter()
        for number in sorted(self.numbers - self._seen - free - {1}):
            try:
                page = self.page(number)
            except Broken:
                continue
            if page[0] == _LEAF_TABLE:
                yield from ([v[0], *v[2:]] for v in self._cells(page))

    def ending(self, *, rowid: bool = True) -> Iterator[list[Any]]:
        """Yield rows of the log's last transaction if that is damaged, whatever table they are of."""
        self._reads = Counter()
        for at in self._wal.ending:
            page = self._wal.at(at)
            if page[0] == _LEAF_TABLE and rowid:
                yield from ([v[0], *v[2:]] for v in self._cells(page))
            elif page[0] in (_LEAF_INDEX, _INNER_INDEX) and not rowid:
                yield from (v[1:] for v in self._cells(page))

    def before(self) -> Pages | None:
        """Return the pages as they were before the log's last transaction, if that is damaged."""
        return None if self._wal.before is None else Pages(self._data, self._wal.before)

    @property
    def in_order(self) -> bool:
        """Whether the numbers of the pages of a damaged last transaction are to be believed."""
        return self._wal.in_order

    def _free_pages(self) -> set[int] | None:
        try:
            (trunk,) = struct.unpack(">I", self.page(1)[32:36])
            free: set[int] = set()
            if 1 in self._wal.stale:
                return None
            while trunk:
                if trunk in free or trunk in self._wal.stale:
                    return None
                page = self.page(trunk)
                following, count = struct.unpack(">2I", page[:8])
                if count > self.size // 4 - 2:
                    return None
                free |= {trunk, *struct.unpack(f">{count}I", page[8 : 8 + 4 * count])}
                trunk = following
        except Broken:
            return None
        return free

    def _walk(self, root: int) -> Iterator[list[Any]]:
        stack = [root]
        while stack:
            number = stack.pop()
            if number in self._seen:
                self._skip()
                continue
            self._seen.add(number)
            try:
                page = self.page(number)
                start = 100 if number == 1 else 0
                kind = page[start]
                if kind not in (_LEAF_TABLE, _INNER_TABLE, _LEAF_INDEX, _INNER_INDEX):
                    raise Broken
            except Broken:
                self._skip()
                continue
            if kind in (_INNER_TABLE, _INNER_INDEX):
                cells = self._cell_offsets(page, start, 12)
                children = [struct.unpack(">I", page[c : c + 4])[0] for c in cells if c + 4 <= self.size]
                stack += [struct.unpack(">I", page[start + 8 : start + 12])[0], *reversed(children)]
            if kind != _INNER_TABLE:
                yield from self._cells(page, start)

    def _skip(self) -> None:
        self.broken += 1
        self.lost += 1

    def _cell_offsets(self, page: bytes, start: int, header: int) -> list[int]:
        (count,) = struct.unpack(">H", page[start + 3 : start + 5])
        first = start + header
        if first + 2 * count > self.size:
            self._skip()
            count = (self.size - first) // 2
        return list(struct.unpack(f">{count}H", page[first : first + 2 * count]))

    def _cells(self, page: bytes, start: int = 0) -> Iterator[list[Any]]:
        kind = page[start]
        for at in self._cell_offsets(page, start, 12 if kind == _INNER_INDEX else 8):
            try:
                yield self._cell(page, at + (4 if kind == _INNER_INDEX else 0), kind == _LEAF_TABLE)
            except (Broken, IndexError, struct.error, UnicodeDecodeError):
                self._skip()

    def _cell(self, page: bytes, at: int, is_table: bool) -> list[Any]:
        size, at = _varint(page, at)
        rowid = 0
        if is_table:
            rowid, at = _varint(page, at)
        usable = self.size
        most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        if size <= most:
            local, overflow = size, 0
        else:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (usable - 4)
            local = least if local > most else local
            (overflow,) = struct.unpack(">I", page[at + local : at + local + 4])
        record = page[at : at + local]
        if len(record) != local:
            raise Broken
        kinds, start = _kinds(record, size)
        return _decode(rowid, kinds, record[start:] + self._overflow(overflow, size - local))

    def _overflow(self, number: int, left: int) -> bytes:
        parts = []
        while left > 0:
            self._reads[number] += 1
            if self._reads[number] > _MOST_READS:
                raise Broken
            page = self.page(number)
            parts.append(page[4 : 4 + left])
            left -= self.size - 4
            (number,) = struct.unpack(">I", page[:4])
        return b"".join(parts)


def _kinds(record: bytes, size: int) -> tuple[list[int], int]:
    """Return what the header of a record says of its columns, and where that ends. Raises Broken.

    A header that does not make the record as long as its cell says is found out here, before a chain is followed.
    """
    end, at = _varint(record, 0)
    if not at <= end <= min(_MOST_HEADER, len(record)):
        raise Broken
    kinds = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    if at != end or end + sum(map(_value_bytes, kinds)) != size:
        raise Broken
    return kinds, end


def _value_bytes(kind: int) -> int:
    if kind < 0 or kind in (7, 10, 11):
        raise Broken  # no floats in a segment
    return (kind - 12) // 2 if kind >= 12 else 0 if kind >= 8 else _INTEGER_BYTES[kind]


def _decode(rowid: int, kinds: list[int], body: bytes) -> list[Any]:
    values: list[Any] = [rowid]
    at = 0
    for kind in kinds:
        size = _value_bytes(kind)
        raw = body[at : at + size]
        if len(raw) != size:
            raise Broken
        at += size
        if kind in (0, 8, 9):
            values.append(None if kind == 0 else kind - 8)
        elif kind < 7:
            values.append(int.from_bytes(raw, "big", signed=True))
        else:
            values.append(raw if kind % 2 == 0 else raw.decode())
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(9):
        byte = data[at + place]
        if place == 8:
            value = (value << 8) | byte
            return (value - (1 << 64) if value >> 63 else value), at + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, at + place + 1
    raise Broken
