"""The step `deadband`: pass what changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, null_out
from forebay.config.preprocess import DeadbandOptions
from forebay.preprocess.arrays import codes_of, numbers
from forebay.preprocess.base import FieldChoice, KeyedWorker
from forebay.preprocess.state import Table
from forebay_core.signal import deadband

# Nulls that report that something went wrong. They are news once, like a changed value, and a row is not
# dropped while it carries one; other nulls (missing, null, unchanged, suppressed) say nothing.
FAILURES = np.zeros(256, dtype=np.bool_)
FAILURES[[q.NAN, q.TYPE, q.SIZE, q.DEVICE_ERROR, q.OVERFLOW]] = True

_NOTHING_REPORTED = 255


class DeadbandWorker(KeyedWorker):
    """Blanks cells that repeat what was last passed (null, unchanged) and drops rows with nothing left."""

    def __init__(self, options: DeadbandOptions, key: str, max_keys: int) -> None:
        super().__init__(key, max_keys)
        self._choice = FieldChoice("deadband", options.names, key)
        self._absolute = options.absolute or 0.0
        self._relative = options.relative or 0.0
        self._silence_ns = -1 if options.max_silence is None else options.max_silence

    def new_table(self) -> Table:
        """See KeyedWorker."""
        return Table(
            value=(np.float64, 0.0, ()),
            time=(np.int64, 0, ()),
            reported=(np.uint8, _NOTHING_REPORTED, ()),
        )

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        chosen = self._choice.of(block.schema)
        if not chosen:
            return [block]
        groups = self.slots.groups(block)
        blanked = np.zeros(block.rows, dtype=np.bool_)
        changed = {}
        for index in chosen:
            name, column = block.schema.fields[index].name, block.columns[index]
            table = self.table(name)
            unchanged = np.empty(block.rows, dtype=np.uint8)
            count = deadband(
                numbers(column), codes_of(column), block.time, groups.slots,
                self._absolute, self._relative, self._silence_ns,
                table["value"], table["time"], table["reported"], unchanged,
            )  # fmt: skip
            if count:
                rows = unchanged.view(np.bool_)
                changed[name] = null_out(column, rows, q.UNCHANGED)
                blanked |= rows
        if not changed:
            return [block]
        thinned = block.with_columns(changed)
        empty = blanked & ~_has_news(thinned, self.slots.key)
        if not empty.any():
            return [thinned]
        return [] if empty.all() else [thinned.take(~empty)]


def _has_news(block: Block, key: str) -> npt.NDArray[np.bool_]:
    """Return which rows have a value, or a failure, in a field other than the key."""
    key = key or block.schema.key
    news = np.zeros(block.rows, dtype=np.bool_)
    for field, column in zip(block.schema.fields, block.columns, strict=True):
        if field.name == key:
            continue
        if column.quality is None:
            news[:] = True
            break
        news |= (column.quality < q.NULL_FROM) | FAILURES[column.quality]
    return news
