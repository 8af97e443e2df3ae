"""The one record model: a Block is rows of one stream held as columns.

A scalar sensor, a waveform, a text record, a detection, an alarm and a masked still are all blocks.

Invariants
----------
- Every column of a block has as many rows as `time`; `time` is int64 ns since 1970 UTC and may repeat.
- Rows keep their order of arrival.
- A cell is null exactly when its quality code is >= quality.NULL_FROM; what its slot in `values` then holds
  is 0 (numbers) or empty (str, bytes), so that no unmasked value hides under a null.
- Blocks are not changed once handed on: a step makes a new one (sharing arrays is fine) and never writes
  into an array that it did not allocate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay_core.cells import gather
from forebay_core.grouping import factorize

MAX_ROWS = 1_000  # rows of an ordinary block
MAX_WAVEFORM_ROWS = 65_536  # rows of an evenly sampled waveform
MAX_STR_BYTES = 64 * 1024
MAX_BYTES_BYTES = 8 * 1024 * 1024

F64Array = npt.NDArray[np.float64]
I64Array = npt.NDArray[np.int64]
I32Array = npt.NDArray[np.int32]
U8Array = npt.NDArray[np.uint8]


class Type(StrEnum):
    """Type of a field. A field has one type in a stream."""

    F64 = "f64"
    I64 = "i64"
    BOOL = "bool"
    STR = "str"
    BYTES = "bytes"


class Grade(StrEnum):
    """Grade of data after GB/T 43697-2024: general, important, core."""

    GENERAL = "general"
    IMPORTANT = "important"
    CORE = "core"


class Lane(StrEnum):
    """Priority on the wire and under eviction."""

    URGENT = "urgent"
    NORMAL = "normal"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a schema.

    `grade` is None where nobody declared it. `classes` are personal-data classes (GB/T 35273). `media` is
    `image` for encoded pictures in a bytes column. `given` is the name in the source where it had to be
    changed. `model` is `name@version#hash` where a model made the column.
    """

    name: str
    type: Type
    unit: str = ""
    grade: Grade | None = None
    description: str = ""
    identifier: str = ""
    classes: tuple[str, ...] = ()
    media: str = ""
    given: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """Fields of a stream. `key` names the field that tells devices apart, `stamped_by` whose clock it is."""

    stream: str
    fields: tuple[Field, ...]
    key: str = ""
    stamped_by: str = "device"
    _hash: int = field(default=0, init=False, repr=False, compare=False)
    _places: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Plans, ids and open blocks are kept by schema, looked up some ten times a block: hashed once.
        object.__setattr__(self, "_hash", hash((self.stream, self.fields, self.key, self.stamped_by)))
        for place, known in enumerate(self.fields):
            self._places.setdefault(known.name, place)

    def __hash__(self) -> int:
        return self._hash

    def index(self, name: str) -> int:
        """Return the position of a field, -1 if there is none."""
        return self._places.get(name, -1)

    def names(self) -> tuple[str, ...]:
        """Return the field names in order."""
        return tuple(f.name for f in self.fields)


class Distinct:
    """The distinct cells of a str or bytes column, numbered in order of first appearance.

    Masking, guard, keys and encoder look at equal cells once; they share what one of them found.

    Attributes
    ----------
    codes : int32 (n,), number of each row's cell
    first : int64 (u,), row in which each number first appears
    values, offsets : the distinct cells, as in Column
    key : bytes that are equal just where the distinct cells and their order are
    """

    __slots__ = ("_key", "codes", "first", "offsets", "values")

    def __init__(self, values: U8Array, offsets: I64Array) -> None:
        self.codes: I32Array
        self.codes, self.first = factorize(values, offsets)
        if len(self.first) < len(self.codes):
            taken = gather(values, offsets, self.first, len(values))
            assert taken is not None
            values, offsets = taken
        self.values, self.offsets = values, offsets
        self._key = b""

    @property
    def key(self) -> bytes:
        """Return the key. Only few cells that many rows share are asked for theirs."""
        if not self._key:
            self._key = self.offsets.tobytes() + self.values.tobytes()
        return self._key

    def __len__(self) -> int:
        return len(self.first)


