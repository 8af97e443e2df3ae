"""A search of everything that was ever written: raw files, and what is packed in them.

Packed are: zstd frames and gzip members wherever they begin, rows of SQLite files (a long one lies on several pages),
and members of archives (gzip). What a file held before it was overwritten or deleted is in the copies
that `write_shim.c` makes.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import zstandard

_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"
_WORD = 8
_BITS = 22
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MOST = 64 << 20


class Needles:
    """Byte strings to look for, each with what it means; finds all of them in one pass over the data."""

    def __init__(self, meanings: Iterable[tuple[bytes, str]]) -> None:
        self._by_head: dict[int, list[tuple[bytes, str]]] = defaultdict(list)
        self._short: list[tuple[bytes, str]] = []
        self.count = 0
        self._marks = np.zeros(1 << _BITS, dtype=np.bool_)
        for needle, meaning in meanings:
            self.count += 1
            if len(needle) < _WORD:
                self._short.append((needle, meaning))
                continue
            head = np.frombuffer(needle[:_WORD], dtype="<u8")
            self._by_head[int(head[0])].append((needle, meaning))
            self._marks[self._slots(head)] = True

    @staticmethod
    def _slots(words: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return (words * _MIX) >> np.uint64(64 - _BITS)

    def find(self, data: bytes) -> set[str]:
        """Return the meanings of what is in the data."""
        found = {meaning for needle, meaning in self._short if needle in data}
        for shift in range(min(_WORD, max(0, len(data) - _WORD + 1))):
            count = (len(data) - shift) // _WORD
            words = np.frombuffer(data, dtype="<u8", count=count, offset=shift)
            places = np.flatnonzero(self._marks[self._slots(words)])
            for place in places.tolist():
                start = shift + place * _WORD
                for needle, meaning in self._by_head.get(int(words[place]), ()):
                    if meaning not in found and data.startswith(needle, start):
                        found.add(meaning)
        return found


def everything(root: Path, without: Iterable[str] = ()) -> Iterator[tuple[str, bytes]]:
    """Yield place and content of each file under a folder and of all that is packed in it."""
    skipped = set(without)
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if parts[0] in skipped or not path.is_file() or path.is_symlink():
            continue
        try:
            data = path.read_bytes().rstrip(b"\0")  # the ballast is nothing but zeros
        except FileNotFoundError:
            continue
        place = "/".join(parts)
        yield place, data
        yield from unpacked(place, data)
        if data.startswith(b"SQLite format 3\0"):
            yield from rows_in(path, place)


def unpacked(place: str, data: bytes, depth: int = 2) -> Iterator[tuple[str, bytes]]:
    """Yield what is compressed in some bytes, frames within frames too."""
    for magic, decompress in ((_ZSTD, _zstd), (_GZIP, _gzip)):
        at = data.find(magic)
        while at >= 0:
            content = decompress(data[at:])
            if content:
                yield f"{place} (unpacked)", content
                if depth > 1:
                    yield from unpacked(place, content, depth - 1)
            at = data.find(magic, at + 1)


def _zstd(data: bytes) -> bytes:
    with contextlib.suppress(zstandard.ZstdError):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)[:_MOST]
    return b""


def _gzip(data: bytes) -> bytes:
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj(31).decompress(data, _MOST)
    return b""


def rows_in(path: Path, place: str) -> Iterator[tuple[str, bytes]]:
    """Yield the cells of each table of an SQLite file, joined; what cannot be read was searched raw."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(path)) as db:
        tables = [
            row[0].decode() for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            with contextlib.suppress(sqlite3.Error):
                cells = []
                for row in db.execute(f'SELECT * FROM "{table}"'):
                    cells += [c if isinstance(c, bytes) else str(c).encode() for c in row if c is not None]
                yield f"{place}:{table}", b"\n".join(cells)
                for cell in cells:
                    yield from unpacked(f"{place}:{table}", cell)


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    db.text_factory = bytes
    return db
