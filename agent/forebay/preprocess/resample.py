"""The step `resample`: fields on a regular grid of time.

Meaning
-------
- The grid is the multiples of `every` since 1970-01-01 UTC, for each key. A point at which no field has a
  value has no row.
- `linear`: on the line between the neighbours, if they are at most `max_gap` apart. `last`: the latest
  value at or before the point, at most `max_gap` old. `mean`: of the samples in [point - every, point).
- A value that a sample has exactly at the point keeps its quality; made ones are uncertain(interpolated),
  means are good. Null and bad samples are not used.
- A point appears when later rows cannot change it any more: when its key's time is beyond it, and for
  `linear` when each field has its next sample or none within `max_gap`.
- Rows behind their key's latest time are not used (`late`); if they are more than 10 x `every` and
  `max_gap` behind, the clock was set back and the grid goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Type
from forebay.config.preprocess import ResampleOptions
from forebay.preprocess.arrays import F64, I64, U8, or_none
from forebay.preprocess.base import pieces
from forebay.preprocess.pending import PendingWorker, Rows, join
from forebay_core.windows import resample

MAX_HELD = 65_536  # rows of a key that wait; a sender whose time stands still fills no memory

_METHODS = {"linear": 0, "last": 1, "mean": 2}
_TIME_MIN, _TIME_MAX = -(2**63), 2**63 - 1


@dataclass(slots=True)
class Made:
    """Grid points of one key; `run` counts how often its clock was set back within the block."""

    run: int
    slot: int
    rows: Rows


class ResampleWorker(PendingWorker):
    """Holds the rows around the open grid points of each key."""

    def __init__(self, options: ResampleOptions, key: str, max_keys: int) -> None:
        super().__init__("resample", options.names, key, max_keys)
        self._every = options.every
        self._gap = options.every if options.method == "mean" else options.gap_ns
        self._method = options.method
        self._back_ns = max(10 * self._every, self._gap)
        self._next: dict[int, int] = {}  # number of each key's first open grid point
        self._latest: dict[int, int] = {}

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        self.learn(block)
        if not self.fields:
            return []
        groups = self.slots.groups(block)
        made: list[Made] = []
        for slot, _, new in self.segments(groups, self.rows_of(block)):
            number = 0
            for run, afresh in self._runs(slot, new):
                if afresh:
                    rest = self._advance(slot, self.held.pop(slot, None), final=True)
                    made += [Made(number, slot, part) for part in rest]
                    self._next.pop(slot, None)
                    number += 1
                old = self.held.get(slot)
                rows = join([run] if old is None else [old, run], len(self.fields))
                made += [Made(number, slot, part) for part in self._advance(slot, rows, final=False)]
        return self._give(made, block.rows)

    def flush(self) -> list[Block]:
        """See stages.Step."""
        made: list[Made] = []
        for slot in sorted(self.held):
            made += [Made(0, slot, part) for part in self._advance(slot, self.held[slot], final=True)]
        self.held.clear()
        self._latest.clear()
        return self._give(made, 0)

    def _runs(self, slot: int, new: Rows) -> Iterator[tuple[Rows, bool]]:
        """Yield the key's rows in stretches of rising time, and whether its clock was set back before."""
        latest = self._latest.get(slot, _TIME_MIN)
        times = new.time.tolist()
        if times[0] >= latest and bool(np.all(new.time[1:] >= new.time[:-1])):
            yield new, False
            self._latest[slot] = times[-1]
            return
        kept: list[int] = []
        afresh = False
        for row, time in enumerate(times):
            if time < latest and latest - time <= self._back_ns:
                self.counts["late"] += 1
                continue
            if time < latest:
                if kept:
                    yield _pick(new, kept), afresh
                kept, afresh = [], True
            kept.append(row)
            latest = time
        if kept:
            yield _pick(new, kept), afresh
        self._latest[slot] = latest

    def _advance(self, slot: int, rows: Rows | None, *, final: bool) -> list[Rows]:
        """Return the grid points that are settled, and hold the rows that open ones need."""
        if rows is None or not len(rows):
            return []
        rows = join([rows], len(self.fields))
        if slot not in self._next:
            self._next[slot] = self._first_point(int(rows.time[0]))
        end = self._settled(rows, final)
        points = self._points(rows, self._next[slot], end)
        made = [part for part in points if len(part)]
        if final:
            self._next.pop(slot, None)
            return made
        self._next[slot] = max(self._next[slot], end + 1)
        self.held[slot] = rows.cut(self._needed(rows, self._next[slot]))
        return made

    def _first_point(self, time: int) -> int:
        return time // self._every + 1 if self._method == "mean" else -(-time // self._every)

    def _usable(self, rows: Rows, field: int) -> I64:
        return np.flatnonzero((rows.codes[field] < q.BAD_DEVICE) & np.isfinite(rows.values[field]))

    def _settled(self, rows: Rows, final: bool) -> int:
        """Return the number of the last grid point that later rows cannot change."""
        latest = int(rows.time[-1])
        if self._method == "mean":
            return latest // self._every + final
        if final:
            return latest // self._every
        end = -(-latest // self._every) - 1  # another row may come at the very same time
        if self._method == "linear":
            for field in range(len(self.fields)):
                usable = self._usable(rows, field)
                if len(usable):
                    last = int(rows.time[usable[-1]])
                    if latest - last <= self._gap:
                        end = min(end, last // self._every)
        return end

    def _points(self, rows: Rows, first: int, end: int) -> Iterator[Rows]:
        """Yield the grid points first..end near samples; what lies in longer gaps has no value."""
        end = min(end, _TIME_MAX // self._every)
        # times rise, so the difference modulo 2**64 is the true one
        breaks = np.flatnonzero(np.diff(rows.time.view(np.uint64)) > np.uint64(self._gap + self._every)) + 1
        bounds = [0, *breaks.tolist(), len(rows)]
        for start, stop in pairwise(bounds):
            reach = (int(rows.time[stop - 1]) + self._gap) // self._every + 1
            low = max(first, -(-int(rows.time[start]) // self._every))
            high = min(end, reach)
            if low <= high:
                yield self._grid(rows, start, stop, low, high)

    def _grid(self, rows: Rows, start: int, stop: int, low: int, high: int) -> Rows:
        count = high - low + 1
        shape = (len(self.fields), count)
        values, codes = np.zeros(shape), np.zeros(shape, dtype=np.uint8)
        for field in range(len(self.fields)):
            part = Rows(rows.time[start:stop], rows.values[:, start:stop], rows.codes[:, start:stop])
            usable = self._usable(part, field)
            resample(
                part.time[usable], part.values[field][usable], part.codes[field][usable],
                low * self._every, self._every, self._gap, _METHODS[self._method],
                values[field], codes[field],
            )  # fmt: skip
        time = low * self._every + np.arange(count, dtype=np.int64) * self._every
        kept = (codes < q.NULL_FROM).any(axis=0)
        return Rows(time[kept], values[:, kept], codes[:, kept])

    def _needed(self, rows: Rows, first: int) -> int:
        """Return the first row that a grid point from `first` on may need."""
        point = max(_TIME_MIN, min(first * self._every, _TIME_MAX))
        before = max(_TIME_MIN, point - self._every)
        needed = int(np.searchsorted(rows.time, before))
        if self._method != "mean":
            latest = int(rows.time[-1])
            for field in range(len(self.fields)):
                usable = self._usable(rows, field)
                at = int(np.searchsorted(rows.time[usable], point, side="right")) - 1
                if at >= 0 and min(point, latest) - int(rows.time[usable[at]]) <= self._gap:
                    needed = min(needed, int(usable[at]))
        if len(rows) - needed > MAX_HELD:
            self.counts["held_limit"] += len(rows) - needed - MAX_HELD
            needed = len(rows) - MAX_HELD
        return needed

    def _give(self, made: list[Made], like: int) -> list[Block]:
        """Return the points of all keys as blocks, in order of time but where a clock was set back."""
        if not made:
            return []
        lengths = [len(part.rows) for part in made]
        slots, runs = (np.repeat([getattr(p, name) for p in made], lengths) for name in ("slot", "run"))
        rows = join([part.rows for part in made], len(self.fields))
        order = np.lexsort((rows.time, runs))
        columns: list[Column] = []
        if self.key_field is not None:
            columns.append(self.slots.column(self.key_field.type, slots[order].tolist()))
        for field in range(len(self.fields)):
            columns.append(_column(rows.values[field][order], rows.codes[field][order]))
        fields: list[Field] = [replace(field, type=Type.F64) for field in self.fields.values()]
        block = Block(self.schema(self.stream, fields), rows.time[order], tuple(columns), self.lane)
        return pieces(block, like)

    def dump(self) -> dict[str, Any]:
        """See Worker."""
        return {**super().dump(), "next": self._next, "latest": self._latest}

    def load(self, saved: dict[str, Any]) -> None:
        """See Worker."""
        super().load(saved)
        self._next = {int(slot): int(point) for slot, point in saved["next"].items()}
        self._latest = {int(slot): int(time) for slot, time in saved["latest"].items()}


def _column(values: F64, codes: U8) -> Column:
    return Column(values, None, or_none(codes))


def _pick(rows: Rows, index: list[int]) -> Rows:
    at = np.array(index, dtype=np.int64)
    return Rows(rows.time[at], rows.values[:, at], rows.codes[:, at])
