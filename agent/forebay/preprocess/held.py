"""Rows that wait, of all keys in one place: what overlapping windows, windows of rows and percentiles need.

A block's keys are taken out, joined with their new rows and put back by a handful of array operations, however
many keys there are; keys that are silent cost nothing.

Invariants
----------
- Slot s holds the rows `start[s]` to `start[s] + count[s]` of the arena; up to `start[s] + room[s]` is its own.
- What stands elsewhere is never read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forebay import quality as q
from forebay.preprocess.arrays import I64
from forebay.preprocess.pending import Rows, empty_rows
from forebay.preprocess.state import pack_array, unpack_array

_LEAST = 1_024  # rows of the arena


def ranges(starts: I64, counts: I64) -> I64:
    """Return start, start + 1, ... for each start, as many as its count says, one after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()), dtype=np.int64)


class HeldRows:
    """The rows of each slot, in order of arrival."""

    def __init__(self) -> None:
        self._rows = empty_rows(0, 0)
        self._start, self._count, self._room = (np.zeros(1, dtype=np.int64) for _ in range(3))
        self._top = 0  # no slot has room behind it

    def fit(self, slots: int, fields: int) -> None:
        """Make room for so many slots and fields. A field that is new was missing before."""
        if slots > len(self._count):
            more = np.zeros(max(slots, 2 * len(self._count)) - len(self._count), dtype=np.int64)
            self._start, self._count, self._room = (
                np.concatenate([part, more]) for part in (self._start, self._count, self._room)
            )
        lacking = fields - len(self._rows.values)
        if lacking > 0:
            self._rows = _resized(self._rows, fields, len(self._rows))

    def count(self, slots: I64) -> I64:
        """Return how many rows each slot holds."""
        return self._count[slots]

    def slots(self) -> I64:
        """Return the slots that hold rows, ascending."""
        return np.flatnonzero(self._count)

    def take(self, slots: I64) -> Rows:
        """Return the rows of slots, one slot's after the other's."""
        at = ranges(self._start[slots], self._count[slots])
        return Rows(self._rows.time[at], self._rows.values[:, at], self._rows.codes[:, at])

    def put(self, slots: I64, rows: Rows, starts: I64, counts: I64) -> None:
        """Let each slot hold its `counts` rows from `starts` on instead of what it held."""
        grown = counts > self._room[slots]
        if grown.any():
            room = _room_for(counts[grown])
            top = self._top + int(room.sum())
            if top > len(self._rows):
                self._rebuild(slots, counts)
            else:
                self._start[slots[grown]] = self._top + np.cumsum(room) - room
                self._room[slots[grown]] = room
                self._top = top
        self._count[slots] = counts
        to, at = ranges(self._start[slots], counts), ranges(starts, counts)
        self._rows.time[to] = rows.time[at]
        self._rows.values[:, to] = rows.values[:, at]
        self._rows.codes[:, to] = rows.codes[:, at]

    def _rebuild(self, slots: I64, counts: I64) -> None:
        """Move into an arena of the size that is needed now; what `slots` hold is about to be replaced."""
        self._count[slots] = 0
        others = self.slots()
        old = self.take(others)
        wanted = self._count.copy()
        wanted[slots] = counts
        self._room = np.where(wanted > 0, _room_for(wanted), 0)
        self._start = np.cumsum(self._room) - self._room
        self._top = int(self._room.sum())
        self._rows = empty_rows(len(old.values), self._top + self._top // 4 + _LEAST)
        to = ranges(self._start[others], self._count[others])
        self._rows.time[to], self._rows.values[:, to], self._rows.codes[:, to] = (
            old.time, old.values, old.codes,
        )  # fmt: skip

    def clear(self) -> None:
        """Let go of all rows."""
        fields = len(self._rows.values)
        slots = len(self._count)
        self.__init__()  # type: ignore[misc]
        self.fit(slots, fields)

    def dump(self) -> list[Any]:
        """Return what `load` takes."""
        slots = self.slots()
        rows = self.take(slots)
        return [pack_array(part) for part in (slots, self._count[slots], rows.time, rows.values, rows.codes)]

    def load(self, saved: list[Any], slots: int, fields: int) -> None:
        """Take over saved rows of so many slots and fields at most. Raises ValueError."""
        which, counts, time, values, codes = map(unpack_array, saved)
        fitting = (
            which.dtype == counts.dtype == time.dtype == np.int64
            and values.dtype == np.float64
            and codes.dtype == np.uint8
            and which.shape == counts.shape == (len(which),)
            and values.shape == codes.shape == (len(values), len(time))
            and len(values) <= fields
        )
        if not fitting or (which[1:] <= which[:-1]).any() or ((which < 0) | (which >= slots)).any():
            raise ValueError("held rows do not fit")
        if (counts < 1).any() or (counts > len(time)).any() or int(counts.sum()) != len(time):
            raise ValueError("held rows do not fit")
        self.fit(slots, fields)
        rows = _resized(Rows(time, values, codes), fields, len(time))
        self.put(which, rows, np.cumsum(counts) - counts, counts)


def _room_for(counts: I64) -> I64:
    return counts + counts // 2 + 8


def _resized(rows: Rows, fields: int, length: int) -> Rows:
    """Return the rows in arrays of so many fields and rows; cells that were not there are missing."""
    out = empty_rows(fields, length)
    had = min(length, len(rows))
    out.time[:had] = rows.time[:had]
    out.values[: len(rows.values), :had] = rows.values[:, :had]
    out.codes[: len(rows.codes), :had] = rows.codes[:, :had]
    out.values[len(rows.values) :] = 0.0
    out.codes[len(rows.codes) :] = q.MISSING
    return out
