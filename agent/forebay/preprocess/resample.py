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

from forebay.blocks import Block, Column, Type
from forebay.config.preprocess import ResampleOptions
from forebay.preprocess.arrays import F64, I64, U8, or_none
from forebay.preprocess.base import pieces
from forebay.preprocess.pending import PendingWorker, Rows, empty_rows, join
from forebay.preprocess.state import pack_array, unpack_array
from forebay_core.resampling import advance

MAX_HELD = 65_536  # rows of a key that wait

_METHODS = {"linear": 0, "last": 1, "mean": 2}
_TIME_MIN = -(2**63)


@dataclass(slots=True)
class Stretch:
    """Rows of one key between two settings back of its clock: those held, then those that came.

    `run` counts the settings back within the block; `first` is the number of the first open point, None where
    all are.
    """

    run: int
    slot: int
    parts: list[Rows]
    first: int | None
    final: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.parts))


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
        groups = self.slots.groups(block)
        stretches: list[Stretch] = []
        for slot, _, new in self.segments(groups, self.rows_of(block)):
            stretch = Stretch(0, slot, [], self._next.get(slot))
            if slot in self.held:
                stretch.parts.append(self.held[slot])
            came = False
            for rows, afresh in self._runs(slot, new):
                if afresh:
                    stretch.final = True
                    stretches.append(stretch)
                    stretch = Stretch(stretch.run + 1, slot, [], None)
                stretch.parts.append(rows)
                came = True
            if came:
                stretches.append(stretch)
        return self._advance(stretches, block.rows)

    def flush(self) -> list[Block]:
        """See stages.Step."""
        stretches = [
            Stretch(0, slot, [self.held[slot]], self._next.get(slot), final=True)
            for slot in sorted(self.held)
        ]
        self.held.clear()
        self._next.clear()
        self._latest.clear()
        return self._advance(stretches, 0)

    def _runs(self, slot: int, new: Rows) -> Iterator[tuple[Rows, bool]]:
        """Yield the key's rows in stretches of rising time, and whether its clock was set back before."""
        latest = self._latest.get(slot, _TIME_MIN)
        times = new.time.tolist()
        if times[0] >= latest and times == sorted(times):  # mostly few: for numpy it is not worth the call
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

    def _advance(self, stretches: list[Stretch], like: int) -> list[Block]:
        """Return the grid points that are settled, and hold the rows that open ones need."""
        stretches = [stretch for stretch in stretches if len(stretch)]
        if not stretches:
            return []
        rows = join([part for stretch in stretches for part in stretch.parts], len(self.fields))
        bounds = np.cumsum([0, *map(len, stretches)])
        final = np.array([stretch.final for stretch in stretches], dtype=np.uint8)
        made, needed = np.empty(len(stretches), dtype=np.int64), np.empty(len(stretches), dtype=np.int64)
        open_points = [
            self._first_point(int(rows.time[start])) if stretch.first is None else stretch.first
            for stretch, start in zip(stretches, bounds.tolist(), strict=False)
        ]
        values, codes = np.ascontiguousarray(rows.values), np.ascontiguousarray(rows.codes)
        if len(self._points.values) != len(self.fields):
            self._points = empty_rows(len(self.fields), 64)
        while True:
            first = np.array(open_points, dtype=np.int64)
            total = advance(
                rows.time, values, codes, bounds, final, self._every, self._gap, self._method,
                first, made, needed, self._points.time, self._points.values, self._points.codes,
            )  # fmt: skip
            if total <= len(self._points):
                break
            self._points = empty_rows(len(self.fields), 2 * total)
        ends = pairwise(bounds.tolist())
        for stretch, after, start, (a, b) in zip(
            stretches, first.tolist(), needed.tolist(), ends, strict=True
        ):
            if not stretch.final:
                self._next[stretch.slot] = after
                a += self._within_limit(b - a, start)
                # copies, so that the block is let go
                self.held[stretch.slot] = Rows(
                    rows.time[a:b].copy(), values[:, a:b].copy(), codes[:, a:b].copy()
                )
        return self._give(stretches, made, total, like)

    def _first_point(self, time: int) -> int:
        return time // self._every + 1 if self._method == _METHODS["mean"] else -(-time // self._every)

    def _within_limit(self, rows: int, needed: int) -> int:
        """Return the first row to hold; a sender whose time stands still fills no memory."""
        if rows - needed > MAX_HELD:
            self.counts["held_limit"] += rows - needed - MAX_HELD
            return rows - MAX_HELD
        return needed

    def _give(self, stretches: list[Stretch], made: I64, total: int, like: int) -> list[Block]:
        """Return the points of all keys as blocks, in order of time but where a clock was set back."""
        if not total:
            return []
        slots = np.repeat([stretch.slot for stretch in stretches], made)
        runs = np.repeat([stretch.run for stretch in stretches], made)
        points = self._points
        rows = Rows(points.time[:total], points.values[:, :total], points.codes[:, :total])
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
