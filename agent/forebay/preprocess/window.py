"""The step `window`: statistics of windows of rows or time.

Meaning of a window
-------------------
- A window belongs to one key. `size` counts the key's rows, usable or not; `every` is a stretch
  [start, start + every) of data time, aligned to 1970-01-01 UTC.
- Its row has the time of the last row in it (`size`), or the end of its stretch (`every`).
- It appears when its last row is there (`size`), or with the first row of its key beyond its end
  (`every`): a key that falls silent keeps its last window open until it speaks again or the source ends.
  A stretch without rows has no window.
- Null and bad samples are left out, uncertain ones count; `count` says how many there were. With none the
  other statistics are null (missing); one without a value (kurtosis of equal samples) is null (nan).
- A row up to 10 windows late is not used (`late` in the counts); further back, the clock was set back:
  what is open is closed and a new window begins there. So it is when a time window has 1,048,576 rows.
- Unfinished windows are given out as they are at the end of a finite source.
- What bands, tones and envelope are: see spectrum.py. Crossings are those of the usable samples.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Type
from forebay.config.preprocess import WindowOptions
from forebay.config.waveform import CROSSING_STATS
from forebay.preprocess.arrays import F64, I64, ONE_GROUP, U8, or_none
from forebay.preprocess.base import pieces
from forebay.preprocess.held import HeldRows, ranges
from forebay.preprocess.keys import Groups
from forebay.preprocess.pending import PendingWorker, Rows, join
from forebay.preprocess.spectrum import Spectrum
from forebay.preprocess.window_plan import Keyed, Plan, Planner, RowPlanner, TimePlanner
from forebay_core.filters import crossings
from forebay_core.grouping import group_rows
from forebay_core.windows import MOMENTS, moments, percentiles

WINDOW_SUFFIX = "_window"
_UNITS = {
    "count": "",
    "crest": "",
    "skewness": "",
    "kurtosis": "",
    "zero_crossings": "",
    "crossing_rate": "Hz",
}
_MEAN = MOMENTS.index("mean")


class WindowBase(PendingWorker):
    """What gives windows: rows of statistics."""

    def __init__(self, options: WindowOptions, key: str, max_keys: int) -> None:
        super().__init__("window", options.names, key, max_keys)
        self.options = options
        self.units: dict[str, str | None] = {name: _UNITS.get(name) for name in options.stats}

    def give(self, slots: list[int], times: I64, statistics: list[dict[str, F64]], like: int) -> list[Block]:
        """Return windows as blocks: their keys' slots, times, and the statistics of each field by name."""
        columns: list[Column] = []
        if self.key_field is not None:
            columns.append(self.slots.column(self.key_field.type, slots))
        for found in statistics:
            empty = found["count"] == 0
            all_have = not empty.any()
            values = np.array([found[name] for name in self.units])  # (statistics, windows)
            undefined = np.isnan(values).any(axis=1).tolist()
            for name, part, has_none in zip(self.units, values, undefined, strict=True):
                whole = name == "count" or (all_have and not has_none)
                columns.append(Column(part) if whole else _with_nulls(part, empty))
        stream = self.stream + WINDOW_SUFFIX if self.options.keep else self.stream
        return pieces(Block(self.schema(stream, self._fields), times, tuple(columns), self.lane), like)

    def _fields(self, field: Field) -> list[Field]:
        return [self._field(field, name, unit) for name, unit in self.units.items()]

    def _field(self, field: Field, statistic: str, unit: str | None) -> Field:
        name = f"{field.name}_{statistic}"
        if self.key_field is not None and name == self.key_field.name:
            name += "_1"
        unit = field.unit if unit is None else unit
        return replace(field, name=name, type=Type.F64, unit=unit, description="", identifier="", given="")


