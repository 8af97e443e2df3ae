"""Numbers of the columnar payload that its encoder and its decoder share. They never change meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import I64Array, Type, U8Array

VERSION = 1

# quality of a section
ALL_GOOD, CODES, SAME_CODES = 0, 1, 2
# encodings of a section's values
INTS, DICTIONARY, DECIMAL, ORDERED, CELLS = 0, 1, 2, 3, 4
# encodings of cells and of their bytes
LENGTHS, NUMBERED = 0, 1
RAW, ZSTD = 0, 1

MAX_DIGITS = 18  # of a numbered cell: fits int64

TYPE_ENCODINGS = {
    Type.F64: (DECIMAL, ORDERED),
    Type.I64: (INTS, DICTIONARY),
    Type.BOOL: (INTS,),
    Type.STR: (CELLS, DICTIONARY),
    Type.BYTES: (CELLS, DICTIONARY),
}

I32Array = npt.NDArray[np.int32]


@dataclass(slots=True)
class Groups:
    """Group of each row: rows of one device."""

    codes: I32Array
    count: int

    def take(self, rows: npt.NDArray[Any] | None) -> Groups:
        """Return the groups of `rows` (indices or mask), of all where None."""
        return self if rows is None else Groups(self.codes[rows], self.count)


def kept_rows(codes: U8Array | None) -> I64Array | None:
    """Return the rows that have a value, None where all have."""
    if codes is None or not len(codes) or codes.max() < q.NULL_FROM:
        return None
    return np.flatnonzero(codes < q.NULL_FROM)


def row_groups(codes: I32Array, count: int, quality: U8Array | None) -> Groups:
    """Return a group for every row from those of the cells; rows whose cell is null are one group more."""
    rows = kept_rows(quality)
    if rows is None:
        return Groups(codes, count)
    assert quality is not None
    groups = np.full(len(quality), count, dtype=np.int32)
    groups[rows] = codes
    return Groups(groups, count + 1)
