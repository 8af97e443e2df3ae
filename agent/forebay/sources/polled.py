"""Rows of sources that ask for values themselves, so that they know names, types and units beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.fields import FieldOptions
from forebay.sources.context import SourceContext

_CONVERSIONS = {(Type.I64, Type.F64), (Type.BOOL, Type.I64), (Type.F64, Type.I64)}
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Value:
    """A cell without a value: why."""

    code: int


MISSING, DEVICE_ERROR = Value(q.MISSING), Value(q.DEVICE_ERROR)


@dataclass(slots=True)
class _Known:
    field: Field
    decimals: int | None


class PolledRows:
    """Turns readings by name into blocks of one stream. What a pipeline declares of a field goes before.

    Fields are added as they come and never taken away, so that a sensor that is gone leaves nulls.
    """

    def __init__(self, context: SourceContext, key: str = "") -> None:
        self._context = context
        self._key = context.key or key
        self._known: dict[str, _Known] = {}
        self._by_source = {(o.from_ or name): (name, o) for name, o in context.fields.items()}
        self._schema: Schema | None = None

    def add(self, name: str, type_: Type, unit: str = "", description: str = "") -> None:
        """Make a field known; a second time changes nothing."""
        if name in self._known:
            return
        shown, options = self._by_source.get(name, (name, FieldOptions()))
        wanted = options.type if options.type is not None and _converts(type_, options.type) else type_
        if options.decimals is not None and type_ is Type.I64 and options.type is None:
            wanted = Type.F64
        self._known[name] = _Known(
            Field(
                shown,
                wanted,
                unit=options.unit or unit,
                grade=options.grade,
                description=options.description or description,
                identifier=options.identifier,
                classes=tuple(options.classes),
                given=name if shown != name else "",
            ),
            options.decimals,
        )
        self._schema = None

    def block(self, times: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> Block:
        """Return the rows as a block; what a row lacks is null(missing)."""
        if self._schema is None:
            fields = tuple(known.field for known in self._known.values())
            shown = self._by_source.get(self._key, (self._key, None))[0]
            self._schema = Schema(self._context.stream, fields, shown, "gateway")
        columns = tuple(
            _column(known, [row.get(name, MISSING) for row in rows]) for name, known in self._known.items()
        )
        return Block(self._schema, np.array(times, dtype=np.int64), columns)


def _converts(has: Type, wanted: Type) -> bool:
    """Tell whether every value of one type is one of another, or is marked where it is not."""
    return has is wanted or (has, wanted) in _CONVERSIONS


def _column(known: _Known, cells: Iterable[Any]) -> Column:
    type_ = known.field.type
    values: list[Any] = []
    codes: list[int] = []
    for cell in cells:
        value, code = _convert(cell, type_, known.decimals)
        values.append(value)
        codes.append(code)
    return Column.of(type_, values, np.array(codes, dtype=np.uint8))


def _convert(cell: Any, type_: Type, decimals: int | None) -> tuple[Any, int]:
    if isinstance(cell, Value):
        return None, cell.code
    if cell is None:
        return None, q.NULL
    if type_ is Type.F64:
        number = float(cell)
        if number != number:
            return None, q.NAN
        return number if decimals is None else round(number, decimals), q.GOOD
    if type_ is Type.I64:
        if cell != cell:
            return None, q.NAN
        if isinstance(cell, float) and not cell.is_integer():
            return None, q.TYPE
        return (int(cell), q.GOOD) if int(cell) in _INT64 else (None, q.OVERFLOW)
    return cell, q.GOOD
