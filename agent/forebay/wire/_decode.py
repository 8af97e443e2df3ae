"""Decoder of the columnar payload. What it reads may be anything at all."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from forebay.blocks import Block, Column, F64Array, I64Array, Schema, Type, U8Array
from forebay.errors import WireError
from forebay.wire._layout import (
    ALL_GOOD,
    CODES,
    DECIMAL,
    DICTIONARY,
    INTS,
    LENGTHS,
    MAX_DIGITS,
    NUMBERED,
    RAW,
    SAME_CODES,
    TYPE_ENCODINGS,
    VERSION,
    ZSTD,
    Groups,
    kept_rows,
    row_groups,
)
from forebay_core import codec
from forebay_core.cells import gather


class _Reader:
    """Bounded reading of one section. Every method raises WireError rather than read past the end."""

    def __init__(self, data: U8Array, place: str) -> None:
        self.data = data
        self.place = place
        self.at = 0

    def fail(self, message: str) -> WireError:
        return WireError(message, place=f"{self.place}, byte {self.at}")

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise self.fail("payload ends too early")
        self.at += 1
        return int(self.data[self.at - 1])

    def varint(self, limit: int) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise self.fail("number longer than 64 bits")
        if value > limit:
            raise self.fail(f"expected a number up to {limit}, found a greater one")
        return value

    def take(self, size: int) -> U8Array:
        if size > len(self.data) - self.at:
            raise self.fail(f"expected {size} bytes, found {len(self.data) - self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def ints(self, n: int, groups: Groups | None = None) -> I64Array:
        out = np.empty(n, dtype=np.int64)
        if groups is None or len(groups.codes) != n:
            end = codec.decode_ints(self.data, self.at, out)
        else:
            end = codec.decode_ints(self.data, self.at, out, groups.codes, groups.count)
        if end < 0:
            raise self.fail("not a stream of integers")
        self.at = end
        return out

    def end(self) -> None:
        if self.at != len(self.data):
            raise self.fail(f"{len(self.data) - self.at} bytes too many")


class _Local(threading.local):
    """A thread's decompressor."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_local = _Local()


