"""Columnar payload, version 1: a block's time, columns and quality as compact bytes, and back.

Layout (docs/wire-format.md, "Columnar payload, version 1", has it byte by byte)
--------------------------------------------------------------------------------
version byte, varint rows, varint columns, varint group column + 1 (0: none), then one section each for the
group column, time, and the other columns in the schema's order: varint length and that many bytes.

Invariants
----------
- Cells that are null are not in the payload: only their quality code is, so nothing can hide under a null.
- Every length is checked against the bytes that are there, and everything to be allocated against
  `max_rows` and `max_bytes`, before it is read or allocated.
- Schema, lane and hits are not part of the payload.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from forebay import quality as q
from forebay.blocks import Block, Column, F64Array, I64Array, Schema, Type, U8Array
from forebay.errors import WireError
from forebay_core import codec

VERSION = 1

# quality of a section
_ALL_GOOD, _CODES, _SAME_CODES = 0, 1, 2
# encodings of a section's values
_INTS, _DICTIONARY, _DECIMAL, _ORDERED, _CELLS = 0, 1, 2, 3, 4
# encodings of cells and of their bytes
_LENGTHS, _NUMBERED = 0, 1
_RAW, _ZSTD = 0, 1

_MAX_DIGITS = 18  # of a numbered cell: fits int64
_MIN_ZSTD = 48  # a frame's own 9 to 12 bytes and its tables need something to win back
_PROBE = 32 * 1024  # bytes looked at before a large blob is compressed
_MAX_DICTIONARY_BYTES = 1024 * 1024  # larger columns (pictures) are not searched for equal cells

_TYPE_ENCODINGS = {
    Type.F64: (_DECIMAL, _ORDERED),
    Type.I64: (_INTS, _DICTIONARY),
    Type.BOOL: (_INTS,),
    Type.STR: (_CELLS, _DICTIONARY),
    Type.BYTES: (_CELLS, _DICTIONARY),
}

I32Array = npt.NDArray[np.int32]


@dataclass(slots=True)
class _Groups:
    """Group of each row: rows of one device."""

    codes: I32Array
    count: int

    def take(self, rows: npt.NDArray[Any] | None) -> _Groups:
        return self if rows is None else _Groups(self.codes[rows], self.count)


class _Local(threading.local):
    """A thread's zstd contexts: making one costs more than compressing a small column."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_local = _Local()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---------------------------------------------------------------------------------------------- encoder


