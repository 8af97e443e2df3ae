"""The step `hampel`: spikes."""

from __future__ import annotations

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column, Type
from forebay.config.preprocess import HampelOptions
from forebay.preprocess.arrays import codes_of, numbers
from forebay.preprocess.base import FieldChoice, KeyedWorker
from forebay.preprocess.keys import Groups
from forebay.preprocess.state import Table
from forebay_core.hampel import hampel


class HampelWorker(KeyedWorker):
    """Marks (or replaces by the median, and marks) samples far from the median of the last few.

    Null, bad, and infinite samples are left out of the windows. Nothing is judged before the first
    window of a key is full.
    """

    def __init__(self, options: HampelOptions, key: str, max_keys: int) -> None:
        self._options = options
        super().__init__(key, max_keys)
        self._choice = FieldChoice("hampel", options.names, key)

    def new_table(self) -> Table:
        """See KeyedWorker."""
        return Table(
            history=(np.float64, 0.0, (self._options.window - 1,)),
            filled=(np.int64, 0, ()),
        )

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        chosen = self._choice.of(block.schema)
        if not chosen:
            return [block]
        groups = self.slots.groups(block)
        changed = {}
        for index in chosen:
            field, column = block.schema.fields[index], block.columns[index]
            marked = self._judge(field.name, field.type, column, groups)
            if marked is not None:
                changed[field.name] = marked
        return [block.with_columns(changed)] if changed else [block]

    def _judge(self, name: str, type_: Type, column: Column, groups: Groups) -> Column | None:
        table, rows = self.table(name), column.rows
        spikes, medians = np.zeros(rows, dtype=np.uint8), np.zeros(rows, dtype=np.float64)
        found = hampel(
            numbers(column), codes_of(column), groups.order, groups.bounds, groups.present,
            self._options.window, self._options.sigmas, self._options.min_deviation,
            table["history"], table["filled"], spikes, medians,
        )  # fmt: skip
        if not found:
            return None
        at = spikes.view(np.bool_)
        codes = np.zeros(rows, dtype=np.uint8) if column.quality is None else column.quality.copy()
        codes[at] = np.maximum(codes[at], q.SPIKE)
        values = column.values
        if self._options.action == "replace":
            values = values.copy()
            # an odd window's median is one of its samples, so an integer stays one (beyond 2**53 rounded)
            values[at] = medians[at] if type_ is Type.F64 else medians[at].astype(values.dtype)
        return Column(values, None, codes)
