"""The step `smooth`: exponential smoothing by time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forebay.blocks import Block, Column, Type
from forebay.config.preprocess import SmoothOptions
from forebay.preprocess.arrays import codes_of, numbers
from forebay.preprocess.base import FieldChoice, KeyedWorker
from forebay.preprocess.state import Table
from forebay_core.filters import smooth


class SmoothWorker(KeyedWorker):
    """Puts the smoothed level in the place of each value; integers become f64, quality stays as it is.

    Null and bad cells pass as they are and are not part of the level. When a key's time goes back, its
    level starts anew; rows of keys without state pass as they are.
    """

    def __init__(self, options: SmoothOptions, key: str, max_keys: int) -> None:
        super().__init__(key, max_keys)
        self._tau_ns = float(options.tau)
        self._decimals = options.decimals
        self._choice = FieldChoice("smooth", options.names, key)

    def new_table(self) -> Table:
        """See KeyedWorker."""
        return Table(level=(np.float64, 0.0, ()), time=(np.int64, 0, ()), seen=(np.uint8, 0, ()))

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        chosen = self._choice.of(block.schema)
        if not chosen:
            return [block]
        groups = self.slots.groups(block)
        fields, columns = list(block.schema.fields), list(block.columns)
        for index in chosen:
            column, table = columns[index], self.table(fields[index].name)
            values = np.empty(block.rows, dtype=np.float64)
            smooth(
                numbers(column), codes_of(column), block.time, groups.slots, self._tau_ns,
                table["level"], table["time"], table["seen"], values,
            )  # fmt: skip
            if self._decimals is not None:
                values = np.round(values, self._decimals)
            columns[index] = Column(values, None, column.quality)
            fields[index] = replace(fields[index], type=Type.F64)
        schema = replace(block.schema, fields=tuple(fields))
        return [replace(block, schema=schema, columns=tuple(columns))]