class Decoder:
    """Reads one payload."""

    def __init__(self, schema: Schema, max_rows: int, max_bytes: int) -> None:
        self.schema = schema
        self.max_rows = max_rows
        self.left = max_bytes
        self.rows = 0
        self.groups: Groups | None = None
        self.codes: U8Array | None = None  # quality last read in full

    def block(self, data: U8Array) -> Block:
        reader = _Reader(data, "payload")
        version = reader.byte()
        if version != VERSION:
            raise reader.fail(f"expected payload version {VERSION}, found {version}")
        self.rows = reader.varint(self.max_rows)
        count = len(self.schema.fields)
        if reader.varint(count) != count:
            raise reader.fail(f"expected {count} columns as in the schema, found fewer")
        group_column = reader.varint(count) - 1
        self.spend(8 * self.rows, reader)
        columns: dict[int, Column] = {}
        if self.rows and group_column >= 0:
            columns[group_column] = self.column(group_column, self.open(reader, group_column), True)
        time = np.empty(0, dtype=np.int64)
        if self.rows:
            section = self.open(reader, -1)
            time = section.ints(self.rows, self.groups)
            section.end()
        for i in range(count):
            if self.rows == 0:
                columns[i] = _empty_column(self.schema.fields[i].type)
            elif i != group_column:
                columns[i] = self.column(i, self.open(reader, i), False)
        reader.end()
        return Block(self.schema, time, tuple(columns[i] for i in range(count)))

    def open(self, reader: _Reader, index: int) -> _Reader:
        name = "time" if index < 0 else f"column {index}"
        return _Reader(reader.take(reader.varint(len(reader.data))), f"payload, {name}")

    def spend(self, size: int, reader: _Reader) -> None:
        """Account for bytes about to be allocated."""
        if size > self.left:
            raise reader.fail("the block exceeds the limit of bytes")
        self.left -= size

    def column(self, index: int, reader: _Reader, grouping: bool) -> Column:
        type_ = self.schema.fields[index].type
        codes = self.quality(reader)
        kept = kept_rows(codes)
        n = self.rows if kept is None else len(kept)
        groups = self.groups and self.groups.take(kept)
        encoding = reader.byte()
        if encoding not in TYPE_ENCODINGS[type_] or (grouping and encoding != DICTIONARY):
            raise reader.fail(f"encoding {encoding} does not fit a column of type {type_}")
        cells_of = type_ in (Type.STR, Type.BYTES)
        if encoding == DICTIONARY:
            values, offsets = self.dictionary(reader, n, groups, type_, codes, grouping)
        elif cells_of:
            values, offsets = self.cells(reader, n, type_)
        else:
            self.spend(8 * self.rows, reader)
            values, offsets = self.numbers(reader, n, groups, type_, encoding), None
        reader.end()
        if kept is not None:
            values, offsets = self.spread(values, offsets, kept)
        return Column(values, offsets, codes)

    def quality(self, reader: _Reader) -> U8Array | None:
        tag = reader.byte()
        if tag == ALL_GOOD:
            return None
        self.spend(self.rows, reader)
        if tag == SAME_CODES and self.codes is not None:
            return self.codes
        if tag != CODES:
            raise reader.fail(f"unknown quality tag {tag}")
        palette = reader.take(reader.byte() + 1)
        index = reader.ints(self.rows, self.groups)
        self.in_range(index, len(palette), reader)
        self.codes = palette[index]
        return self.codes

    def in_range(self, values: I64Array, limit: int, reader: _Reader) -> None:
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            raise reader.fail(f"expected numbers from 0 to {limit - 1}, found others")

    def numbers(
        self, reader: _Reader, n: int, groups: Groups | None, type_: Type, encoding: int
    ) -> npt.NDArray[Any]:
        if encoding == DECIMAL:
            return self.decimals(reader, n, groups)
        integers = reader.ints(n, groups)
        if type_ is Type.BOOL:
            self.in_range(integers, 2, reader)
            return integers.astype(np.uint8)
        if encoding == INTS:
            return integers
        out = np.empty(n, dtype=np.float64)
        codec.from_ordered(integers, out)
        return out

    def decimals(self, reader: _Reader, n: int, groups: Groups | None) -> F64Array:
        places, count = reader.byte(), reader.varint(n)
        if places > 15:
            raise reader.fail(f"expected 0 to 15 decimal places, found {places}")
        out = np.empty(n, dtype=np.float64)
        if not count:
            codec.from_decimal(reader.ints(n, groups), places, out)
            return out
        rows = reader.ints(count)
        self.in_range(rows, n, reader)
        exceptions = reader.take(8 * count).view("<f8")
        keep = np.ones(n, dtype=np.bool_)
        keep[rows] = False
        if int(np.count_nonzero(keep)) != n - count:
            raise reader.fail("rows of exceptions repeat")
        rest = np.empty(n - count, dtype=np.float64)
        codec.from_decimal(reader.ints(n - count, groups and groups.take(keep)), places, rest)
        out[keep], out[rows] = rest, exceptions
        return out

    def dictionary(
        self,
        reader: _Reader,
        n: int,
        groups: Groups | None,
        type_: Type,
        quality: U8Array | None,
        grouping: bool,
    ) -> tuple[npt.NDArray[Any], I64Array | None]:
        unique = reader.varint(n)
        integers, cells = np.empty(0, dtype=np.int64), None
        if type_ is Type.I64:
            self.spend(8 * self.rows + 8 * unique, reader)
            integers = reader.ints(unique)
        else:
            cells = self.cells(reader, unique, type_)
        codes = reader.ints(n, groups)
        self.in_range(codes, unique, reader)
        if grouping:
            self.groups = row_groups(codes.astype(np.int32), unique, quality)
        if cells is None:
            return integers[codes], None
        taken = gather(*cells, codes, self.left)
        if taken is None:
            raise reader.fail("the block exceeds the limit of bytes")
        self.spend(len(taken[0]) + 8 * self.rows, reader)
        return taken

    def cells(self, reader: _Reader, n: int, type_: Type) -> tuple[U8Array, I64Array]:
        tag = reader.byte()
        self.spend(8 * n + 8, reader)
        offsets = np.zeros(n + 1, dtype=np.int64)
        if tag == NUMBERED:
            values = self.numbered(reader, n, offsets)
        elif tag == LENGTHS:
            lengths = reader.ints(n)
            # Each is checked by itself, so that their sum cannot overflow.
            self.in_range(lengths, self.left + 1, reader)
            np.cumsum(lengths, out=offsets[1:])
            values = self.blob(reader, int(offsets[-1]))
        else:
            raise reader.fail(f"unknown encoding {tag} of cells")
        if type_ is Type.STR:
            _check_utf8(values, offsets, reader)
        return values, offsets

    def numbered(self, reader: _Reader, n: int, offsets: I64Array) -> U8Array:
        digits = reader.byte()
        if not 1 <= digits <= MAX_DIGITS:
            raise reader.fail(f"expected 1 to {MAX_DIGITS} digits, found {digits}")
        prefix = reader.take(reader.varint(len(reader.data)))
        suffix = reader.take(reader.varint(len(reader.data)))
        integers = reader.ints(n)
        self.in_range(integers, 10**digits, reader)
        length = len(prefix) + digits + len(suffix)
        self.spend(n * length, reader)
        offsets[:] = np.arange(n + 1, dtype=np.int64) * length
        cells = np.empty((n, length), dtype=np.uint8)
        cells[:, : len(prefix)], cells[:, length - len(suffix) :] = prefix, suffix
        for place in range(len(prefix) + digits - 1, len(prefix) - 1, -1):
            cells[:, place] = integers % 10 + ord("0")
            integers //= 10
        return cells.reshape(-1)

    def blob(self, reader: _Reader, size: int) -> U8Array:
        self.spend(size, reader)
        tag = reader.byte()
        if tag == RAW:
            return reader.take(size).copy()
        if tag != ZSTD:
            raise reader.fail(f"unknown encoding {tag} of bytes")
        frame = reader.take(reader.varint(len(reader.data))).tobytes()
        return _decompress(frame, size, reader)

    def spread(
        self, values: npt.NDArray[Any], offsets: I64Array | None, kept: I64Array
    ) -> tuple[npt.NDArray[Any], I64Array | None]:
        """Put the cells that have a value back to their rows, 0 or nothing between them."""
        if offsets is None:
            out = np.zeros(self.rows, dtype=values.dtype)
            out[kept] = values
            return out, None
        lengths = np.zeros(self.rows + 1, dtype=np.int64)
        lengths[kept + 1] = np.diff(offsets)
        return values, np.cumsum(lengths)