@dataclass(slots=True)
class Column:
    """Cells of one field.

    Attributes
    ----------
    values : f64, i64: (n,) of that dtype; bool: (n,) uint8 of 0 and 1; str, bytes: (total bytes,) uint8
    offsets : None, or for str and bytes int64 (n + 1,): cell i is values[offsets[i]:offsets[i + 1]];
        offsets[0] is 0 and offsets[-1] is len(values)
    quality : None (all good) or uint8 (n,)
    spans : None or int64 (k, 3): (row, start, end) in bytes within the cell, spans that masking produced and
        the guard's scan leaves out. Not on the wire.
    frames : None or one decoded BGR image (or None) a row: a cache beside an encoded image column. Not on
        the wire. Masking must replace or drop it together with `values`.
    masked : hash of the policy whose masking made the column, empty before. The guard nulls what does not
        carry its own. Not on the wire.
    """

    values: npt.NDArray[Any]
    offsets: I64Array | None = None
    quality: U8Array | None = None
    spans: I64Array | None = None
    frames: list[npt.NDArray[np.uint8] | None] | None = None
    masked: str = ""
    # not handed to a constructor, so that `replace` with other values cannot keep what is wrong by then
    _distinct: Distinct | None = field(default=None, init=False, repr=False, compare=False)

    def distinct(self) -> Distinct:
        """Return the distinct cells of a str or bytes column, null ones as empty; searched for once."""
        if self._distinct is None:
            assert self.offsets is not None
            self._distinct = Distinct(
                np.ascontiguousarray(self.values, dtype=np.uint8),
                np.ascontiguousarray(self.offsets, dtype=np.int64),
            )
        return self._distinct

    def marked(self, policy_hash: str) -> Column:
        """Return the column as one that `policy_hash` has masked."""
        column = Column(self.values, self.offsets, self.quality, self.spans, self.frames, policy_hash)
        column._distinct = self._distinct
        return column

    @property
    def rows(self) -> int:
        """Number of cells."""
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes held, decoded frames included: what the bounded queues count."""
        total = self.values.nbytes + (0 if self.offsets is None else self.offsets.nbytes)
        total += 0 if self.quality is None else self.quality.nbytes
        if self.frames is None:
            return total
        return total + sum(f.nbytes for f in self.frames if f is not None)

    def is_null(self) -> npt.NDArray[np.bool_]:
        """Return a boolean (n,) array, true where the cell has no value."""
        if self.quality is None:
            return np.zeros(self.rows, dtype=np.bool_)
        return self.quality >= q.NULL_FROM

    def cell_bytes(self, row: int) -> bytes:
        """Return the raw bytes of one str or bytes cell."""
        assert self.offsets is not None
        return self.values[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def to_list(self, type_: Type) -> list[Any]:
        """Return Python values, None where null. For sinks and tools, not for the hot path."""
        if self.offsets is None:
            out: list[Any] = self.values.tolist()
            if type_ is Type.BOOL:
                out = [bool(v) for v in out]
        else:
            data, ends = self.values.tobytes(), self.offsets.tolist()
            out = [data[a:b] for a, b in pairwise(ends)]
            if type_ is Type.STR:
                out = [v.decode("utf-8", "replace") for v in out]
        if self.quality is not None:
            for row in np.flatnonzero(self.quality >= q.NULL_FROM).tolist():
                out[row] = None
        return out

    @classmethod
    def of(cls, type_: Type, values: Sequence[Any], quality: U8Array | None = None) -> Column:
        """Build from Python values; None becomes null(null), a NaN null(nan), unless `quality` is given."""
        codes = (
            np.zeros(len(values), dtype=np.uint8) if quality is None else np.array(quality, dtype=np.uint8)
        )
        if quality is None:
            for row, value in enumerate(values):
                if value is None:
                    codes[row] = q.NULL
                elif type_ is Type.F64 and value != value:
                    codes[row] = q.NAN
        has_quality = codes if codes.any() else None
        null = codes >= q.NULL_FROM
        if type_ in (Type.STR, Type.BYTES):
            cells = [
                b"" if gone else (v.encode("utf-8", "replace") if isinstance(v, str) else bytes(v))
                for v, gone in zip(values, null.tolist(), strict=True)
            ]
            offsets = np.zeros(len(cells) + 1, dtype=np.int64)
            np.cumsum([len(c) for c in cells], out=offsets[1:])
            return cls(np.frombuffer(b"".join(cells), dtype=np.uint8), offsets, has_quality)
        dtype = {Type.F64: np.float64, Type.I64: np.int64, Type.BOOL: np.uint8}[type_]
        cleaned = [0 if gone else v for v, gone in zip(values, null.tolist(), strict=True)]
        return cls(np.array(cleaned, dtype=dtype), None, has_quality)


@dataclass(slots=True)
class Block:
    """Rows of one stream. See the module's invariants.

    `hits` counts masking per rule (`class:operator`), carried into the batch's attestation.
    """

    schema: Schema
    time: I64Array
    columns: tuple[Column, ...]
    lane: Lane = Lane.NORMAL
    hits: Counter[str] = field(default_factory=Counter)
    _readings: int = field(default=-1, init=False, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.time)

    @property
    def stream(self) -> str:
        """Name of the stream."""
        return self.schema.stream

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.time.nbytes + sum(c.nbytes for c in self.columns)

    def column(self, name: str) -> Column:
        """Return a column by field name. Raises KeyError."""
        index = self.schema.index(name)
        if index < 0:
            raise KeyError(name)
        return self.columns[index]

    def readings(self) -> int:
        """Count readings: non-null values of fields other than the key."""
        if self._readings < 0:  # asked for between any two stages
            rows, key, total = self.rows, self.schema.key, 0
            for f, c in zip(self.schema.fields, self.columns, strict=True):
                if f.name != key:
                    total += rows if c.quality is None else q.count_values(c.quality, rows)
            self._readings = total
        return self._readings

    def take(self, rows: npt.NDArray[Any] | slice) -> Block:
        """Return the block restricted to `rows` (indices, boolean mask or slice)."""
        index = np.arange(self.rows)[rows]
        return replace(self, time=self.time[index], columns=tuple(take(c, index) for c in self.columns))

    def with_columns(self, columns: dict[str, Column], extra: Iterable[tuple[Field, Column]] = ()) -> Block:
        """Return the block with some columns replaced by name and others appended."""
        new = [columns.get(f.name, c) for f, c in zip(self.schema.fields, self.columns, strict=True)]
        added = list(extra)
        if not added:
            return replace(self, columns=tuple(new))
        schema = _extended(self.schema, tuple(f for f, _ in added))
        return replace(self, schema=schema, columns=(*new, *(c for _, c in added)))


@lru_cache(maxsize=256)
def _extended(schema: Schema, fields: tuple[Field, ...]) -> Schema:
    """Return the schema with fields more: the same object again, so that looking it up compares nothing."""
    return replace(schema, fields=(*schema.fields, *fields))


def take(column: Column, index: npt.NDArray[np.int64]) -> Column:
    """Return the cells of a column at `index`."""
    codes = None if column.quality is None else column.quality[index]
    if codes is not None and not codes.any():
        codes = None
    frames = None if column.frames is None else [column.frames[i] for i in index.tolist()]
    if column.offsets is None:
        return Column(column.values[index], None, codes, None, frames, column.masked)
    starts, ends = column.offsets[:-1][index], column.offsets[1:][index]
    lengths = ends - starts
    offsets = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    # position of every byte: its place in the new buffer, moved by its cell's shift
    positions = np.arange(int(offsets[-1]), dtype=np.int64) + np.repeat(starts - offsets[:-1], lengths)
    spans = _take_spans(column.spans, index)
    return Column(column.values[positions], offsets, codes, spans, frames, column.masked)


def _take_spans(spans: I64Array | None, index: npt.NDArray[np.int64]) -> I64Array | None:
    if spans is None or not len(spans):
        return None
    by_row: dict[int, list[tuple[int, int]]] = {}
    for row, start, end in spans.tolist():
        by_row.setdefault(row, []).append((start, end))
    kept = [(new, a, b) for new, old in enumerate(index.tolist()) for a, b in by_row.get(old, ())]
    return np.array(kept, dtype=np.int64).reshape(-1, 3) if kept else None


def null_out(column: Column, rows: npt.NDArray[np.bool_], code: int) -> Column:
    """Return the column with the cells of mask `rows` null for reason `code`, their bytes gone."""
    if not rows.any():
        return column
    codes = np.zeros(column.rows, dtype=np.uint8) if column.quality is None else column.quality.copy()
    codes[rows] = code
    frames = column.frames and [
        None if gone else f for f, gone in zip(column.frames, rows.tolist(), strict=True)
    ]
    if column.offsets is None:
        values = column.values.copy()
        values[rows] = 0
        return Column(values, None, codes, None, frames, column.masked)
    lengths = np.where(rows, 0, np.diff(column.offsets))
    offsets = np.zeros(column.rows + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    kept = np.repeat(~rows, np.diff(column.offsets))
    spans = column.spans
    if spans is not None:
        spans = spans[~rows[spans[:, 0]]]
    return Column(column.values[kept], offsets, codes, spans, frames, column.masked)


def concat(blocks: Sequence[Block]) -> Block:
    """Join blocks of one schema and lane, rows in order."""
    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    columns = tuple(_concat_columns([b.columns[i] for b in blocks]) for i in range(len(first.columns)))
    hits: Counter[str] = Counter()
    for block in blocks:
        hits.update(block.hits)
    return Block(first.schema, np.concatenate([b.time for b in blocks]), columns, first.lane, hits)


def _concat_columns(columns: Sequence[Column]) -> Column:
    values = np.concatenate([c.values for c in columns])
    codes = None
    if any(c.quality is not None for c in columns):
        codes = np.concatenate(
            [np.zeros(c.rows, dtype=np.uint8) if c.quality is None else c.quality for c in columns]
        )
    frames = None
    if any(c.frames is not None for c in columns):
        frames = [f for c in columns for f in (c.frames or [None] * c.rows)]
    policies = {c.masked for c in columns}
    masked = policies.pop() if len(policies) == 1 else ""
    if columns[0].offsets is None:
        return Column(values, None, codes, None, frames, masked)
    rows = np.cumsum([0] + [c.rows for c in columns])
    size = np.cumsum([0] + [len(c.values) for c in columns])
    parts = [np.zeros(1, dtype=np.int64)]
    parts += [
        c.offsets[1:] + base for c, base in zip(columns, size.tolist(), strict=False) if c.offsets is not None
    ]
    spans = [
        c.spans + np.array([row, 0, 0])
        for c, row in zip(columns, rows.tolist(), strict=False)
        if c.spans is not None
    ]
    joined = np.concatenate(spans) if spans else None
    return Column(values, np.concatenate(parts), codes, joined, frames, masked)
