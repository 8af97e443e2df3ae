"""Decoders of JSON lines and CSV. They serve files, brokers and sockets alike."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from forebay.blocks import MAX_ROWS, I64Array
from forebay.clock import Clock
from forebay.config.fields import FieldOptions
from forebay.config.sources import TimeOptions
from forebay.errors import InputError
from forebay.sources.decoder import Cursor, Decoded, Decoder, Place
from forebay_core.records import split_array, split_csv, split_lines
from forebay_core.row_codes import Status

__all__ = ["CsvDecoder", "Decoded", "Decoder", "JsonLinesDecoder", "Place"]


class JsonLinesDecoder(Decoder):
    """NDJSON: one object a line. Keys of objects within it are joined by dots, arrays are kept as text.

    Blank lines pass without a word.
    """

    def message(self, data: bytes, place: Place) -> Decoded:
        """Turn one JSON document, an object or an array of objects, into rows.

        At most MAX_ROWS rows become the block; a longer array gives the rest by `message_blocks`.
        """
        return next(self.message_blocks(data, place))

    def message_blocks(self, data: bytes, place: Place) -> Iterator[Decoded]:
        """Turn one JSON document into blocks; its elements are judged one by one."""
        at = Cursor(data, place, True, line=place.line)
        spans = np.array([[0, len(data), len(data), 0]], np.int64)
        text = data.lstrip()
        if text.startswith(b"["):
            count = split_array(data, self._spans)
            if count > len(self._spans):
                self._spans = np.empty((count, 4), np.int64)
                split_array(data, self._spans)
            spans = self._spans[:count] if count >= 0 else spans
            spans[:, 3] = 0
        if len(spans):
            yield from self._records(at, spans)
        yield self._take(at, len(data), place.line)

    def _split(self, at: Cursor) -> int:
        return split_lines(at.data, at.offset, at.final, self._spans)

    def _parse(self, data: bytes, spans: I64Array, first: int) -> tuple[int, int]:
        return self._parser.parse_json(data, spans, first)


class CsvDecoder(Decoder):
    """CSV after RFC 4180 with a header row (or `columns`), quoted cells and a delimiter of one byte.

    The first rows of a file decide on the types of columns that are not declared. An empty cell is null;
    so is `null`, `none`, `na`, `n/a`, `-` or `--` in a column that is not text.
    """

    def __init__(
        self,
        stream: str,
        clock: Clock,
        fields: Mapping[str, FieldOptions] | None = None,
        key: str = "",
        time: TimeOptions | None = None,
        max_line: int = 1 << 20,
        *,
        delimiter: str = ",",
        columns: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(stream, clock, fields, key, time, max_line)
        self._delimiter = delimiter
        self._columns = columns
        self._header: tuple[str, ...] | None = None
        self._watched: dict[int, int] = {}  # columns whose type is open, by node
        if columns:
            self._use_header(columns)

    _line_detail = "a quote stands where none may stand, or is not closed"

    def _header_state(self) -> list[str] | None:
        return None if self._header is None or self._columns else list(self._header)

    def _enter_header(self, header: list[str] | None) -> None:
        if self._columns is not None:
            return
        self._watched.clear()
        if header is None:
            self._header = None
        elif self._header != tuple(header):
            self._use_header(tuple(header))

    def _open(self, at: Cursor) -> None:
        super()._open(at)
        while self._header is None and not at.waiting:
            if not split_csv(at.data, at.offset, at.final, ord(self._delimiter), self._spans[:1]):
                self._tail(at)
                return
            start, end, after, _ = self._spans[0].tolist()
            if end - start > self._max_line:
                raise InputError("the header is longer than `max_line`", place=at.place.at(at.line))
            at.line += at.data.count(b"\n", start, after)
            at.offset = after
            text = at.data[start:end].decode("utf-8", "replace")
            if text.strip():
                try:
                    self._use_header(self._names(text))
                except csv.Error:  # a lone carriage return, or a name beyond csv's 128 KiB
                    raise InputError(
                        "the header is no CSV record",
                        place=at.place.at(at.line),
                        hint="lines end with a line feed; names with a carriage return stand in quotes",
                    ) from None

    def _names(self, header: str) -> tuple[str, ...]:
        cells = next(csv.reader([header], delimiter=self._delimiter))
        return tuple(name.strip().replace("\0", "\ufffd") for name in cells)

    def header_in(self, head: bytes) -> list[str] | None:
        """See Decoder. The file was read before, so its header is a CSV record."""
        at, spans = 0, np.empty((1, 4), np.int64)
        while split_csv(head, at, True, ord(self._delimiter), spans):
            start, end, at, _ = spans[0].tolist()
            text = head[start:end].decode("utf-8", "replace")
            if text.strip():
                return list(self._names(text))
        return None

    def _use_header(self, names: tuple[str, ...]) -> None:
        self._header = names
        nodes: list[int] = []
        used: Counter[str] = Counter()
        for number, given in enumerate(names, start=1):
            name = given or f"column_{number}"
            used[name] += 1
            node, column = self._fields.add_csv_column(name if used[name] == 1 else f"{name}\0{used[name]}")
            nodes.append(node)
            if column >= 0:
                self._watched[node] = column
        self._parser.set_header(nodes, ord(self._delimiter))

    def _cells_detail(self, found: int) -> str:
        return f"expected {len(self._header or ())} cells as in the header, found {found}"

    def _tail(self, at: Cursor) -> None:
        long = len(at.data) - at.offset > self._max_line
        if long and at.data.find(b"\n", at.offset) >= 0:
            self._drop_line(at)
        else:
            super()._tail(at)

    def _split(self, at: Cursor) -> int:
        return split_csv(at.data, at.offset, at.final, ord(self._delimiter), self._spans)

    def _parse(self, data: bytes, spans: I64Array, first: int) -> tuple[int, int]:
        if self._watched and not self._parser.rows:
            self._infer(data, spans[first : first + MAX_ROWS])
        return self._parser.parse_csv(data, spans, first)

    def _infer(self, data: bytes, spans: I64Array) -> None:
        """Look through the first rows to fix the types of columns that are not declared."""
        first = 0
        while first < len(spans):
            status, first = self._parser.parse_csv(data, spans, first)
            if status in (Status.RESPLIT, Status.STOPPED):
                first += 1
            elif status == Status.FULL:
                break
        columns = self._parser.take()[3]
        for node, column in self._watched.items():
            # an open column holds the kinds of its cells as bits; broken records left none
            kinds = np.bitwise_or.reduce(np.frombuffer(columns[column][0], np.int64), initial=0)
            self._fields.infer(node, int(kinds))
        self._watched.clear()
        self._parser.take_rejects()
