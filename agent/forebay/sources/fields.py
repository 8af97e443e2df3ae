"""The fields of a stream as its source learns them: names, types, and which column a cell goes to.

A field that was declared has its type. Any other takes the type of what comes first and keeps it, also
through a restart (`state`, `restore`). What does not fit goes, unharmed, to a column beside it:

=====================  ==========================================================================
column has             and there comes
=====================  ==========================================================================
i64                    a decimal: the column becomes f64 if all its integers are exact there
                       (|int| <= 2^53), else the decimal goes to NAME_f64
f64                    an integer beyond 2^53: NAME_i64
i64, f64, bool         text, an array, an integer beyond int64, digits with leading zeros: NAME_str
i64, f64, bool         of the three what is not its own: NAME_bool, NAME_i64, NAME_f64
str                    anything: its text as it stands
=====================  ==========================================================================

In a declared column that is null, bad(type), or bad(overflow) for an integer beyond int64; i64 takes
decimals that are whole (5.0), bool takes 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import MAX_BYTES_BYTES, Block, Column, Field, I64Array, Schema, Type, U8Array
from forebay.config.fields import FieldOptions
from forebay.errors import InputError
from forebay.redact import is_telling
from forebay.sources.base64_cells import from_base64
from forebay_core.row_codes import ROOT, ColumnType, Dest, Kind, Role, TakenColumn
from forebay_core.rows import RowParser

SYSTEM_COLUMNS = frozenset({"time", "quality", "quality_detail", "gateway", "epoch", "seq"})
MAX_FIELDS = 1_000  # columns of a stream; what comes under further names is counted as rejected, `fields`
MAX_NAME = 128  # characters of a column's name
SET_APART = (
    "\ufdd0"  # ends a key that must not have the name it spells: a noncharacter, which no text exchanges
)

_BASE64_LIMIT = MAX_BYTES_BYTES // 3 * 4 + 4
Path = tuple[bytes, ...]
_COLUMN_TYPES = {
    Type.F64: ColumnType.F64, Type.I64: ColumnType.I64, Type.BOOL: ColumnType.BOOL,
    Type.STR: ColumnType.STR, Type.BYTES: ColumnType.STR,
}  # fmt: skip
_NUMBERS = frozenset({Kind.INT, Kind.LONG, Kind.HUGE, Kind.FLOAT, Kind.PADDED})
_EVERYTHING = frozenset(Kind(k) for k in range(8))
_DECLARED_TAKES = {
    Type.F64: _NUMBERS, Type.I64: _NUMBERS, Type.BOOL: frozenset({Kind.BOOL, Kind.INT}),
    Type.STR: _EVERYTHING, Type.BYTES: frozenset({Kind.TEXT}),
}  # fmt: skip
_LEARNED_TAKES = {
    Type.F64: frozenset({Kind.INT, Kind.FLOAT}), Type.I64: frozenset({Kind.INT, Kind.LONG}),
    Type.BOOL: frozenset({Kind.BOOL}), Type.STR: _EVERYTHING,
}  # fmt: skip
_TYPE_OF_KIND = {Kind.BOOL: Type.BOOL, Kind.INT: Type.I64, Kind.LONG: Type.I64, Kind.FLOAT: Type.F64}


@dataclass(slots=True)
class _Slot:
    """One column of the parser. `type` is None while only nulls came."""

    field: Field
    type: Type | None
    declared: FieldOptions | None = None


@dataclass(slots=True)
class _Entry:
    """One key of the source: its columns by number, the first one gets nulls."""

    path: Path
    columns: list[int] = field(default_factory=list)


class StreamFields:
    """Names, types and columns of one stream, kept in step with a RowParser.

    Parameters
    ----------
    parser : RowParser
        Fresh: it gets a column for each declared field and the key.
    stream : str
        Name of the stream.
    declared : mapping of name to FieldOptions
        A pipeline's `fields:`.
    key : str
        Name of the field that tells devices apart, or empty. Its values are text unless declared otherwise.
    time_field : str
        Name of the field that holds the time, or empty: the gateway stamps.
    """

    def __init__(
        self,
        parser: RowParser,
        stream: str,
        declared: Mapping[str, FieldOptions],
        key: str = "",
        time_field: str = "",
    ) -> None:
        self._parser = parser
        self._stream, self._key, self._time_field = stream, key, time_field
        self._slots: list[_Slot] = []
        self._entries: dict[int, _Entry] = {}
        self._taken: set[str] = set(SYSTEM_COLUMNS)
        self._unbound: dict[str, int] = {}  # declared fields by the folded name in the source
        self._time_node = -1
        self._schema: Schema | None = None
        self.version = 0
        wanted = dict(declared)
        if key and key not in wanted:
            wanted[key] = FieldOptions(type=Type.STR)
        for name, options in wanted.items():
            given = options.from_ or name
            if time_field and given == time_field:
                continue  # it is the row's time, not a field
            known = Type.STR if name == key and options.known_type is None else options.known_type
            number = self._add_slot(name, known, given if given != name else "", options)
            self._unbound.setdefault(given.casefold(), number)

    # -- learning ------------------------------------------------------------------------------------------

    def resolve(self, node: int, kind: Kind) -> None:
        """Give a kind of cell of a node somewhere to go: called when the parser stops there."""
        self.version += 1
        entry = self._entries.get(node)
        if entry is None:
            entry = self._bind(node)
            if entry is None:
                return
            if entry.columns and self._slots[entry.columns[0]].type is not None:
                self._route(node, entry)
                return
        if kind is Kind.NULL:
            if not entry.columns and not self._add_column(entry, None):
                self._ignore(node)
                return
        else:
            self._learn(node, entry, kind)
        self._route(node, entry)

    def infer(self, node: int, seen: int) -> None:
        """Fix the type of a CSV column from the kinds (bits) that its first rows had."""
        kinds = {kind for kind in _EVERYTHING if seen >> kind & 1}
        types = {_TYPE_OF_KIND.get(kind, Type.STR) for kind in kinds}
        entry = self._entries[node]
        if types:
            chosen = Type.STR
            if len(types) == 1:
                chosen = types.pop()
            elif types == {Type.I64, Type.F64}:
                chosen = Type.F64
            self._set_type(entry.columns[0], chosen)
            self.version += 1
        self._route(node, entry)

    def add_csv_column(self, name: str) -> tuple[int, int]:
        """Return the node of a header cell and, if its type is still open, its column to watch (else -1)."""
        node = self._parser.add_node(ROOT, name.encode())
        if node < 0:
            raise InputError(
                "the CSV header has too many columns", hint=f"a stream may have {MAX_FIELDS} fields"
            )
        if node == self._time_node:
            return node, -1
        entry = self._entries.get(node)
        if entry is None:
            entry = self._bind(node)
            if entry is None:
                return node, -1
        if not entry.columns and not self._add_column(entry, None):
            self._ignore(node)
            return node, -1
        self._route(node, entry)
        column = entry.columns[0]
        if self._slots[column].type is not None:
            return node, -1
        self._parser.set_node(node, Role.FIELD, column, [column] * 8)
        return node, column

    def _bind(self, node: int) -> _Entry | None:
        path = self._parser.node_path(node)
        given = _given(path)
        meant = "" if _is_apart(path) else given.casefold()
        if self._time_field and self._time_node < 0 and meant == self._time_field.casefold():
            self._time_node = node
            self._parser.set_node(node, Role.TIME, Dest.IGNORE, [Dest.IGNORE] * 8)
            return None
        entry = _Entry(path)
        self._entries[node] = entry
        number = self._unbound.pop(meant, None)
        if number is not None:
            entry.columns.append(number)
            slot = self._slots[number]
            if slot.field.name != given:
                slot.field = replace(slot.field, given=given)
                self._schema = None
        return entry

    def _learn(self, node: int, entry: _Entry, kind: Kind) -> None:
        wanted = _TYPE_OF_KIND.get(kind, Type.STR)
        if not entry.columns:
            if not self._add_column(entry, wanted):
                self._ignore(node)
            return
        first = entry.columns[0]
        if self._slots[first].type is None:
            self._set_type(first, wanted)
            return
        exact = not self._parser.seen(first) >> Kind.LONG & 1
        if self._slots[first].type is Type.I64 and kind is Kind.FLOAT and exact:
            self._set_type(first, Type.F64)
            return
        if all(self._slots[c].type is not wanted for c in entry.columns):
            self._add_column(entry, wanted)

    def _route(self, node: int, entry: _Entry) -> None:
        """Tell the parser where each kind of a node goes."""
        if not entry.columns:
            return
        first = entry.columns[0]
        slot = self._slots[first]
        dest = [int(Dest.STOP)] * 8
        if slot.type is None:
            pass
        elif slot.declared is not None and self._is_fixed(slot):
            takes = _DECLARED_TAKES[slot.type]
            dest = [first if kind in takes else int(Dest.TYPE) for kind in sorted(_EVERYTHING)]
        else:
            for column in reversed(entry.columns):
                kind_type = self._slots[column].type
                assert kind_type is not None
                takes = _LEARNED_TAKES[kind_type]
                if kind_type is Type.STR and column != first:
                    takes = frozenset(k for k in _EVERYTHING if k not in _TYPE_OF_KIND)
                for kind in takes:
                    dest[kind] = column
            if len(self._slots) >= MAX_FIELDS:
                dest = [int(Dest.IGNORE) if d == Dest.STOP else d for d in dest]
                if slot.type is Type.I64 and not self._parser.seen(first) >> Kind.LONG & 1:
                    dest[Kind.FLOAT] = int(Dest.STOP)  # may still widen in place
        self._parser.set_node(node, Role.FIELD, first, dest)

    def _is_fixed(self, slot: _Slot) -> bool:
        assert slot.declared is not None
        return slot.declared.known_type is not None or slot.field.name == self._key

    def _ignore(self, node: int) -> None:
        self._parser.set_node(node, Role.FIELD, Dest.IGNORE, [Dest.IGNORE] * 8)

    # -- columns -------------------------------------------------------------------------------------------

    def _add_slot(self, name: str, type_: Type | None, given: str, declared: FieldOptions | None) -> int:
        unique = self._unique(name)
        given = given or (name if unique != name else "")
        spec = describe(Field(unique, type_ or Type.STR, given=given), declared)
        self._slots.append(_Slot(spec, type_, declared))
        self._schema = None
        limit = _BASE64_LIMIT if type_ is Type.BYTES else 0
        return self._parser.add_column(ColumnType.ANY if type_ is None else _COLUMN_TYPES[type_], limit)

    def _add_column(self, entry: _Entry, type_: Type | None) -> bool:
        """Add a column for an entry; False if the stream has as many as it may."""
        if len(self._slots) >= MAX_FIELDS:
            return False
        given = _given(entry.path)
        name = given or "_"
        if entry.columns:
            name = f"{self._slots[entry.columns[0]].field.name}_{type_}"
        elif _is_apart(entry.path):
            name = f"{name[: MAX_NAME - 2]}_2"
        entry.columns.append(self._add_slot(name, type_, given if name != given else "", None))
        return True

    def _set_type(self, column: int, type_: Type) -> None:
        slot = self._slots[column]
        self._parser.set_type(column, _COLUMN_TYPES[type_])
        slot.type = type_
        slot.field = replace(slot.field, type=type_)
        self._schema = None

    def _unique(self, name: str) -> str:
        base, count = name[:MAX_NAME], 1
        unique = base
        while unique.casefold() in self._taken:
            count += 1
            unique = f"{base}_{count}"
        self._taken.add(unique.casefold())
        return unique

    # -- blocks --------------------------------------------------------------------------------------------

    @property
    def schema(self) -> Schema:
        """Schema of the next block."""
        if self._schema is None:
            self._schema = Schema(
                self._stream,
                tuple(slot.field for slot in self._slots if slot.type is not None),
                self._key,
                "device" if self._time_field else "gateway",
            )
        return self._schema

    def block(self, time: I64Array, taken: list[TakenColumn]) -> Block:
        """Make a block of what the parser gave."""
        columns = tuple(
            _column(slot, raw) for slot, raw in zip(self._slots, taken, strict=True) if slot.type is not None
        )
        return Block(self.schema, time, columns)

    # -- state ---------------------------------------------------------------------------------------------

    def state(self) -> list[Any]:
        """Return what `restore` needs so that no type changes with a restart (msgpack types only).

        It is stored as it is: a key that holds an identifier is left out, and its type learned anew.
        """
        return [
            [
                list(entry.path),
                [
                    [slot.field.name, "" if slot.type is None else str(slot.type), self._parser.seen(number)]
                    for number, slot in ((c, self._slots[c]) for c in entry.columns)
                ],
            ]
            for entry in self._entries.values()
            if not is_telling(_given(entry.path))
        ]

    def restore(self, state: list[Any]) -> None:
        """Take over a state. What was declared since keeps its declaration.

        Raises
        ------
        InputError
            If it is not a state.
        """
        try:
            for path, columns in state:
                node = ROOT
                for key in path:
                    node = self._parser.add_node(node, key)
                if path and node >= 0:
                    self._restore_entry(node, columns)
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError("the saved state of the source cannot be read") from error

    def _restore_entry(self, node: int, columns: list[list[Any]]) -> None:
        entry = self._bind(node)
        if entry is None:
            return
        if entry.columns:  # declared now
            slot = self._slots[entry.columns[0]]
            if slot.type is not None:
                self._route(node, entry)
                return
        for i, (name, type_, seen) in enumerate(columns):
            kind_type = Type(type_) if type_ else None
            if i == 0 and entry.columns:
                if kind_type is not None:
                    self._set_type(entry.columns[0], kind_type)
            elif len(self._slots) < MAX_FIELDS:
                given = _given(entry.path)
                entry.columns.append(self._add_slot(name, kind_type, given if name != given else "", None))
            self._parser.mark_seen(entry.columns[-1], seen)
        self._route(node, entry)


def describe(spec: Field, options: FieldOptions | None) -> Field:
    """Return the field with what a pipeline declares of it; its type stays."""
    if options is None:
        return spec
    return replace(
        spec,
        unit=options.unit,
        grade=options.grade,
        description=options.description,
        identifier=options.identifier,
        classes=tuple(options.classes),
        media=options.media or spec.media,
    )


def _given(path: Path) -> str:
    """Name of a key as the source has it. After a NUL stands the number of a repeated CSV header."""
    return ".".join(key.split(b"\0")[0].decode("utf-8", "replace").split(SET_APART)[0] for key in path)


def _is_apart(path: Path) -> bool:
    return path[-1].endswith(SET_APART.encode())


def _column(slot: _Slot, raw: TakenColumn) -> Column:
    values, offsets, codes = raw
    quality = None if codes is None else np.frombuffer(codes, np.uint8)
    if quality is not None and slot.declared is None:
        quality = _unpromised(quality, slot.type)
    if slot.type is Type.F64:
        numbers = np.frombuffer(values, np.float64)
        if slot.declared is not None and slot.declared.decimals is not None:
            numbers = _round(numbers, slot.declared.decimals)
        return Column(numbers, None, quality)
    if slot.type is Type.I64:
        return Column(np.frombuffer(values, np.int64), None, quality)
    if slot.type is Type.BOOL:
        return Column(np.frombuffer(values, np.int64).astype(np.uint8), None, quality)
    assert offsets is not None, "a text column has offsets: it is no ANY that a declaration alone typed"
    ends = np.frombuffer(offsets, np.int64)
    if slot.type is Type.BYTES:
        return from_base64(values, ends, quality)
    return Column(np.frombuffer(values, np.uint8), ends, quality)


def _unpromised(quality: U8Array, type_: Type | None) -> U8Array:
    """Say of a field that nobody declared that a row may lack it, and that a text may be empty: neither is bad."""
    lacking = quality == q.MISSING
    if type_ is Type.STR:
        lacking |= quality == q.NULL
    return np.where(lacking, np.uint8(q.ABSENT), quality) if lacking.any() else quality


def _round(values: np.ndarray[Any, np.dtype[np.float64]], decimals: int) -> Any:
    power = 10.0**decimals
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.rint(values * power) / power
    return np.where(np.isfinite(rounded), rounded, values)