class WindowWorker(WindowBase):
    """Holds rows, and computes the statistics of the windows that its planner finds complete."""

    def __init__(self, options: WindowOptions, key: str, max_keys: int) -> None:
        super().__init__(options, key, max_keys)
        self._percents = dict(sorted(options.percents.items(), key=lambda item: item[1]))
        self._crosses = not set(CROSSING_STATS).isdisjoint(options.stats)
        self._spectrum = Spectrum(options, self.counts) if options.has_spectrum else None
        if self._spectrum is not None:
            self.units.update(self._spectrum.names)
        self.held = HeldRows()
        self._planner: Planner = RowPlanner(options) if options.size is not None else TimePlanner(options)

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        self.learn(block)
        passed = [block] if self.options.keep else []
        if not self.fields:
            return passed
        groups = self.slots.groups(block)
        used = self._planner.begin(block, groups, len(self.slots))
        self.held.fit(len(self.slots), len(self.fields))
        slots, counts, order = self._by_key(groups, used, block.rows)
        if not len(slots):
            return passed
        rows, keyed = self._with_held(slots, counts, order, self.rows_of(block))
        plan = self._planner.plan(keyed)
        ends = keyed.first + keyed.count
        self.held.put(slots, rows, plan.needed, np.maximum(0, ends - plan.needed))
        return passed + self._give(plan, rows, block.rows)

    def _by_key(self, groups: Groups, used: npt.NDArray[np.bool_] | None, rows: int) -> tuple[I64, I64, I64]:
        """Return the slots that have rows which are used, how many, and the rows slot by slot."""
        if groups.slots is ONE_GROUP:
            order = np.arange(rows, dtype=np.int64) if used is None else np.flatnonzero(used)
            self.counts["late"] += rows - len(order)
            one = np.zeros(min(1, len(order)), dtype=np.int64)
            return one, one + len(order), order
        fit = groups.slots >= 0
        if used is not None:
            self.counts["late"] += int(np.count_nonzero(fit & ~used))
            fit &= used
        kept = np.flatnonzero(fit)
        order, bounds = group_rows(groups.slots[kept], len(self.slots))
        counts = np.diff(bounds)
        slots = np.flatnonzero(counts)
        return slots, counts[slots], kept[order]

    def _with_held(self, slots: I64, counts: I64, order: I64, new: Rows) -> tuple[Rows, Keyed]:
        """Join each slot's held rows with its new ones, which are those of `order`."""
        held, old = self.held.count(slots), self.held.take(slots)
        count = held + counts
        first = np.cumsum(count) - count
        index = np.full(int(count.sum()), -1, dtype=np.int64)
        if len(slots) == 1 and len(order) == len(new):
            rows = join([old, new], len(self.fields)) if len(old) else new
            index[len(old) :] = order
        else:
            behind = ranges(first + held, counts)
            index[behind] = order
            at = np.empty(len(index), dtype=np.int64)
            at[ranges(first, held)] = np.arange(len(old), dtype=np.int64)
            at[behind] = order + len(old)
            both = join([old, new], len(self.fields))
            rows = Rows(both.time[at], both.values[:, at], both.codes[:, at])
        return rows, Keyed(slots, first, count, held, rows.time, index)

    def flush(self) -> list[Block]:
        """See stages.Step."""
        slots = self.held.slots()
        rows, count = self.held.take(slots), self.held.count(slots)
        first = np.cumsum(count) - count
        index = np.zeros(len(rows), dtype=np.int64)
        plan = self._planner.rest(Keyed(slots, first, count, count, rows.time, index))
        self.held.clear()
        self._planner.clear()
        return self._give(plan, rows, 0)

    def _give(self, plan: Plan, rows: Rows, like: int) -> list[Block]:
        """Return the windows of a plan as blocks, in the order in which they were completed."""
        if not len(plan.starts):
            return []
        order = np.argsort(plan.done, kind="stable")
        starts, ends, times = plan.starts[order], plan.ends[order], plan.times[order]
        windows = None if self._spectrum is None else self._spectrum.windows(rows.time, starts, ends)
        statistics = []
        for values, codes in zip(rows.values, rows.codes, strict=True):
            found = self._statistics(values, codes, starts, ends)
            if self._crosses:
                found["crossing_rate"] /= self._seconds(rows.time, starts, ends)
            if self._spectrum is not None and windows is not None:
                found.update(self._spectrum.of(values, codes, windows))
            statistics.append(found)
        return self.give(plan.slots[order].tolist(), times, statistics, like)

    def _statistics(self, values: F64, codes: U8, starts: I64, ends: I64) -> dict[str, F64]:
        """Return each statistic by name, (n_windows,), NaN where it has no value."""
        usable = codes < q.BAD_DEVICE
        if not usable.all():
            before = np.zeros(len(usable) + 1, dtype=np.int64)
            np.cumsum(usable, out=before[1:])
            values, starts, ends = values[usable], before[starts], before[ends]
        values = np.ascontiguousarray(values)
        out = np.empty((len(starts), len(MOMENTS)))
        moments(values, starts, ends, out)
        found = {name: out[:, at] for at, name in enumerate(MOMENTS)}
        if self._percents:
            ranks = np.empty((len(starts), len(self._percents)))
            percentiles(values, starts, ends, np.array(list(self._percents.values())), ranks)
            found.update({name: ranks[:, at] for at, name in enumerate(self._percents)})
        if self._crosses:
            zero, count = self.options.zero, np.empty(len(starts), dtype=np.int64)
            levels = out[:, _MEAN].copy() if zero == "mean" else np.full(len(starts), float(zero))
            crossings(values, starts, ends, levels, self.options.hysteresis, count)
            # the rate is divided by the windows' lengths in time by who knows them
            found.update({name: count.astype(np.float64) for name in CROSSING_STATS})
        return found

    def _seconds(self, time: I64, starts: I64, ends: I64) -> F64:
        """Return how long each window is, from its first row to its last; NaN where that is no time."""
        if self.options.rate is not None:
            seconds = (ends - starts - 1) / self.options.rate
        else:
            first, last = time[starts], time[np.maximum(ends, 1) - 1]
            rises = last >= first
            seconds = np.where(rises, (last.view(np.uint64) - first.view(np.uint64)) / 1e9, 0.0)
        found: F64 = np.where(seconds > 0.0, seconds, np.nan)
        return found

    def dump(self) -> dict[str, Any]:
        """See Worker."""
        planner = self._planner.dump(len(self.slots))
        return {**super().dump(), "held": self.held.dump(), "planner": planner}

    def load(self, saved: dict[str, Any]) -> None:
        """See Worker."""
        super().load(saved)
        self.held.load(saved["held"], len(self.slots), len(self.fields))
        self._planner.load(saved["planner"])


def _with_nulls(values: F64, empty: npt.NDArray[np.bool_]) -> Column:
    """Return a statistic as a column, null where it has no value."""
    codes = np.where(empty, q.MISSING, np.where(np.isnan(values), q.NAN, q.GOOD)).astype(np.uint8)
    return Column(np.where(codes == q.GOOD, values, 0.0), None, or_none(codes))
