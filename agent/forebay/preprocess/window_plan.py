"""Which windows are complete: planners of row windows and of time windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from forebay.blocks import Block
from forebay.config.preprocess import MAX_WINDOW_ROWS, WindowOptions
from forebay.preprocess.arrays import I64, U8
from forebay.preprocess.held import ranges
from forebay.preprocess.keys import Groups
from forebay.preprocess.state import Table
from forebay_core.windows import panes

# A row so many windows behind the open one is late; further back, the device's clock was set back.
LATE_WINDOWS = 10

_JOINS, _AFRESH, _LATE = 0, 2, 3  # see forebay_core.windows.panes
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Keyed:
    """Rows of several keys, one key's after the other's, those that were held before those of the block.

    Attributes
    ----------
    slots, first, count, held : int64 (g,): of each key its slot, where its rows begin, how many they are, and how
        many of them were held
    time : int64 (n,), of the rows
    index : int64 (n,), number of each row in the block; -1 for those that were held
    """

    slots: I64
    first: I64
    count: I64
    held: I64
    time: I64
    index: I64


@dataclass(frozen=True, slots=True)
class Plan:
    """Windows, as places in the rows of all keys. Arrays are int64 (windows,), but for `needed`.

    `done` is the row of the block that completed a window: windows come out in that order, so that it
    does not matter how the rows were cut into blocks. `needed` has for each key the first of its rows that is
    still needed.
    """

    starts: I64
    ends: I64
    times: I64
    done: I64
    slots: I64
    needed: I64


class Planner(Protocol):
    """Finds the windows that a block completes."""

    def begin(self, block: Block, groups: Groups, slots: int) -> npt.NDArray[np.bool_] | None:
        """Look at a block as a whole; return which rows are used, None for all."""

    def plan(self, rows: Keyed) -> Plan:
        """Return the complete windows."""

    def rest(self, rows: Keyed) -> Plan:
        """Return the unfinished windows of held rows, at the end of a finite source."""

    def dump(self, slots: int) -> dict[str, Any]:
        """Return what `load` takes."""

    def load(self, saved: dict[str, Any]) -> None:
        """Take over a saved state."""

    def clear(self) -> None:
        """Forget what is open."""


class RowPlanner:
    """Windows of `size` rows of a key, one every `slide` rows."""

    def __init__(self, options: WindowOptions) -> None:
        self._size = options.size or 0
        self._slide = options.slide_rows
        self._given: set[int] = set()  # slots whose held rows begin with ones that a window has had

    def begin(self, block: Block, groups: Groups, slots: int) -> npt.NDArray[np.bool_] | None:
        """See Planner."""
        return None

    def plan(self, rows: Keyed) -> Plan:
        """See Planner."""
        windows = np.maximum(0, (rows.count - self._size) // self._slide + 1)
        key, turn = each(windows)
        starts = rows.first[key] + turn * self._slide
        last = starts + self._size - 1  # a block's row, fewer than `size` were held
        self._given.update(rows.slots[windows > 0].tolist())
        needed = rows.first + windows * self._slide
        return Plan(starts, last + 1, rows.time[last], rows.index[last], rows.slots[key], needed)

    def rest(self, rows: Keyed) -> Plan:
        """See Planner."""
        given = np.array([slot in self._given for slot in rows.slots.tolist()], dtype=np.bool_)
        left = np.flatnonzero(rows.count > np.where(given, self._size - self._slide, 0))
        starts, ends = rows.first[left], (rows.first + rows.count)[left]
        return Plan(starts, ends, rows.time[ends - 1], np.zeros_like(left), rows.slots[left], rows.first)

    def dump(self, slots: int) -> dict[str, Any]:
        """See Planner."""
        return {"given": sorted(self._given)}

    def load(self, saved: dict[str, Any]) -> None:
        """See Planner."""
        self._given = {int(slot) for slot in saved["given"]}

    def clear(self) -> None:
        """See Planner."""
        self._given.clear()


class TimePlanner:
    """Windows of `every`, one each `slide`, made of panes of `slide`."""

    def __init__(self, options: WindowOptions) -> None:
        self._pane_ns = options.slide_ns
        self._panes = (options.every or 0) // self._pane_ns  # in a window
        self._max_rows = max(1, MAX_WINDOW_ROWS // self._panes)
        self._table = self._new_table()
        self._kinds: U8 = np.zeros(0, dtype=np.uint8)

    @staticmethod
    def _new_table() -> Table:
        return Table(pane=(np.int64, 0, ()), rows=(np.int64, 0, ()))

    def begin(self, block: Block, groups: Groups, slots: int) -> npt.NDArray[np.bool_] | None:
        """See Planner."""
        self._table.fit(slots)
        self._kinds = np.empty(block.rows, dtype=np.uint8)
        panes(
            block.time, groups.slots, self._pane_ns, LATE_WINDOWS * self._panes, self._max_rows,
            self._table["pane"], self._table["rows"], np.empty(block.rows, dtype=np.int64), self._kinds,
        )  # fmt: skip
        used = self._kinds != _LATE
        return None if used.all() else used

    def plan(self, rows: Keyed) -> Plan:
        """See Planner.

        A row that opens a pane closes those windows of the rows before it that end before that pane; one that
        begins afresh, after a clock was set back, closes all of them, and what came before it is done with.
        """
        pane = rows.time // self._pane_ns
        kinds = np.where(rows.index < 0, _JOINS, self._kinds[rows.index])
        live = np.zeros(len(pane), dtype=np.int64)  # of each row the first one that is not done with
        live[rows.first] = rows.first
        afresh = np.flatnonzero(kinds == _AFRESH)
        live[afresh] = afresh
        live = np.maximum.accumulate(live)
        opens = kinds != _JOINS
        opens[rows.first] = False  # nothing stands before a key's first row
        opening = np.flatnonzero(opens)
        limit = np.where(kinds[opening] == _AFRESH, TIME_MAX, pane[opening] - 1)
        ends = rows.first + rows.count
        kept = live[ends - 1]
        needed = first_at_least(pane, kept, ends, self._oldest(pane[ends - 1]))
        key = np.searchsorted(rows.first, opening, side="right") - 1
        return self._close(rows, pane, live[opening - 1], opening, limit, key, needed)

    def rest(self, rows: Keyed) -> Plan:
        """See Planner."""
        pane, ends = rows.time // self._pane_ns, rows.first + rows.count
        every = np.arange(len(ends), dtype=np.int64)
        limit = np.full(len(ends), TIME_MAX, dtype=np.int64)
        return self._close(rows, pane, rows.first, ends, limit, every, rows.first)

    def _close(self, rows: Keyed, pane: I64, live: I64, ends: I64, limit: I64, key: I64, needed: I64) -> Plan:
        """Return the windows whose last pane is from that of the row before `ends` up to `limit`."""
        last = pane[ends - 1]
        final = np.minimum(limit, np.minimum(last, TIME_MAX - self._panes) + (self._panes - 1))
        which, turn = each(np.maximum(0, final - last + 1))
        number, key = last[which] + turn, key[which]
        starts = first_at_least(pane, live[which], ends[which], self._oldest(number))
        most, least = TIME_MAX // self._pane_ns, -(-TIME_MIN // self._pane_ns)
        times = np.clip(number + 1, least, most) * self._pane_ns
        times[number >= most] = TIME_MAX
        times[number + 1 < least] = TIME_MIN
        done = rows.index[np.minimum(ends[which], len(pane) - 1)]
        return Plan(starts, ends[which], times, done, rows.slots[key], needed)

    def _oldest(self, pane: I64) -> I64:
        """Return the first pane of the windows that end with these."""
        return np.maximum(pane, TIME_MIN + self._panes) - (self._panes - 1)

    def dump(self, slots: int) -> dict[str, Any]:
        """See Planner."""
        return self._table.dump(slots)

    def load(self, saved: dict[str, Any]) -> None:
        """See Planner."""
        self._table.load(saved)

    def clear(self) -> None:
        """See Planner."""
        self._table = self._new_table()


def each(counts: I64) -> tuple[I64, I64]:
    """Return for 2, 0, 3 the numbers 0, 0, 2, 2, 2 and the turns 0, 1, 0, 1, 2."""
    number = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return number, ranges(np.zeros(len(counts), dtype=np.int64), counts)


def first_at_least(values: I64, starts: I64, ends: I64, bounds: I64) -> I64:
    """Return for each stretch from start to end, ascending within, the first place that is at least its bound.

    The end where there is none. All stretches are halved at once.
    """
    low, high = starts.copy(), ends.copy()
    for _ in range(int((ends - starts).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        below = (low < high) & (values[np.minimum(middle, len(values) - 1)] < bounds)
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
    return low
