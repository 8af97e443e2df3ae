"""Quality codes: one uint8 per cell, 0 is good, 128 and above mean that the cell is null.

A column keeps its codes in one array or, when every cell is good, in none. Whether a cell is null is a
property of its code, so no second mask can disagree with the first.

Invariants
----------
- 0 is good. 1..63 uncertain, value kept. 64..127 bad, value kept. 128..255 the value is null.
- Codes are on the wire and on disk: a number is never given another meaning.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

NULL_FROM = 128  # codes from here on have no value

GOOD = 0

# uncertain, value kept
UNCERTAIN_DEVICE = 1  # the device itself says uncertain
STUCK = 2  # unchanged for longer than the rule allows
RATE = 3  # changed faster than the rule allows
SPIKE = 4  # an outlier to its neighbours (Hampel)
INTERPOLATED = 5  # made by resampling

# bad, value kept
BAD_DEVICE = 64  # the device itself says bad
RANGE = 65  # outside its declared range

# null
MISSING = 128  # the row has no such field
NULL = 129  # the field is there and null or empty
NAN = 130  # not a number
TYPE = 131  # a value of another type than declared
SIZE = 132  # longer than the limit
GUARDED = 133  # the policy has no rule for it
DETECTOR_FAILED = 134  # what should have looked for personal data did not work
LEAK = 135  # the guard's second line found an identifier
SUPPRESSED = 136  # removed by a masking rule
UNCHANGED = 137  # blanked by deadband: the last value still holds
DEVICE_ERROR = 138  # the device answered with an error
OVERFLOW = 139  # an integer that does not fit
WARMING_UP = 140  # a model that has not yet seen enough to judge
GAP = 141  # no row came when one was due
ABSENT = 142  # the row lacks a field that nobody declared, or its text is empty


class Level(IntEnum):
    """How far a value can be trusted; order matters, a row's quality is its worst level."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


_REASONS = {
    GOOD: "good",
    UNCERTAIN_DEVICE: "device",
    STUCK: "stuck",
    RATE: "rate",
    SPIKE: "spike",
    INTERPOLATED: "interpolated",
    BAD_DEVICE: "device",
    RANGE: "range",
    MISSING: "missing",
    NULL: "null",
    NAN: "nan",
    TYPE: "type",
    SIZE: "size",
    GUARDED: "guarded",
    DETECTOR_FAILED: "detector_failed",
    LEAK: "leak",
    SUPPRESSED: "suppressed",
    UNCHANGED: "unchanged",
    DEVICE_ERROR: "device_error",
    OVERFLOW: "overflow",
    WARMING_UP: "warming_up",
    GAP: "gap",
    ABSENT: "absent",
}

# Nulls that are as they should be: the value holds (deadband), was removed on purpose (policy), is not due, or was
# never promised.
_GOOD_NULLS = frozenset({UNCHANGED, SUPPRESSED, WARMING_UP, ABSENT})


def level(code: int) -> Level:
    """Return the level of a code; a code this version does not know is judged by its range."""
    if code == GOOD or code in _GOOD_NULLS:
        return Level.GOOD
    return Level.UNCERTAIN if code < 64 else Level.BAD


def reason(code: int) -> str:
    """Return the reason's short name, `code-N` for one that this version does not know."""
    return _REASONS.get(code, f"code-{code}")


def describe(code: int) -> str:
    """Return e.g. `good`, `bad(range)`."""
    if code == GOOD:
        return "good"
    return f"{level(code).name.lower()}({reason(code)})"


# level by code as a table, for vectorised use: LEVELS[quality].max(...)
LEVELS: npt.NDArray[np.uint8] = np.array([level(code) for code in range(256)], dtype=np.uint8)

# Codes of cells that say nothing, neither a value nor that there is none: SILENT[quality]
SILENT: npt.NDArray[np.bool_] = np.isin(np.arange(256), (MISSING, UNCHANGED, ABSENT))


def count_values(quality: npt.NDArray[np.uint8] | None, rows: int) -> int:
    """Count the cells that have a value."""
    if quality is None:
        return rows
    return rows - int(np.count_nonzero(quality >= NULL_FROM))


def worst(
    old: npt.NDArray[np.uint8] | None, new: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8] | None:
    """Merge two code arrays cell by cell, keeping the higher code (null over bad over uncertain)."""
    if old is None:
        return new
    return old if new is None else np.maximum(old, new)
