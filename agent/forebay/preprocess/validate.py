"""The step `validate`: quality codes for what cannot be right."""

from __future__ import annotations

import logging
from math import inf

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column
from forebay.config.preprocess import ValidateOptions
from forebay.preprocess.arrays import codes_of, find, numbers
from forebay.preprocess.base import FieldChoice, KeyedWorker, column_with
from forebay.preprocess.keys import Groups
from forebay.preprocess.state import Table
from forebay_core.signal import validate

log = logging.getLogger(__name__)


class ValidateWorker(KeyedWorker):
    """Marks cells out of range, changing too fast or stuck; counts missing ones that are required.

    Values are never changed. A cell's code only rises (null over bad over uncertain over good).
    """

    def __init__(self, options: ValidateOptions, key: str, max_keys: int) -> None:
        super().__init__(key, max_keys)
        self._options = options
        self._choice = FieldChoice("validate", options.names, key)
        self._low, self._high = options.range or (-inf, inf)
        self._max_rate = -1.0 if options.max_rate is None else options.max_rate
        self._stuck_ns = -1 if options.stuck is None else options.stuck

    def new_table(self) -> Table:
        """See KeyedWorker."""
        return Table(
            rate_value=(np.float64, 0.0, ()),
            rate_time=(np.int64, 0, ()),
            stuck_value=(np.float64, 0.0, ()),
            stuck_since=(np.int64, 0, ()),
            seen=(np.uint8, 0, ()),
        )

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        if self._options.required:
            self._count_missing(block)
        chosen = self._choice.of(block.schema)
        if not chosen:
            return [block]
        groups = self.slots.groups(block)
        changed = {}
        for index in chosen:
            name, column = block.schema.fields[index].name, block.columns[index]
            marked = self._judge(name, column, block, groups)
            if marked is not None:
                changed[name] = marked
        return [block.with_columns(changed)] if changed else [block]

    def _judge(self, name: str, column: Column, block: Block, groups: Groups) -> Column | None:
        table = self.table(name)
        codes = np.empty(block.rows, dtype=np.uint8)
        marked = validate(
            numbers(column), codes_of(column), block.time, groups.slots,
            self._low, self._high, self._max_rate, self._stuck_ns,
            table["rate_value"], table["rate_time"], table["stuck_value"], table["stuck_since"],
            table["seen"], codes,
        )  # fmt: skip
        return column_with(column, codes) if marked else None

    def _count_missing(self, block: Block) -> None:
        for name in self._options.names:
            index = find(block.schema, name)
            missing = block.rows
            if index >= 0:
                codes = block.columns[index].quality
                missing = 0 if codes is None else int(np.isin(codes, (q.MISSING, q.ABSENT)).sum())
            if missing:
                if not self.counts[f"missing:{name}"]:
                    log.warning("step validate: required field `%s` is missing in %d rows", name, missing)
                self.counts[f"missing:{name}"] += missing
