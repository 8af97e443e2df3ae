"""Cells to columns for the twin of `_rows`: `_row_cells.pxd` and `_row_text.pxd` in Python."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from itertools import accumulate

from forebay_core import row_codes as c
from forebay_core.reference.numbers import Number, lex_number, parse_iso
from forebay_core.row_codes import ColumnType, Dest, Kind, Reason, Role, TakenColumn

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|(.))", re.DOTALL)
_SIMPLE = {34: 34, 92: 92, 47: 47, ord("n"): 10, ord("t"): 9, ord("r"): 13, ord("b"): 8, ord("f"): 12}
_EXACT = 1 << 53

Value = float | bytes


class Bad(Exception):
    """The record is broken."""

    def __init__(self, reason: Reason = Reason.LINE) -> None:
        self.reason = reason


class Stop(Exception):
    """A cell has no destination."""


@dataclass(slots=True)
class Column:
    type: int
    limit: int
    seen: int = 0
    cells: dict[int, tuple[Value, int]] = field(default_factory=dict)  # by row: value, code


@dataclass(slots=True)
class Node:
    parent: int
    key: bytes
    role: int = Role.FIELD
    primary: int = Dest.STOP
    dest: list[int] = field(default_factory=lambda: [int(Dest.STOP)] * c.KINDS)


def unescape(raw: bytes, still_json: bool) -> bytes:
    """Decode escapes; see `unescape` in _text.pxd."""
    out, at = bytearray(), 0
    while at < len(raw):
        start = raw.find(b"\\", at)
        if start < 0:
            break
        out += raw[at:start]
        match = _ESCAPE.match(raw, start)
        if match is None or match[3] == b"u":
            raise Bad
        at = match.end()
        if match[3] is not None:
            if match[3][0] not in _SIMPLE:
                raise Bad
            out += match.group() if still_json and match[3] != b"/" else bytes([_SIMPLE[match[3][0]]])
            continue
        code = int(match[1], 16)
        if match[2] is not None:
            if 0xD800 <= code < 0xDC00:
                code = 0x10000 + ((code - 0xD800) << 10) + int(match[2], 16) - 0xDC00
            else:
                at -= 6  # the second escape stands for itself
        if still_json and code and (code < 0x20 or code in (34, 92)):
            out += raw[at - 6 : at]
        elif code == 0 or 0xD800 <= code <= 0xDFFF:
            out += b"\xef\xbf\xbd"
        else:
            out += chr(code).encode()
    return bytes(out + raw[at:])


class Cells:
    """Columns, nodes and the row that is being filled."""

    _timed: bool
    _power: int
    _allow_naive: bool

    def __init__(self) -> None:
        self._columns: list[Column] = []
        self._nodes: list[Node] = []
        self.stop_node, self.stop_kind = -1, -1
        self._cells = self._ignored_here = 0
        self._time = 0
        self._time_problem: Reason | None = None
        self._naive = False
        self._row = 0

    def _null(self, column: Column, code: int, taken: bool = True) -> None:
        """Make a cell null; `taken`: it had been counted as a value."""
        column.cells[self._row] = (b"" if column.type == ColumnType.STR else 0, code)
        self._cells -= taken

    def _column_for(self, node: int, kind: Kind) -> Column | None:
        """Return the column of a kind, None if the cell is done with."""
        target = self._nodes[node].dest[kind]
        if target >= 0:
            self._cells += 1
            column = self._columns[target]
            column.seen |= 1 << kind
            if column.type != ColumnType.ANY:
                return column
            self._put(column, 1 << kind)
            return None
        if target == Dest.STOP:
            self._cells += 1
            self._note_stop(node, kind)
            return None
        if target == Dest.IGNORE:
            self._ignored_here += 1
        else:
            code = c.TYPE if target == Dest.TYPE else c.OVERFLOW
            self._null(self._columns[self._nodes[node].primary], code, taken=False)
        return None

    def _note_stop(self, node: int, kind: Kind) -> None:
        if self.stop_node < 0:
            self.stop_node, self.stop_kind = node, kind

    def _store_null(self, node: int, code: int) -> None:
        primary = self._nodes[node].primary
        if primary >= 0:
            self._null(self._columns[primary], code, taken=False)
        elif primary == Dest.STOP:
            self._note_stop(node, Kind.NULL)

    def _put(self, column: Column, value: Value) -> None:
        column.cells[self._row] = (value, 0)

    def _put_text(self, column: Column, raw: bytes) -> None:
        text = raw.replace(b"\0", b"\xef\xbf\xbd")
        if len(text) > column.limit:
            self._null(column, c.SIZE)
        else:
            self._put(column, text)

    def _store_text(self, node: int, kind: Kind, raw: bytes, *, escaped: bool) -> None:
        column = self._column_for(node, kind)
        if column is not None:
            self._put_text(column, unescape(raw, kind is Kind.JSON) if escaped else raw)

    def _store_number(self, node: int, number: Number) -> None:
        kind, whole = Kind.FLOAT, None
        if number.integer:
            whole = number.int64()
            if number.padded or (number.plus and len(number.whole) >= 10):
                kind = Kind.PADDED
            elif whole is None:
                kind = Kind.HUGE
            else:
                kind = Kind.INT if -_EXACT <= whole <= _EXACT else Kind.LONG
        column = self._column_for(node, kind)
        if column is None:
            return
        if column.type == ColumnType.F64:
            self._put(column, float(number.text))
        elif column.type == ColumnType.I64:
            self._store_whole(column, number, whole)
        elif column.type == ColumnType.STR:
            self._put_text(column, number.text)
        elif number.integer and whole in (0, 1):
            self._put(column, whole)
        else:
            self._null(column, c.TYPE)

    def _store_whole(self, column: Column, number: Number, whole: int | None) -> None:
        if number.integer:
            if whole is None:
                self._null(column, c.OVERFLOW)
            else:
                self._put(column, whole)
            return
        value = float(number.text)
        if abs(value) <= _EXACT and value == math.floor(value):
            self._put(column, int(value))
        else:
            self._null(column, c.TYPE)

    def _store_bool(self, node: int, flag: bool, raw: bytes) -> None:
        column = self._column_for(node, Kind.BOOL)
        if column is None:
            return
        if column.type == ColumnType.STR:
            self._put_text(column, raw)
        else:
            self._put(column, int(flag))

    def _store_special(self, node: int, value: float, raw: bytes) -> None:
        column = self._column_for(node, Kind.FLOAT)
        if column is None:
            return
        if column.type == ColumnType.STR:
            self._put_text(column, raw)
        elif math.isnan(value):
            self._null(column, c.NAN)
        elif column.type == ColumnType.F64:
            self._put(column, value)
        else:
            self._null(column, c.TYPE)

    def _store_time(self, text: bytes, *, number: bool) -> None:
        self._time_problem = self._read_time(text, number)

    def _read_time(self, text: bytes, number: bool) -> Reason | None:
        text = text.strip(b" \t")
        self._naive = False
        if self._power != c.ISO:
            lexed = lex_number(text, 0, len(text), False) if text else None
            value = lexed.scaled(self._power) if lexed is not None and lexed.text == text else None
            if value is None:
                return Reason.TIME
        elif number:
            return Reason.TIME_NUMBER
        else:
            parsed = parse_iso(text)
            if parsed is None:
                return Reason.TIME
            value, self._naive = parsed
            if self._naive and not self._allow_naive:
                return Reason.TIME_NAIVE
        self._time = value
        return None

    def _take_column(self, column: Column) -> TakenColumn:
        missing: tuple[Value, int] = (b"" if column.type == ColumnType.STR else 0, c.MISSING)
        cells = [column.cells.get(row, missing) for row in range(self._row)]
        codes = bytes(code for _, code in cells)
        quality = codes if any(codes) else None
        if column.type == ColumnType.STR:
            texts = [value if isinstance(value, bytes) else b"" for value, _ in cells]
            ends = [0, *accumulate(len(text) for text in texts)]
            return b"".join(texts), struct.pack(f"<{len(ends)}q", *ends), quality
        layout = "d" if column.type == ColumnType.F64 else "q"
        return struct.pack(f"<{len(cells)}{layout}", *(value for value, _ in cells)), None, quality
