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
from typing import Any

import numpy as np

from forebay.blocks import Block, Column, Type
from forebay.config.preprocess import ResampleOptions
from forebay.preprocess.arrays import F64, U8, or_none
from forebay.preprocess.base import pieces
from forebay.preprocess.pending import PendingWorker, Rows, empty_rows, join
from forebay.preprocess.state import pack_array, unpack_array
from forebay_core.resampling import advance

MAX_HELD = 65_536  # rows of a key that wait

_METHODS = {"linear": 0, "last": 1, "mean": 2}
_TIME_MIN = -(2**63)


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
        self._method = _METHODS[options.method]
        self._points = empty_rows(0, 0)  # where the kernel writes
        self._back_ns = max(10 * self._every, self._gap)
        self.held: dict[int, Rows] = {}
        self._next: dict[int, int] = {}  # number of each key's first open grid point
        self._latest: dict[int, int] = {}

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        self.learn(block)
        if not self.fields:
            return []
        self._fit()
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
        self._fit()
        made: list[Made] = []
        for slot in sorted(self.held):
            made += [Made(0, slot, part) for part in self._advance(slot, self.held[slot], final=True)]
        self.held.clear()
        self._latest.clear()
        return self._give(made, 0)

    def _fit(self) -> None:
        """Give the kernel's output a row for each field."""
        if len(self._points.values) != len(self.fields):
            self._points = empty_rows(len(self.fields), 64)

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
        first = self._next.get(slot)
        if first is None:
            first = self._first_point(int(rows.time[0]))
        values, codes = np.ascontiguousarray(rows.values), np.ascontiguousarray(rows.codes)
        while True:
            made, after, needed = advance(
                rows.time, values, codes, first, self._every, self._gap, self._method, final,
                self._points.time, self._points.values, self._points.codes,
            )  # fmt: skip
            if made <= len(self._points):
                break
            self._points = empty_rows(len(self.fields), 2 * made)
        if final:
            self._next.pop(slot, None)
        else:
            self._next[slot] = after
            self.held[slot] = rows.cut(self._within_limit(len(rows), needed))
        if not made:
            return []
        points = self._points
        return [
            Rows(points.time[:made].copy(), points.values[:, :made].copy(), points.codes[:, :made].copy())
        ]

    def _first_point(self, time: int) -> int:
        return time // self._every + 1 if self._method == _METHODS["mean"] else -(-time // self._every)

    def _within_limit(self, rows: int, needed: int) -> int:
        """Return the first row to hold; a sender whose time stands still fills no memory."""
        if rows - needed > MAX_HELD:
            self.counts["held_limit"] += rows - needed - MAX_HELD
            return rows - MAX_HELD
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
        schema = self.schema(self.stream, lambda field: [replace(field, type=Type.F64)])
        block = Block(schema, rows.time[order], tuple(columns), self.lane)
        return pieces(block, like)

    def dump(self) -> dict[str, Any]:
        """See Worker."""
        held = {
            slot: [pack_array(rows.time), pack_array(rows.values), pack_array(rows.codes)]
            for slot, rows in self.held.items()
        }
        return {**super().dump(), "held": held, "next": self._next, "latest": self._latest}

    def load(self, saved: dict[str, Any]) -> None:
        """See Worker."""
        super().load(saved)
        for slot, packed in saved["held"].items():
            rows = Rows(*map(unpack_array, packed))
            if not 0 <= slot < len(self.slots) or rows.values.shape != rows.codes.shape:
                raise ValueError("held rows do not fit")
            if rows.values.shape[1:] != rows.time.shape or len(rows.values) > len(self.fields):
                raise ValueError("held rows do not fit")
            self.held[slot] = rows
        self._next = {int(slot): int(point) for slot, point in saved["next"].items()}
        self._latest = {int(slot): int(time) for slot, time in saved["latest"].items()}


def _column(values: F64, codes: U8) -> Column:
    return Column(values, None, or_none(codes))


def _pick(rows: Rows, index: list[int]) -> Rows:
    at = np.array(index, dtype=np.int64)
    return Rows(rows.time[at], rows.values[:, at], rows.codes[:, at])
