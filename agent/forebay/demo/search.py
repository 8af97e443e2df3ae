"""Search of bytes for thousands of originals at once.

A filter over all offsets (the first two bytes, then the first six as one number) leaves few places, at which
the originals are compared in full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

_HEAD = 6  # bytes of an original that the filter looks at: the shortest is a name of two characters
_CHUNK = 1 << 22


class Originals:
    """What must not be found.

    Parameters
    ----------
    originals : each of at least six bytes. Raises ValueError for a shorter one.
    """

    def __init__(self, originals: Iterable[bytes]) -> None:
        self._by_head: defaultdict[int, list[bytes]] = defaultdict(list)
        for original in dict.fromkeys(originals):
            if len(original) < _HEAD:
                raise ValueError(f"expected originals of {_HEAD} bytes or more, found {len(original)}")
            self._by_head[int.from_bytes(original[:_HEAD], "little")].append(original)
        self._heads = np.array(sorted(self._by_head), dtype=np.uint64)
        self._starts = np.zeros(65_536, dtype=np.bool_)
        self._starts[(self._heads & np.uint64(0xFFFF)).astype(np.int64)] = True
        self._longest = max((len(o) for many in self._by_head.values() for o in many), default=_HEAD)

    def __len__(self) -> int:
        return sum(len(many) for many in self._by_head.values())

    def find(self, data: bytes) -> set[bytes]:
        """Return the originals that occur in `data`."""
        found: set[bytes] = set()
        if not len(self._heads):
            return found
        for start in range(0, len(data), _CHUNK):
            part = data[start : start + _CHUNK + self._longest]
            for at in self._candidates(part).tolist():
                head = int.from_bytes(part[at : at + _HEAD], "little")
                found.update(o for o in self._by_head.get(head, ()) if part.startswith(o, at))
        return found

    def _candidates(self, part: bytes) -> npt.NDArray[np.int64]:
        raw = np.frombuffer(part + bytes(8), dtype=np.uint8)
        pairs = raw[:-7].astype(np.uint16) | (raw[1:-6].astype(np.uint16) << 8)
        places = np.flatnonzero(self._starts[pairs]).astype(np.int64)
        heads = np.zeros(len(places), dtype=np.uint64)
        for byte in range(_HEAD):
            heads |= raw[places + byte].astype(np.uint64) << np.uint64(8 * byte)
        nearest = np.minimum(np.searchsorted(self._heads, heads), len(self._heads) - 1)
        hits: npt.NDArray[np.int64] = places[self._heads[nearest] == heads]
        return hits

    def find_in(self, paths: Iterable[Path]) -> set[bytes]:
        """Return the originals that occur in files, or in the files of folders."""
        found: set[bytes] = set()
        for path in paths:
            for file in _files(path):
                found |= self.find(file.read_bytes())
        return found


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (p for p in sorted(path.rglob("*")) if p.is_file())
    elif path.is_file():
        yield path


def fragments(picture: bytes, count: int = 8, size: int = 32) -> list[bytes]:
    """Return pieces of an encoded picture's body, spread over it: what a copy of it would hold.

    Several, because a database cuts long values into pages, and a cut may fall into one of them.
    """
    body = len(picture) // 4  # headers and tables are alike in many pictures
    step = (len(picture) - body - size) // count
    return [picture[body + i * step : body + i * step + size] for i in range(count)] if step > 0 else []