class _Encoder:
    """Builds one payload."""

    def __init__(self, block: Block, level: int, compress: bool) -> None:
        self.block = block
        self.level = level
        self.compress = compress
        self.groups: _Groups | None = None
        self.written: U8Array | None = None  # the codes last written in full

    def payload(self) -> bytes:
        block, schema = self.block, self.block.schema
        group_column, numbered = self._group_column()
        parts = [bytes((VERSION,)), _varint(block.rows), _varint(len(block.columns))]
        if block.rows == 0:
            return b"".join((*parts, b"\0"))
        parts.append(_varint(group_column + 1))
        sections = []
        if group_column >= 0:
            sections.append(self._section(group_column, numbered))
            assert numbered is not None
            self.groups = _row_groups(numbered, block.columns[group_column].quality)
        sections.append(self._ints(np.ascontiguousarray(block.time, dtype=np.int64)))
        sections += [self._section(i, None) for i in range(len(schema.fields)) if i != group_column]
        for section in sections:
            parts += (_varint(len(section)), section)
        return b"".join(parts)

    def _group_column(self) -> tuple[int, _Numbered | None]:
        """Choose the column whose equal cells mark a device: the key, else the richest short dictionary."""
        block, schema = self.block, self.block.schema
        key = schema.index(schema.key) if schema.key else -1
        best, found = -1, None
        for i, (field, column) in enumerate(zip(schema.fields, block.columns, strict=True)):
            if i != key and (key >= 0 or field.type is not Type.STR):
                continue
            numbered = _number(column, field.type)
            # Below two rows a device there is no previous row to predict from.
            if numbered is None or not 2 <= numbered.count <= block.rows // 2:
                continue
            if found is None or numbered.count > found.count:
                best, found = i, numbered
        return best, found

    def _section(self, index: int, numbered: _Numbered | None) -> bytes:
        column, type_ = self.block.columns[index], self.block.schema.fields[index].type
        parts, rows = [self._quality(column.quality)], _kept_rows(column.quality)
        if numbered is not None:
            parts += self._dictionary(numbered, None)
        elif type_ in (Type.STR, Type.BYTES):
            parts += self._strings(column, rows)
        else:
            values = column.values if rows is None else column.values[rows]
            groups = self.groups and self.groups.take(rows)
            if type_ is Type.F64:
                parts += self._floats(np.ascontiguousarray(values, dtype=np.float64), groups)
            else:
                parts += (bytes((_INTS,)), self._ints(np.ascontiguousarray(values, dtype=np.int64), groups))
        return b"".join(parts)

    def _ints(self, values: I64Array, groups: _Groups | None = None, own: bool = False) -> bytes:
        groups = groups if own else groups or self.groups
        if groups is None or len(groups.codes) != len(values):
            return codec.encode_ints(values, None, 0, self.compress)
        return codec.encode_ints(values, groups.codes, groups.count, self.compress)

    def _quality(self, codes: U8Array | None) -> bytes:
        if codes is None or not codes.any():
            return bytes((_ALL_GOOD,))
        if self.written is not None and np.array_equal(codes, self.written):
            return bytes((_SAME_CODES,))
        self.written = codes
        palette, index = np.unique(codes, return_inverse=True)
        head = bytes((_CODES, len(palette) - 1)) + palette.astype(np.uint8).tobytes()
        return head + self._ints(index.astype(np.int64))

    def _floats(self, values: F64Array, groups: _Groups | None) -> list[bytes]:
        n = len(values)
        integers, exceptions = np.empty(n, dtype=np.int64), np.empty(n // 8, dtype=np.int64)
        places, count = codec.to_decimal(values, integers, exceptions)
        if places < 0:
            codec.to_ordered(values, integers)
            return [bytes((_ORDERED,)), self._ints(integers, groups)]
        parts = [bytes((_DECIMAL, places)), _varint(count)]
        if count:
            rows = exceptions[:count]
            parts += (self._ints(rows, own=True), values[rows].astype("<f8").tobytes())
            keep = np.ones(n, dtype=np.bool_)
            keep[rows] = False
            groups = groups and groups.take(keep)
        return [*parts, self._ints(integers[: n - count], groups, own=count > 0)]

    def _strings(self, column: Column, rows: I64Array | None) -> list[bytes]:
        values, offsets = _kept_cells(column, rows)
        n = len(offsets) - 1
        if n and len(values) <= _MAX_DICTIONARY_BYTES:
            codes, first = codec.factorize(values, offsets)
            if 4 * len(first) <= 3 * n:
                return self._dictionary(_Numbered(codes, first, values, offsets), rows)
        return [bytes((_CELLS,)), *self._cells(values, offsets)]

    def _dictionary(self, numbered: _Numbered, rows: I64Array | None) -> list[bytes]:
        groups = self.groups and self.groups.take(rows)
        codes = self._ints(numbered.codes.astype(np.int64), groups)
        head = bytes((_DICTIONARY,)) + _varint(numbered.count)
        if numbered.integers is not None:
            return [head, self._ints(numbered.integers[numbered.first], own=True), codes]
        taken = codec.gather(numbered.values, numbered.offsets, numbered.first, len(numbered.values))
        assert taken is not None
        return [head, *self._cells(*taken), codes]

    def _cells(self, values: U8Array, offsets: I64Array) -> list[bytes]:
        numbers = _numbered_cells(values, offsets)
        if numbers is not None:
            prefix, suffix, digits, integers = numbers
            head = bytes((_NUMBERED, digits)) + _varint(len(prefix)) + prefix + _varint(len(suffix)) + suffix
            return [head, self._ints(integers, own=True)]
        lengths = self._ints(np.diff(offsets), own=True)
        return [bytes((_LENGTHS,)), lengths, *self._blob(values)]

    def _blob(self, values: U8Array) -> list[bytes]:
        if self.compress and len(values) >= _MIN_ZSTD and self._compressible(values):
            frame = self._zstd().compress(values)
            if len(frame) + 4 < len(values):
                return [bytes((_ZSTD,)), _varint(len(frame)), frame]
        return [bytes((_RAW,)), values.tobytes()]

    def _compressible(self, values: U8Array) -> bool:
        """Try the middle of a large blob first: pictures and archives are not worth their CPU."""
        if len(values) < 4 * _PROBE:
            return True
        middle = len(values) // 2
        return len(self._zstd().compress(values[middle : middle + _PROBE])) < 0.95 * _PROBE

    def _zstd(self) -> zstandard.ZstdCompressor:
        found = _local.compressors.get(self.level)
        if found is None:
            found = _local.compressors[self.level] = zstandard.ZstdCompressor(level=self.level)
        return found


@dataclass(slots=True)
class _Numbered:
    """Non-null cells of a column as numbers in order of first appearance."""

    codes: I32Array
    first: I64Array
    values: U8Array
    offsets: I64Array
    integers: I64Array | None = None  # of an i64 column

    @property
    def count(self) -> int:
        return len(self.first)


def _number(column: Column, type_: Type) -> _Numbered | None:
    rows = _kept_rows(column.quality)
    if type_ is Type.I64:
        integers = column.values if rows is None else column.values[rows]
        integers = np.ascontiguousarray(integers, dtype=np.int64)
        values, offsets = integers.view(np.uint8), np.arange(0, 8 * len(integers) + 1, 8, dtype=np.int64)
        return _Numbered(*codec.factorize(values, offsets), values, offsets, integers)
    if type_ not in (Type.STR, Type.BYTES) or len(column.values) > _MAX_DICTIONARY_BYTES:
        return None
    values, offsets = _kept_cells(column, rows)
    return _Numbered(*codec.factorize(values, offsets), values, offsets)


def _row_groups(numbered: _Numbered, codes: U8Array | None) -> _Groups:
    """Return a group for every row; rows whose cell is null are a group of their own."""
    rows = _kept_rows(codes)
    if rows is None:
        return _Groups(numbered.codes, numbered.count)
    assert codes is not None
    groups = np.full(len(codes), numbered.count, dtype=np.int32)
    groups[rows] = numbered.codes
    return _Groups(groups, numbered.count + 1)


def _kept_rows(codes: U8Array | None) -> I64Array | None:
    """Return the rows that have a value, None where all have."""
    if codes is None or not len(codes) or codes.max() < q.NULL_FROM:
        return None
    return np.flatnonzero(codes < q.NULL_FROM)


def _kept_cells(column: Column, rows: I64Array | None) -> tuple[U8Array, I64Array]:
    assert column.offsets is not None
    values = np.ascontiguousarray(column.values, dtype=np.uint8)
    offsets = np.ascontiguousarray(column.offsets, dtype=np.int64)
    if rows is None:
        return values, offsets
    taken = codec.gather(values, offsets, rows, len(values))
    assert taken is not None
    return taken


def _numbered_cells(values: U8Array, offsets: I64Array) -> tuple[bytes, bytes, int, I64Array] | None:
    """Recognise cells that differ in one run of digits: `pump-0001`, `pump-0002`."""
    n = len(offsets) - 1
    length = int(offsets[1] - offsets[0]) if n else 0
    if n < 2 or length == 0 or len(values) != n * length or length > 256:
        return None
    if (np.diff(offsets) != length).any():
        return None
    cells = values.reshape(n, length)
    varying = np.flatnonzero((cells != cells[0]).any(axis=0))
    low, high = (int(varying[0]), int(varying[-1]) + 1) if len(varying) else (length, length)
    digits = cells[:, low:high].astype(np.int64) - ord("0")
    if not 1 <= high - low <= _MAX_DIGITS or ((digits < 0) | (digits > 9)).any():
        return None
    integers = digits @ (10 ** np.arange(high - low - 1, -1, -1, dtype=np.int64))
    return cells[0, :low].tobytes(), cells[0, high:].tobytes(), high - low, integers


def encode_columns(block: Block, *, level: int, compress: bool = True) -> bytes:
    """Code the time, columns and quality of a block.

    Parameters
    ----------
    block : arrays may be read-only; values under null cells are not looked at
    level : zstd's level for text
    compress : False: no zstd and no entropy coding, transforms and bit packing only

    Returns
    -------
    bytes : the payload that decode_columns reads

    Raises
    ------
    ValueError : columns that do not fit the schema or the rows (an error of the caller)
    """
    if len(block.columns) != len(block.schema.fields):
        raise ValueError(f"expected {len(block.schema.fields)} columns, found {len(block.columns)}")
    for field, column in zip(block.schema.fields, block.columns, strict=True):
        if column.rows != block.rows:
            raise ValueError(f"column {field.name}: expected {block.rows} rows, found {column.rows}")
        if column.quality is not None and len(column.quality) != block.rows:
            raise ValueError(f"column {field.name}: quality has another length than the block")
    return _Encoder(block, level, compress).payload()


# ---------------------------------------------------------------------------------------------- decoder


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

    def ints(self, n: int, groups: _Groups | None = None) -> I64Array:
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


class _Decoder:
    """Reads one payload."""

    def __init__(self, schema: Schema, max_rows: int, max_bytes: int) -> None:
        self.schema = schema
        self.max_rows = max_rows
        self.left = max_bytes
        self.rows = 0
        self.groups: _Groups | None = None
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
        kept = _kept_rows(codes)
        n = self.rows if kept is None else len(kept)
        groups = self.groups and self.groups.take(kept)
        encoding = reader.byte()
        if encoding not in _TYPE_ENCODINGS[type_] or (grouping and encoding != _DICTIONARY):
            raise reader.fail(f"encoding {encoding} does not fit a column of type {type_}")
        cells_of = type_ in (Type.STR, Type.BYTES)
        if encoding == _DICTIONARY:
            values, offsets = self.dictionary(reader, n, groups, type_, codes if grouping else None, grouping)
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
        if tag == _ALL_GOOD:
            return None
        self.spend(self.rows, reader)
        if tag == _SAME_CODES and self.codes is not None:
            return self.codes
        if tag != _CODES:
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
        self, reader: _Reader, n: int, groups: _Groups | None, type_: Type, encoding: int
    ) -> npt.NDArray[Any]:
        if encoding == _DECIMAL:
            return self.decimals(reader, n, groups)
        integers = reader.ints(n, groups)
        if type_ is Type.BOOL:
            self.in_range(integers, 2, reader)
            return integers.astype(np.uint8)
        if encoding == _INTS:
            return integers
        out = np.empty(n, dtype=np.float64)
        codec.from_ordered(integers, out)
        return out

    def decimals(self, reader: _Reader, n: int, groups: _Groups | None) -> F64Array:
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
        groups: _Groups | None,
        type_: Type,
        null_codes: U8Array | None,
        grouping: bool,
    ) -> tuple[npt.NDArray[Any], I64Array | None]:
        unique = reader.varint(n)
        values: npt.NDArray[Any]
        if type_ is Type.I64:
            self.spend(8 * self.rows + 8 * unique, reader)
            values, offsets = reader.ints(unique), None
        else:
            values, offsets = self.cells(reader, unique, type_)
        codes = reader.ints(n, groups)
        self.in_range(codes, unique, reader)
        if grouping:
            self.groups = _row_groups(
                _Numbered(codes.astype(np.int32), np.empty(unique), values, codes), null_codes
            )
        if offsets is None:
            return values[codes], None
        taken = codec.gather(values, offsets, codes, self.left)
        if taken is None:
            raise reader.fail("the block exceeds the limit of bytes")
        self.spend(len(taken[0]) + 8 * self.rows, reader)
        return taken

    def cells(self, reader: _Reader, n: int, type_: Type) -> tuple[U8Array, I64Array]:
        tag = reader.byte()
        self.spend(8 * n + 8, reader)
        offsets = np.zeros(n + 1, dtype=np.int64)
        if tag == _NUMBERED:
            values = self.numbered(reader, n, offsets)
        elif tag == _LENGTHS:
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
        if not 1 <= digits <= _MAX_DIGITS:
            raise reader.fail(f"expected 1 to {_MAX_DIGITS} digits, found {digits}")
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
        if tag == _RAW:
            return reader.take(size).copy()
        if tag != _ZSTD:
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
    """Decompress a frame that must declare `size`: what it declares is allocated before anything is proved."""
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


def decode_columns(data: bytes | memoryview, schema: Schema, *, max_rows: int, max_bytes: int) -> Block:
    """Read a payload, which may be anything at all.

    Parameters
    ----------
    data : the payload, untrusted
    schema : of the stream; the payload holds none
    max_rows : limit of rows
    max_bytes : limit of the bytes that the block's arrays may take; beside them the decoder needs at most
        about 60 bytes a row at a time and the payload itself

    Returns
    -------
    Block : in lane normal, without hits; arrays may be read-only and shared between columns

    Raises
    ------
    WireError : bytes that are not a payload of this schema, or one beyond the limits
    """
    return _Decoder(schema, max_rows, max_bytes).block(np.frombuffer(data, dtype=np.uint8))
