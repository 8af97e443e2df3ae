"""Numbers that the `rows` kernel, its twin and its callers share.

The compiled kernel repeats them as C constants (`_columns.pxd`); tests/core holds both equal.
"""

from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]
TakenColumn: TypeAlias = tuple[bytes, bytes | None, bytes | None]  # values, offsets, quality


class ColumnType(IntEnum):
    """What a column's slots hold. ANY only notes the kinds that it sees."""

    ANY = 0
    F64 = 1
    I64 = 2
    BOOL = 3
    STR = 4


class Kind(IntEnum):
    """What one cell of the input is, before it is known where it goes."""

    BOOL = 0
    INT = 1  # |value| <= 2^53: exact as f64
    LONG = 2  # an int64 beyond 2^53
    HUGE = 3  # an integer that int64 cannot hold
    FLOAT = 4
    PADDED = 5  # CSV: an integer whose text says more than its value (007, +8613800138000)
    TEXT = 6
    JSON = 7  # an array, or an object nested too deep, as its text
    NULL = 8  # only in a stop: null came before the field has a column


KINDS = 8  # kinds that have a destination


class Dest(IntEnum):
    """Where a cell goes when it does not go to a column (columns are 0 and up)."""

    STOP = -1  # ask the caller
    TYPE = -2  # null, bad(type)
    OVERFLOW = -3  # null, bad(overflow)
    IGNORE = -4  # not taken, counted in `ignored`


class Status(IntEnum):
    """Why `parse_json` and `parse_csv` returned."""

    DONE = 0  # no record is left
    FULL = 1  # as many rows as a block may have
    STOPPED = 2  # a cell has no destination: see stop_node, stop_kind
    RESPLIT = 3  # a CSV record over several lines is broken: one of its lines is, split again after it


class Reason(IntEnum):
    """Why a record could not become a row."""

    LINE = 1  # not a JSON object; a quote that is out of place
    UTF8 = 2
    SIZE = 3  # longer than max_record
    CELLS = 4  # CSV: another number of cells than the header has
    TIME = 5  # not a time
    TIME_NAIVE = 6  # a time without zone, and no zone configured
    TIME_NUMBER = 7  # a number, and no unit configured
    TIME_MISSING = 8


class Role(IntEnum):
    """What a node's values are used for."""

    FIELD = 0
    TIME = 1


MISSING = 128  # quality codes that the kernel writes; forebay.quality is their home
NULL = 129
NAN = 130
TYPE = 131
SIZE = 132
OVERFLOW = 139

ROOT = -1  # parent of the top-level keys
MAX_DEPTH = 16  # objects nested deeper are kept as text
MAX_NESTING = 64  # anything nested deeper is a broken line
MAX_KEY_BYTES = 512  # a longer key is not taken
ISO = -1  # time_power of ISO 8601 text
