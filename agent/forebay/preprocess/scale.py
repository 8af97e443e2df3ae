"""The step `scale`: other units."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np

from forebay.blocks import Block, Column, Field, Type
from forebay.config.preprocess import ScaleOptions
from forebay.preprocess.arrays import codes_of, numbers
from forebay.preprocess.base import FieldChoice, Worker
from forebay_core.signal import scale

_EXACT = 2**53  # integers up to here are exact in a double


def line(options: ScaleOptions) -> tuple[float, float, float]:
    """Return (multiply, add, divide) of (value * multiply + add) / divide.

    Decimal factors become a quotient of integers: 3 * 0.1 is 0.30000000000000004, 3 / 10 is 0.3. That keeps
    readings the decimals they are, and decimals take a third of the bytes on the wire.
    """
    if options.raw is not None and options.to is not None:
        (raw_low, raw_high), (low, high) = options.raw, options.to
        span = raw_high - raw_low
        return high - low, low * span - raw_low * (high - low), span
    factor = 1.0 if options.factor is None else options.factor
    offset = options.offset or 0.0
    exact = [Decimal(repr(value)) for value in (factor, offset)]
    places = max(0, *(-int(value.as_tuple().exponent) for value in exact))
    multiply, add = (value * 10**places for value in exact)
    if places <= 15 and abs(multiply) <= _EXACT and abs(add) <= _EXACT:
        return float(multiply), float(add), 10.0**places
    return factor, offset, 1.0


class ScaleWorker(Worker):
    """Applies a straight line; integers become f64, nulls stay null, quality stays as it is."""

    def __init__(self, options: ScaleOptions, key: str) -> None:
        super().__init__()
        self._unit = options.unit
        self._line = line(options)
        self._choice = FieldChoice("scale", options.names, key)

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        chosen = self._choice.of(block.schema)
        if not chosen:
            return [block]
        fields, columns = list(block.schema.fields), list(block.columns)
        for index in chosen:
            column = columns[index]
            values = np.empty(block.rows, dtype=np.float64)
            scale(numbers(column), codes_of(column), *self._line, values)
            columns[index] = Column(values, None, column.quality)
            fields[index] = self._field(fields[index])
        schema = replace(block.schema, fields=tuple(fields))
        return [replace(block, schema=schema, columns=tuple(columns))]

    def _field(self, field: Field) -> Field:
        return replace(field, type=Type.F64, unit=field.unit if self._unit is None else self._unit)
