"""Encoder of the columnar payload."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import zstandard

from forebay.blocks import Block, Column, Distinct, F64Array, I64Array, Type, U8Array
from forebay.wire._habits import Habits
from forebay.wire._layout import (
    ALL_GOOD,
    CELLS,
    CODES,
    DECIMAL,
    DICTIONARY,
    INTS,
    LENGTHS,
    MAX_DIGITS,
    NUMBERED,
    ORDERED,
    RAW,
    SAME_CODES,
    VERSION,
    ZSTD,
    Groups,
    kept_rows,
    row_groups,
)
from forebay_core import codec
from forebay_core.cells import gather

_MIN_ZSTD = 48  # a frame's own 9 to 12 bytes and its tables need something to win back
_PROBE = 32 * 1024  # bytes looked at before a large blob is compressed
_MAX_DICTIONARY_BYTES = 1024 * 1024  # larger columns (pictures) are not searched for equal cells
_TIME = -1  # place of the time among the columns


class _Local(threading.local):
    """A thread's zstd contexts: making one costs more than compressing a small column."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}


_local = _Local()


_SHORT = [bytes((value,)) for value in range(0x80)]  # most varints: lengths of sections, counts of columns


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _SHORT[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Encoder:
    """Builds one payload."""

    def __init__(self, block: Block, level: int, compress: bool, habits: Habits | None = None) -> None:
        self.block = block
        self.habits = habits or Habits()
        self.level = level
        self.compress = compress
        self.groups: Groups | None = None
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
            codes, count = numbered.distinct.codes, numbered.count
            self.groups = row_groups(codes, count, block.columns[group_column].quality)
        sections.append(self._main_ints(_TIME, np.ascontiguousarray(block.time, dtype=np.int64), None))
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
        parts, rows = [self._quality(column.quality)], kept_rows(column.quality)
        if numbered is not None:
            parts += self._dictionary(index, numbered, None)
        elif type_ in (Type.STR, Type.BYTES):
            parts += self._strings(index, column, rows)
        else:
            values = column.values if rows is None else column.values[rows]
            groups = self.groups and self.groups.take(rows)
            if type_ is Type.F64:
                parts += self._floats(index, np.ascontiguousarray(values, dtype=np.float64), groups)
            else:
                integers = np.ascontiguousarray(values, dtype=np.int64)
                parts += (bytes((INTS,)), self._main_ints(index, integers, groups))
        return b"".join(parts)

    def _main_ints(self, index: int, values: I64Array, groups: Groups | None, own: bool = False) -> bytes:
        """Code the values of a column, or their numbers in its dictionary."""
        groups = groups if own else groups or self.groups
        if groups is not None and len(groups.codes) != len(values):
            groups = None
        return self.habits.ints(index, values, groups, self.compress)

    def _ints(self, values: I64Array, own: bool = False) -> bytes:
        """Code what stands beside the values: quality, lengths, exceptions."""
        groups = None if own else self.groups
        if groups is None or len(groups.codes) != len(values):
            return codec.encode_ints(values, None, 0, self.compress)
        return codec.encode_ints(values, groups.codes, groups.count, self.compress)

    def _quality(self, codes: U8Array | None) -> bytes:
        if codes is None or not codes.any():
            return bytes((ALL_GOOD,))
        if self.written is not None and np.array_equal(codes, self.written):
            return bytes((SAME_CODES,))
        self.written = codes
        palette, index = np.unique(codes, return_inverse=True)
        head = bytes((CODES, len(palette) - 1)) + palette.astype(np.uint8).tobytes()
        return head + self._ints(index.astype(np.int64))

    def _floats(self, index: int, values: F64Array, groups: Groups | None) -> list[bytes]:
        n = len(values)
        integers, exceptions = np.empty(n, dtype=np.int64), np.empty(n // 8, dtype=np.int64)
        places, count = codec.to_decimal(values, integers, exceptions)
        if places < 0:
            codec.to_ordered(values, integers)
            return [bytes((ORDERED,)), self._main_ints(index, integers, groups)]
        parts = [bytes((DECIMAL, places)), _varint(count)]
        if count:
            rows = exceptions[:count]
            parts += (self._ints(rows, own=True), values[rows].astype("<f8").tobytes())
            keep = np.ones(n, dtype=np.bool_)
            keep[rows] = False
            groups = groups and groups.take(keep)
        return [*parts, self._main_ints(index, integers[: n - count], groups, own=count > 0)]

    def _strings(self, index: int, column: Column, rows: I64Array | None) -> list[bytes]:
        values, offsets = _kept_cells(column, rows)
        n = len(offsets) - 1
        if n and len(values) <= _MAX_DICTIONARY_BYTES:
            distinct = column.distinct() if rows is None else Distinct(values, offsets)
            if 4 * len(distinct) <= 3 * n:
                return self._dictionary(index, _Numbered(distinct), rows)
        return [bytes((CELLS,)), *self._cells(values, offsets)]

    def _dictionary(self, index: int, numbered: _Numbered, rows: I64Array | None) -> list[bytes]:
        groups = self.groups and self.groups.take(rows)
        distinct = numbered.distinct
        codes = self._main_ints(index, distinct.codes.astype(np.int64), groups)
        head = bytes((DICTIONARY,)) + _varint(numbered.count)
        if numbered.integers is not None:
            return [head, self._ints(numbered.integers[distinct.first], own=True), codes]
        cells = self.habits.dictionary(index, distinct.key)
        if cells is None:
            cells = self._cells(distinct.values, distinct.offsets)
            self.habits.keep_dictionary(index, distinct.key, cells)
        return [head, *cells, codes]

    def _cells(self, values: U8Array, offsets: I64Array) -> list[bytes]:
        numbers = _numbered_cells(values, offsets)
        if numbers is not None:
            prefix, suffix, digits, integers = numbers
            head = bytes((NUMBERED, digits)) + _varint(len(prefix)) + prefix + _varint(len(suffix)) + suffix
            return [head, self._ints(integers, own=True)]
        lengths = self._ints(np.diff(offsets), own=True)
        return [bytes((LENGTHS,)), lengths, *self._blob(values)]

    def _blob(self, values: U8Array) -> list[bytes]:
        if self.compress and len(values) >= _MIN_ZSTD and self._compressible(values):
            frame = self._zstd().compress(values.data)
            if len(frame) + 4 < len(values):
                return [bytes((ZSTD,)), _varint(len(frame)), frame]
        return [bytes((RAW,)), values.tobytes()]

    def _compressible(self, values: U8Array) -> bool:
        """Try the middle of a large blob first: pictures and archives are not worth their CPU."""
        if len(values) < 4 * _PROBE:
            return True
        middle = len(values) // 2
        return len(self._zstd().compress(values[middle : middle + _PROBE].data)) < 0.95 * _PROBE

    def _zstd(self) -> zstandard.ZstdCompressor:
        found = _local.compressors.get(self.level)
        if found is None:
            found = _local.compressors[self.level] = zstandard.ZstdCompressor(level=self.level)
        return found


@dataclass(slots=True)
class _Numbered:
    """Non-null cells of a column as numbers in order of first appearance."""

    distinct: Distinct
    integers: I64Array | None = None  # of an i64 column

    @property
    def count(self) -> int:
        return len(self.distinct)


def _number(column: Column, type_: Type) -> _Numbered | None:
    rows = kept_rows(column.quality)
    if type_ is Type.I64:
        integers = column.values if rows is None else column.values[rows]
        integers = np.ascontiguousarray(integers, dtype=np.int64)
        values, offsets = integers.view(np.uint8), np.arange(0, 8 * len(integers) + 1, 8, dtype=np.int64)
        return _Numbered(Distinct(values, offsets), integers)
    if type_ not in (Type.STR, Type.BYTES) or len(column.values) > _MAX_DICTIONARY_BYTES:
        return None
    return _Numbered(column.distinct() if rows is None else Distinct(*_kept_cells(column, rows)))


def _kept_cells(column: Column, rows: I64Array | None) -> tuple[U8Array, I64Array]:
    assert column.offsets is not None
    values = np.ascontiguousarray(column.values, dtype=np.uint8)
    offsets = np.ascontiguousarray(column.offsets, dtype=np.int64)
    if rows is None:
        return values, offsets
    taken = gather(values, offsets, rows, len(values))
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
    if not 1 <= high - low <= MAX_DIGITS or ((digits < 0) | (digits > 9)).any():
        return None
    integers = digits @ (10 ** np.arange(high - low - 1, -1, -1, dtype=np.int64))
    return cells[0, :low].tobytes(), cells[0, high:].tobytes(), high - low, integers
