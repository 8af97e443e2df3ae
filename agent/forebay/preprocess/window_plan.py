"""Which windows are complete: planners of row windows and of time windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from forebay.blocks import Block
from forebay.config.preprocess import MAX_WINDOW_ROWS, WindowOptions
from forebay.preprocess.arrays import I64, U8
from forebay.preprocess.keys import Groups
from forebay.preprocess.pending import Rows
from forebay.preprocess.state import Table
from forebay_core.windows import panes

# A row so many windows behind the open one is late; further back, the device's clock was set back.
LATE_WINDOWS = 10

_JOINS, _AFRESH, _LATE = 0, 2, 3  # see forebay_core.windows.panes
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 1


@dataclass(slots=True)
class Plan:
    """Complete windows, as places in the joined rows of all keys.

    `done` is the row of the block that completed a window: windows come out in that order, so that it
    does not matter how the rows were cut into blocks.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)

    def add(self, slot: int, start: int, end: int, time: int, done: int) -> None:
        """Add one window."""
        self.starts.append(start)
        self.ends.append(end)
        self.times.append(max(TIME_MIN, min(time, TIME_MAX)))
        self.done.append(done)
        self.slots.append(slot)


class Planner(Protocol):
    """Finds the windows that a block completes."""

    def begin(self, block: Block, groups: Groups, slots: int) -> npt.NDArray[np.bool_] | None:
        """Look at a block as a whole; return which rows are used, None for all."""

    def plan(self, plan: Plan, slot: int, base: int, rows: Rows, held: int, index: I64) -> int:
        """Add one key's complete windows.

        `rows` are the `held` rows followed by the block's rows `index`; `base` is where they begin in the
        joined rows. Returns from where on rows are still needed.
        """

    def rest(self, plan: Plan, slot: int, base: int, rows: Rows) -> None:
        """Add one key's unfinished windows, at the end of a finite source."""

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

    def plan(self, plan: Plan, slot: int, base: int, rows: Rows, held: int, index: I64) -> int:
        """See Planner."""
        count = max(0, (len(rows) - self._size) // self._slide + 1)
        if not count:
            return 0
        starts = np.arange(count, dtype=np.int64) * self._slide
        last = starts + self._size - 1  # a block's row, fewer than `size` were held
        plan.starts += (starts + base).tolist()
        plan.ends += (last + 1 + base).tolist()
        plan.times += rows.time[last].tolist()
        plan.done += index[last - held].tolist()
        plan.slots += [slot] * count
        self._given.add(slot)
        return count * self._slide

    def rest(self, plan: Plan, slot: int, base: int, rows: Rows) -> None:
        """See Planner."""
        had = self._size - self._slide if slot in self._given else 0
        if len(rows) > had:
            plan.add(slot, base, base + len(rows), int(rows.time[-1]), 0)

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

    def plan(self, plan: Plan, slot: int, base: int, rows: Rows, held: int, index: I64) -> int:
        """See Planner."""
        pane = rows.time // self._pane_ns
        kinds = self._kinds[index]
        live = 0  # rows before it belong to panes that were closed for good
        for at in np.flatnonzero(kinds != _JOINS).tolist():
            place, afresh = held + at, kinds[at] == _AFRESH
            if place > live:
                limit = None if afresh else int(pane[place]) - 1
                self._close(plan, slot, base, pane, live, place, limit, int(index[at]))
            if afresh:
                live = place
        if live == len(rows):
            return live
        return live + self._first(pane[live:], int(pane[-1]) - self._panes + 1)

    def _close(
        self, plan: Plan, slot: int, base: int, pane: I64, live: int, end: int, limit: int | None, done: int
    ) -> None:
        """Add the windows whose last pane is from the one before `end` to `limit` (None: all that reach)."""
        last = int(pane[end - 1])
        final = last + self._panes - 1 if limit is None else min(limit, last + self._panes - 1)
        for number in range(last, final + 1):
            start = live + self._first(pane[live:end], number - self._panes + 1)
            plan.add(slot, base + start, base + end, (number + 1) * self._pane_ns, done)

    @staticmethod
    def _first(pane: I64, number: int) -> int:
        """Return the first place with at least this pane."""
        return int(np.searchsorted(pane, max(number, TIME_MIN)))

    def rest(self, plan: Plan, slot: int, base: int, rows: Rows) -> None:
        """See Planner."""
        pane = rows.time // self._pane_ns
        if len(rows):
            self._close(plan, slot, base, pane, 0, len(rows), None, 0)

    def dump(self, slots: int) -> dict[str, Any]:
        """See Planner."""
        return self._table.dump(slots)

    def load(self, saved: dict[str, Any]) -> None:
        """See Planner."""
        self._table.load(saved)

    def clear(self) -> None:
        """See Planner."""
        self._table = self._new_table()
