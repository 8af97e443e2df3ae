"""Where a stream's readings go in an SQL sink: table and column names, types, and what does not fit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from forebay.blocks import Field, Schema, Type

SYSTEM_COLUMNS = ("time", "quality", "quality_detail", "gateway", "epoch", "seq")
SYSTEM_TABLES = (
    "batches", "gaps", "boots", "columns", "unplaced", "marks", "bodies", "store", "checkpoints",
    "gateway_streams", "clock_corrections", "positions", "models",
)  # fmt: skip
MOST_COLUMNS = 1_000  # SQLite's own limit is 2,000
_RESERVED_PREFIX = re.compile(r"sqlite_", re.IGNORECASE)


def table_name(stream: str) -> str:
    """Return the table of a stream: its own name unless that belongs to the system."""
    folded = stream.casefold()
    if folded in SYSTEM_TABLES or _RESERVED_PREFIX.match(folded) or folded.endswith("_corrected"):
        return f"{stream}_stream"
    return stream


def column_name(field_name: str, taken: set[str]) -> str:
    """Return a column name that differs, case-folded, from system columns and those in `taken`."""
    name, number = field_name, 2
    while name.casefold() in SYSTEM_COLUMNS or name.casefold() in taken:
        name = f"{field_name}_{number}"
        number += 1
    return name


@dataclass(slots=True)
class Placed:
    """A stream's table as it stands: field name (case-folded) to column, type and unit."""

    table: str
    columns: dict[str, str] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def misfit(self, schema: Schema) -> str:
        """Return why a batch of this schema cannot stand in the table, empty if it can."""
        new = 0
        for f in schema.fields:
            name = f.name.casefold()
            if name not in self.columns:
                new += 1
                continue
            if not compatible(self.types[name], f.type):
                return f"type of {f.name}: the table has {self.types[name]}, the batch {f.type}"
            if self.units[name] and f.unit and self.units[name] != f.unit:
                return f"unit of {f.name}: the table has {self.units[name]!r}, the batch {f.unit!r}"
        if len(self.columns) + new > MOST_COLUMNS:
            return f"more than {MOST_COLUMNS} columns"
        return ""

    def wider(self, schema: Schema) -> list[Field]:
        """Return the fields that bring f64 to a column of integers."""
        return [
            f for f in schema.fields if f.type is Type.F64 and self.types.get(f.name.casefold()) is Type.I64
        ]

    def missing(self, schema: Schema) -> list[Field]:
        """Return the fields that have no column yet."""
        return [f for f in schema.fields if f.name.casefold() not in self.columns]


def compatible(old: Type, new: Type) -> bool:
    """Return whether values of both types may share a column: the same, or integers widened to f64."""
    return old == new or {old, new} == {Type.I64, Type.F64}


def described(f: Field) -> tuple[str, ...]:
    """Return what `columns` says of a field, behind the names."""
    grade = "" if f.grade is None else str(f.grade)
    classes = ",".join(f.classes)
    return (f.given or f.name, str(f.type), f.unit, grade, classes, f.description, f.identifier, f.model)