def _decompress(frame: bytes, size: int, reader: _Reader) -> U8Array:
    """Decompress a frame that must declare `size`: zstd allocates what is declared before it proves it."""
    try:
        declared = zstandard.get_frame_parameters(frame)
        if declared.content_size != size or declared.dict_id:
            raise reader.fail(
                f"expected a zstd frame of {size} bytes, it declares another size or a dictionary"
            )
        out = _local.decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise reader.fail("not a zstd frame") from error
    if len(out) != size:
        raise reader.fail(f"expected {size} bytes in the zstd frame, found {len(out)}")
    return np.frombuffer(out, dtype=np.uint8)


def _check_utf8(values: U8Array, offsets: I64Array, reader: _Reader) -> None:
    """All bytes together are UTF-8 and no cell begins within a character: then each cell is."""
    try:
        str(values.data, "utf-8")
    except UnicodeDecodeError:
        # The cause is not chained: it holds the bytes.
        raise reader.fail("a str cell is not UTF-8") from None
    starts = offsets[:-1][np.diff(offsets) > 0]
    if ((values[starts] & 0xC0) == 0x80).any():
        raise reader.fail("a str cell is not UTF-8")


def _empty_column(type_: Type) -> Column:
    dtype = {Type.F64: np.float64, Type.I64: np.int64}.get(type_, np.uint8)
    offsets = np.zeros(1, dtype=np.int64) if type_ in (Type.STR, Type.BYTES) else None
    return Column(np.empty(0, dtype=dtype), offsets)
