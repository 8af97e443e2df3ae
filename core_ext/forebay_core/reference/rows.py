"""Twin of `_rows` in plain Python. See _rows.pyi."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from forebay_core import row_codes as c
from forebay_core.reference.cells import Bad, Cells, Column, Node, Stop, unescape
from forebay_core.reference.numbers import lex_number
from forebay_core.row_codes import Buffer, ColumnType, Dest, Kind, Reason, Role, Status, TakenColumn

_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING = re.compile(rb'(?:[^"\\\x00-\x1f]|\\.)*"', re.DOTALL)
_SPECIAL = {b"NaN": math.nan, b"Infinity": math.inf, b"-Infinity": -math.inf}
_NULL_WORDS = frozenset({b"null", b"none", b"na", b"n/a", b"-", b"--"})
_CSV_SPECIAL = {b"nan": math.nan, b"inf": math.inf, b"infinity": math.inf}


class RowParser(Cells):
    """See _rows.pyi."""

    def __init__(
        self, max_rows: int = 1000, max_record: int = 1 << 20, max_str: int = 65536, max_nodes: int = 4096
    ) -> None:
        super().__init__()
        self._max_rows, self._max_record, self._max_str = max_rows, max_record, max_str
        self._max_nodes = max_nodes
        self._by_key: dict[tuple[int, bytes], int] = {}
        self._header: list[int] = []
        self._delimiter = b","
        self._timed, self._power, self._allow_naive = False, c.ISO, False
        self._rejects: list[tuple[int, int, int, int]] = []
        self._found = 0
        self.clear()

    @property
    def rows(self) -> int:
        """See _rows.pyi."""
        return self._row

    @property
    def ignored(self) -> int:
        """See _rows.pyi."""
        return self._ignored

    def set_time(self, required: bool, power: int, allow_naive: bool) -> None:
        """See _rows.pyi."""
        self._timed, self._power, self._allow_naive = required, power, allow_naive

    def add_column(self, column_type: int, limit: int = 0) -> int:
        """See _rows.pyi."""
        self._columns.append(Column(int(column_type), limit or self._max_str))
        return len(self._columns) - 1

    def set_type(self, column: int, column_type: int) -> None:
        """See _rows.pyi."""
        target = self._column(column)
        if target.type == ColumnType.I64 and column_type == ColumnType.F64:
            target.cells = {
                row: (float(value) if isinstance(value, int) else value, code)
                for row, (value, code) in target.cells.items()
            }
        elif target.type != ColumnType.ANY:
            raise ValueError("the type of a column is fixed")
        target.type = int(column_type)

    def seen(self, column: int) -> int:
        """See _rows.pyi."""
        return self._column(column).seen

    def mark_seen(self, column: int, bits: int) -> None:
        """See _rows.pyi."""
        self._column(column).seen |= bits

    def add_node(self, parent: int, key: bytes) -> int:
        """See _rows.pyi."""
        if parent != c.ROOT:
            self._node(parent)
        return self._find(parent, key, force=True)

    def node_path(self, node: int) -> tuple[bytes, ...]:
        """See _rows.pyi."""
        path: list[bytes] = []
        while node >= 0:
            path.append(self._node(node).key)
            node = self._nodes[node].parent
        return tuple(reversed(path))

    def set_node(self, node: int, role: int, primary: int, dest: Sequence[int]) -> None:
        """See _rows.pyi."""
        target = self._node(node)
        if len(dest) != c.KINDS:
            raise ValueError("one destination a kind")
        if any(not Dest.IGNORE <= d < len(self._columns) for d in (primary, *dest)):
            raise ValueError("no such column")
        if primary < 0 and (Dest.TYPE in dest or Dest.OVERFLOW in dest):
            raise ValueError("a null needs a column")
        target.role, target.primary, target.dest = role, primary, list(dest)

    def set_header(self, nodes: Iterable[int], delimiter: int) -> None:
        """See _rows.pyi."""
        header = list(nodes)
        for node in header:
            self._node(node)
        self._header, self._delimiter = header, bytes([delimiter])

    def _column(self, column: int) -> Column:
        if not 0 <= column < len(self._columns):
            raise ValueError("no such column")
        return self._columns[column]

    def _node(self, node: int) -> Node:
        if not 0 <= node < len(self._nodes):
            raise ValueError("no such node")
        return self._nodes[node]

    def _find(self, parent: int, key: bytes, *, force: bool = False) -> int:
        node = self._by_key.get((parent, key))
        if node is not None:
            return node
        if (len(key) > c.MAX_KEY_BYTES and not force) or len(self._nodes) >= self._max_nodes:
            return -1
        self._nodes.append(Node(parent, key))
        self._by_key[parent, key] = len(self._nodes) - 1
        return len(self._nodes) - 1

    # -- records -------------------------------------------------------------------------------------------

    def parse_json(self, data: Buffer, spans: npt.NDArray[np.int64], first: int) -> tuple[Status | int, int]:
        """See _rows.pyi."""
        return self._parse(bytes(data), spans, first, csv=False)

    def parse_csv(self, data: Buffer, spans: npt.NDArray[np.int64], first: int) -> tuple[Status | int, int]:
        """See _rows.pyi."""
        return self._parse(bytes(data), spans, first, csv=True)

    def _parse(
        self, data: bytes, spans: npt.NDArray[np.int64], first: int, *, csv: bool
    ) -> tuple[Status, int]:
        if spans.shape[1] != 4 or first < 0:
            raise ValueError("spans are (n, 4)")
        bounds = spans.tolist()
        if any(not 0 <= s[0] <= s[1] <= len(data) for s in bounds[first:]):
            raise ValueError("a span is outside of the data")
        for at in range(first, len(bounds)):
            if self.rows == self._max_rows:
                return Status.FULL, at
            start, end, _, line = bounds[at]
            record = data[start:end]
            if not record or (not csv and not record.strip(b" \t\r\n")):
                continue
            try:
                self._read(record, csv=csv)
            except Stop:
                self._undo()
                return Status.STOPPED, at
            except Bad as bad:
                self._undo()
                if csv and b"\n" in record:
                    return Status.RESPLIT, at
                self._rejects.append((at, bad.reason, self._cells, self._found))
                continue
            self._times.append(self._time)
            self._local.append(self._naive)
            self._lines.append(line)
            self._row += 1
            self._ignored += self._ignored_here
        return Status.DONE, max(first, len(bounds))

    def _read(self, record: bytes, *, csv: bool) -> None:
        self._cells = self._ignored_here = self._found = 0
        self._time, self._naive, self.stop_node = 0, False, -1
        self._time_problem = Reason.TIME_MISSING if self._timed else None
        if len(record) > self._max_record:
            raise Bad(Reason.SIZE)
        try:
            record.decode()
        except UnicodeDecodeError:
            raise Bad(Reason.UTF8) from None
        if csv:
            self._read_cells(record)
        else:
            self._read_record(record)
        if self.stop_node >= 0 and self._time_problem in (None, Reason.TIME_MISSING):
            raise Stop  # the cell may turn out to be the time
        if self._time_problem is not None:
            raise Bad(self._time_problem)

    def _undo(self) -> None:
        for column in self._columns:
            column.cells.pop(self.rows, None)

    # -- JSON ----------------------------------------------------------------------------------------------

    def _read_record(self, text: bytes) -> None:
        at = _space(text, 0)
        if text[at : at + 1] != b"{":
            raise Bad
        if _space(text, self._read_object(text, at + 1, c.ROOT, 0)) != len(text):
            raise Bad

    def _read_object(self, text: bytes, at: int, parent: int, depth: int) -> int:
        at = _space(text, at)
        if text[at : at + 1] == b"}":
            return at + 1
        while True:
            if text[at : at + 1] != b'"':
                raise Bad
            end = _string_end(text, at + 1)
            node = self._find(parent, unescape(text[at + 1 : end - 1], still_json=False))
            at = _space(text, end)
            if text[at : at + 1] != b":":
                raise Bad
            at = _space(text, self._read_value(text, _space(text, at + 1), node, depth))
            if text[at : at + 1] == b"}":
                return at + 1
            if text[at : at + 1] != b",":
                raise Bad
            at = _space(text, at + 1)

    def _read_value(self, text: bytes, at: int, node: int, depth: int) -> int:
        first = text[at : at + 1]
        if not first:
            raise Bad
        if node < 0:
            end = self._skip(text, at, depth)
            self._ignored_here += 1
            return end
        is_time = self._nodes[node].role == Role.TIME
        if first == b"{" and depth < c.MAX_DEPTH and not is_time:
            return self._read_object(text, at + 1, node, depth + 1)
        if first == b'"':
            end = _string_end(text, at + 1)
            raw = text[at + 1 : end - 1]
            if is_time:
                self._store_time(unescape(raw, still_json=False), number=False)
            else:
                self._store_text(node, Kind.TEXT, raw, escaped=b"\\" in raw)
            return end
        if first in b"-0123456789":
            number = lex_number(text, at, len(text), True)
            if number is not None:
                if is_time:
                    self._store_time(number.text, number=True)
                else:
                    self._store_number(node, number)
                return at + len(number.text)
        end = self._skip(text, at, depth)
        raw = text[at:end]
        if is_time:
            self._time_problem = Reason.TIME
            return end
        if first == b"n":
            self._store_null(node, c.NULL)
        elif first in b"tf":
            self._store_bool(node, first == b"t", raw)
        elif first in b"[{":
            self._store_text(node, Kind.JSON, raw, escaped=b"\\" in raw)
        else:
            self._store_special(node, _SPECIAL[raw], raw)
        return end

    def _skip(self, text: bytes, at: int, depth: int) -> int:
        """Pass a value; raise if it is broken."""
        first = text[at : at + 1]
        if not first or depth > c.MAX_NESTING:
            raise Bad
        if first == b'"':
            end = _string_end(text, at + 1)
            unescape(text[at + 1 : end - 1], still_json=False)
            return end
        if first in b"{[":
            closing = b"}" if first == b"{" else b"]"
            at = _space(text, at + 1)
            if text[at : at + 1] == closing:
                return at + 1
            while True:
                if closing == b"}":
                    if text[at : at + 1] != b'"':
                        raise Bad
                    at = _space(text, self._skip(text, at, 0))
                    if text[at : at + 1] != b":":
                        raise Bad
                    at = _space(text, at + 1)
                at = _space(text, self._skip(text, at, depth + 1))
                if text[at : at + 1] == closing:
                    return at + 1
                if text[at : at + 1] != b",":
                    raise Bad
                at = _space(text, at + 1)
        for word in (b"true", b"null", b"false", *_SPECIAL):
            if text.startswith(word, at):
                return at + len(word)
        number = lex_number(text, at, len(text), True)
        if number is None:
            raise Bad
        return at + len(number.text)

    # -- CSV -----------------------------------------------------------------------------------------------

    def _read_cells(self, text: bytes) -> None:
        at = 0
        while True:
            if text[at : at + 1] == b'"':
                cell, at = _quoted(text, at + 1, self._delimiter)
            else:
                end = text.find(self._delimiter, at)
                end = len(text) if end < 0 else end
                cell, at = text[at:end], end
            if self._found < len(self._header):
                self._store_cell(self._header[self._found], cell)
            self._found += 1
            if at >= len(text):
                break
            at += 1
        if self._found != len(self._header):
            raise Bad(Reason.CELLS)

    def _store_cell(self, node: int, cell: bytes) -> None:
        target = self._nodes[node]
        if target.role == Role.TIME:
            if cell:
                self._store_time(cell, number=False)
            else:
                self._time_problem = Reason.TIME_MISSING
            return
        if target.primary >= 0 and self._columns[target.primary].type == ColumnType.STR and cell:
            self._store_text(node, Kind.TEXT, cell, escaped=False)
            return
        text = cell.strip(b" \t")
        word = text.lower()
        if not text:
            self._store_null(node, c.NULL)
            return
        number = lex_number(text, 0, len(text), False)
        if number is not None and number.text == text:
            self._store_number(node, number)
        elif word in _NULL_WORDS:
            self._store_null(node, c.NULL)
        elif word in (b"true", b"false"):
            self._store_bool(node, word == b"true", text)
        elif (word[1:] if word[:1] in b"+-" else word) in _CSV_SPECIAL:
            value = _CSV_SPECIAL[word[1:] if word[:1] in b"+-" else word]
            self._store_special(node, -value if word[:1] == b"-" else value, text)
        else:
            self._store_text(node, Kind.TEXT, cell, escaped=False)

    # -- results -------------------------------------------------------------------------------------------

    def take_rejects(self) -> bytes:
        """See _rows.pyi."""
        flat = [number for reject in self._rejects for number in reject]
        self._rejects = []
        return struct.pack(f"<{len(flat)}q", *flat)

    def take(self) -> tuple[bytes, bytes, bytes, list[TakenColumn]]:
        """See _rows.pyi."""
        columns = [self._take_column(column) for column in self._columns]
        times = struct.pack(f"<{self._row}q", *self._times)
        lines = struct.pack(f"<{self._row}q", *self._lines)
        out = times, bytes(self._local), lines, columns
        self.clear()
        return out

    def clear(self) -> None:
        """See _rows.pyi."""
        for column in self._columns:
            column.cells.clear()
        self._row = self._ignored = 0
        self._times: list[int] = []
        self._local: list[bool] = []
        self._lines: list[int] = []


def _space(text: bytes, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _string_end(text: bytes, at: int) -> int:
    """Return where the string that began before `at` ends, behind its quote."""
    match = _STRING.match(text, at)
    if match is None:
        raise Bad
    return match.end()


def _quoted(text: bytes, at: int, delimiter: bytes) -> tuple[bytes, int]:
    """Return a quoted cell that began before `at`, and where it ends, behind its quote."""
    cell = bytearray()
    while True:
        end = text.find(b'"', at)
        if end < 0:
            raise Bad
        cell += text[at:end]
        if text[end + 1 : end + 2] != b'"':
            break
        cell += b'"'
        at = end + 2
    if end + 1 < len(text) and text[end + 1 : end + 2] != delimiter:
        raise Bad
    return bytes(cell), end + 1
