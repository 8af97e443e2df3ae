"""The step `gaps`: show where rows are missing.

Meaning
-------
- A key's rows should come every `every`. Where two follow each other further apart than `factor` times that,
  there is a gap. It shows when the row behind it comes: a key that is silent has not spoken yet, and
  nothing is invented for it.
- Up to `fill` rows are inserted at the times at which rows should have come, from the row before the gap on;
  all fields but the key are null(gap) in them: no interpolated values, the line of a chart breaks.
- `length` names a field that gives the gap in seconds (from row to row) in the first row after it, to alarm
  on (`gap > 60`) or to count availability by. It is 0 in other rows and null(gap) in inserted ones.
- Rows up to 10 gaps behind their key's latest time are out of order and say nothing; further back, the clock
  was set back and the key starts anew.
- `counts`: `gaps`, and `missing_rows` that should have come in them, inserted or not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Type, null_out
from forebay.config.preprocess import GapsOptions
from forebay.errors import ConfigError
from forebay.preprocess.arrays import F64, I32, I64, find
from forebay.preprocess.base import KeyedWorker, pieces
from forebay.preprocess.state import Table
from forebay_core.filters import gaps

_EVERY_FIELD = ""  # the state is of rows, not of fields


class GapsWorker(KeyedWorker):
    """Inserts null rows where a key's rows are too far apart."""

    def __init__(self, options: GapsOptions, key: str, max_keys: int) -> None:
        super().__init__(key, max_keys)
        self._options = options
        self._back_ns = min(10 * options.longest_ns, 2**63 - 1)
        if options.length is not None and options.length.casefold() == key.casefold():
            raise ConfigError(f"`length: {options.length}` is the key field", hint="choose another name")

    def new_table(self) -> Table:
        """See KeyedWorker."""
        return Table(time=(np.int64, 0, ()), seen=(np.uint8, 0, ()))

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        groups = self.slots.groups(block)
        table = self.table(_EVERY_FIELD)
        since, missed = np.zeros(block.rows, dtype=np.int64), np.empty(block.rows, dtype=np.int32)
        found = gaps(
            block.time, groups.slots, self._options.every, self._options.longest_ns, self._back_ns,
            table["time"], table["seen"], since, missed,
        )  # fmt: skip
        out = self._with_length(block, since, missed) if self._options.length is not None else block
        if not found:
            return [out]
        self.counts["gaps"] += found
        self.counts["missing_rows"] += int(missed.sum(dtype=np.int64))
        return pieces(self._filled(out, since, missed), block.rows) if self._options.fill else [out]

    def _with_length(self, block: Block, since: I64, missed: I32) -> Block:
        """Add the field with the length of gaps in seconds; replace one of that name."""
        name = self._options.length or ""
        after = missed > 0
        seconds: F64 = np.where(after, (block.time.view(np.uint64) - since.view(np.uint64)) / 1e9, 0.0)
        field, column = Field(name, Type.F64, "s"), Column(seconds)
        index = find(block.schema, name)
        if index < 0:
            return block.with_columns({}, [(field, column)])
        fields, columns = list(block.schema.fields), list(block.columns)
        fields[index], columns[index] = field, column
        return replace(block, schema=replace(block.schema, fields=tuple(fields)), columns=tuple(columns))

    def _filled(self, block: Block, since: I64, missed: I32) -> Block:
        """Return the block with its null rows."""
        counts = np.minimum(missed, self._options.fill).astype(np.int64)
        # each row as often as null rows go before it, and itself last
        rows = np.repeat(np.arange(block.rows), counts + 1)
        last = np.cumsum(counts + 1) - 1
        number = np.arange(len(rows)) - np.repeat(last - counts, counts + 1) + 1
        made = np.ones(len(rows), dtype=np.bool_)
        made[last] = False
        filled = block.take(rows)
        time = np.where(made, since[rows] + number * self._options.every, filled.time)
        key = self.slots.key or block.schema.key
        columns = tuple(
            column if key and field.name.casefold() == key.casefold() else null_out(column, made, q.GAP)
            for field, column in zip(filled.schema.fields, filled.columns, strict=True)
        )
        return replace(filled, time=time, columns=columns)
