"""The step `window` where windows of time follow each other and moments are all that is asked.

It gives what window.py describes and holds no rows: each key and field has ten numbers, whatever the length of
its window, so that an hour's window of 10,000 meters costs no more than a second's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forebay.blocks import Block
from forebay.config.preprocess import MAX_WINDOW_ROWS, MOMENT_STATS, WindowOptions
from forebay.preprocess.arrays import F64, I64, U8
from forebay.preprocess.state import Table, pack_array, unpack_array
from forebay.preprocess.window import WindowBase
from forebay.preprocess.window_plan import LATE_WINDOWS, TIME_MAX, TIME_MIN
from forebay_core.tumbling import ACCUMULATED, accumulate, finish, tumble
from forebay_core.windows import MOMENTS

_LATE = 3  # see forebay_core.tumbling.tumble


def tumbles(options: WindowOptions) -> bool:
    """Whether the windows follow each other and need nothing but moments."""
    alone = options.every is not None and options.slide_ns == options.every
    return alone and not options.has_spectrum and set(options.stats) <= set(MOMENT_STATS)


class TumblingWorker(WindowBase):
    """Adds up the open window of each key, and gives it when the key's first row beyond it comes."""

    def __init__(self, options: WindowOptions, key: str, max_keys: int) -> None:
        super().__init__(options, key, max_keys)
        self._every = options.every or 0
        self._open = self._new_table()
        self._state: F64 = np.zeros((0, 0, ACCUMULATED))  # (fields, slots, numbers)

    @staticmethod
    def _new_table() -> Table:
        return Table(pane=(np.int64, 0, ()), rows=(np.int64, 0, ()))

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        self.learn(block)
        passed = [block] if self.options.keep else []
        if not self.fields:
            return passed
        groups = self.slots.groups(block).slots
        self._fit()
        kinds: U8 = np.empty(block.rows, dtype=np.uint8)
        panes, slots = np.empty(block.rows, dtype=np.int64), np.empty(block.rows, dtype=np.int32)
        closed = tumble(
            block.time, groups, self._every, LATE_WINDOWS, MAX_WINDOW_ROWS, self._open["pane"],
            self._open["rows"], kinds, panes, slots,
        )  # fmt: skip
        rows = self.rows_of(block)
        found = np.empty((len(self.fields), closed, len(MOMENTS)))
        accumulate(rows.values, rows.codes, groups, kinds, self._state, found)
        self.counts["late"] += int(np.count_nonzero(kinds == _LATE))
        return passed + self._give_moments(slots[:closed].tolist(), panes[:closed], found, block.rows)

    def flush(self) -> list[Block]:
        """See stages.Step."""
        self._fit()
        slots = np.flatnonzero(self._open["rows"][: len(self.slots)]).astype(np.int64)
        found = np.empty((len(self.fields), len(slots), len(MOMENTS)))
        finish(self._state, slots, found)
        panes = self._open["pane"][slots]
        self._open = self._new_table()
        return self._give_moments(slots.tolist(), panes, found, 0)

    def _fit(self) -> None:
        """Make room for all keys and fields."""
        self._open.fit(max(len(self.slots), 1))
        shape = (len(self.fields), self._open.size, ACCUMULATED)
        if self._state.shape != shape:
            grown = np.zeros(shape)
            grown[: self._state.shape[0], : self._state.shape[1]] = self._state
            self._state = grown

    def _give_moments(self, slots: list[int], panes: I64, found: F64, like: int) -> list[Block]:
        if not slots:
            return []
        ends = [max(TIME_MIN, min((pane + 1) * self._every, TIME_MAX)) for pane in panes.tolist()]
        statistics = [{name: part[:, at] for at, name in enumerate(MOMENTS)} for part in found]
        return self.give(slots, np.array(ends, dtype=np.int64), statistics, like)

    def dump(self) -> dict[str, Any]:
        """See Worker."""
        self._fit()
        known = len(self.slots)
        return {**super().dump(), "open": self._open.dump(known), "state": pack_array(self._state[:, :known])}

    def load(self, saved: dict[str, Any]) -> None:
        """See Worker."""
        super().load(saved)
        self._open.load(saved["open"])
        state = unpack_array(saved["state"])
        if state.dtype != np.float64 or state.shape != (len(self.fields), len(self.slots), ACCUMULATED):
            raise ValueError("the state of the windows does not fit")
        self._state = state
        self._fit()
