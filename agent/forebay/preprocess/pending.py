"""Rows that wait, per key: what `window` and `resample` hold until they can say something.

Each key holds its rows as three arrays: time (n,), values (fields, n) and quality codes (fields, n). The
fields are those that came by so far, in order of appearance; a block that lacks one has it missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Field, Lane, Schema
from forebay.preprocess.arrays import F64, I64, U8, find, numbers
from forebay.preprocess.base import FieldChoice, Worker
from forebay.preprocess.keys import Groups, KeySlots
from forebay.preprocess.state import pack_field, unpack_field


@dataclass(slots=True)
class Rows:
    """Rows of one key in order of arrival."""

    time: I64
    values: F64
    codes: U8

    def __len__(self) -> int:
        return len(self.time)


def empty_rows(fields: int, rows: int) -> Rows:
    """Return arrays for so many fields and rows; what they hold is to be written first."""
    return Rows(
        np.empty(rows, dtype=np.int64), np.empty((fields, rows)), np.empty((fields, rows), dtype=np.uint8)
    )


def join(parts: list[Rows], fields: int) -> Rows:
    """Join rows of one or several keys, giving those from before a field came by a missing cell."""
    if len(parts) == 1 and len(parts[0].values) == fields:
        return parts[0]
    for i, part in enumerate(parts):
        lacking = fields - len(part.values)
        if lacking:
            parts[i] = Rows(
                part.time,
                np.concatenate([part.values, np.zeros((lacking, len(part)))]),
                np.concatenate([part.codes, np.full((lacking, len(part)), q.MISSING, dtype=np.uint8)]),
            )
    return Rows(
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.values for part in parts], axis=1),
        np.concatenate([part.codes for part in parts], axis=1),
    )


class PendingWorker(Worker):
    """Holds rows per key between blocks, and what it needs to know of their stream."""

    def __init__(self, step: str, names: tuple[str, ...], key: str, max_keys: int) -> None:
        super().__init__()
        self.slots = KeySlots(key, max_keys)
        self.choice = FieldChoice(step, names, key)
        self.fields: dict[str, Field] = {}
        self.key_field: Field | None = None
        self.stamped_by = "device"
        self.stream = ""
        self.lane = Lane.NORMAL
        self._derived: tuple[tuple[object, ...], Schema] | None = None

    def learn(self, block: Block) -> None:
        """Take note of the block's stream and of fields that were not seen before."""
        key = self.slots.key or block.schema.key
        index = find(block.schema, key) if key else -1
        if index >= 0:
            self.key_field = block.schema.fields[index]
        self.stream, self.lane, self.stamped_by = block.stream, block.lane, block.schema.stamped_by
        for at in self.choice.of(block.schema):
            field = block.schema.fields[at]
            self.fields.setdefault(field.name, field)

    def rows_of(self, block: Block) -> Rows:
        """Return the block's chosen columns as rows in the order of `fields`."""
        values = np.zeros((len(self.fields), block.rows))
        codes = np.full((len(self.fields), block.rows), q.MISSING, dtype=np.uint8)
        for at, name in enumerate(self.fields):
            index = block.schema.index(name)
            if index >= 0 and block.columns[index].offsets is None:
                column = block.columns[index]
                values[at] = numbers(column)
                codes[at] = 0 if column.quality is None else column.quality
        return Rows(block.time, values, codes)

    def segments(self, groups: Groups, rows: Rows) -> list[tuple[int, I64, Rows]]:
        """Return for each key of a block its slot, its rows' numbers in the block, and its rows."""
        if not len(groups.order):
            everything = np.arange(len(rows), dtype=np.int64)
            return [(slot, everything, rows) for slot in groups.present.tolist() if slot >= 0]
        order, ends = groups.order, groups.bounds.tolist()
        # one gather for all keys; each then is a slice
        rows = Rows(rows.time[order], rows.values[:, order], rows.codes[:, order])
        return [
            (slot, order[a:b], Rows(rows.time[a:b], rows.values[:, a:b], rows.codes[:, a:b]))
            for slot, (a, b) in zip(groups.present.tolist(), pairwise(ends), strict=True)
            if slot >= 0
        ]

    def schema(self, stream: str, made: Callable[[Field], list[Field]]) -> Schema:
        """Return the schema of derived rows: the key, if there is one, and what is `made` of each field.

        It is one object until a field comes: whoever looks things up by schema then need not compare its fields.
        """
        facts = stream, self.stamped_by, self.key_field, len(self.fields)
        if self._derived is None or self._derived[0] != facts:
            key = () if self.key_field is None else (self.key_field,)
            name = "" if self.key_field is None else self.key_field.name
            fields = (field for known in self.fields.values() for field in made(known))
            self._derived = facts, Schema(stream, (*key, *fields), name, self.stamped_by)
        return self._derived[1]

    def bypassed(self) -> int:
        """See Worker."""
        return self.slots.bypassed

    def dump(self) -> dict[str, Any]:
        """See Worker."""
        return {
            "keys": self.slots.dump(),
            "fields": [pack_field(field) for field in self.fields.values()],
            "key_field": None if self.key_field is None else pack_field(self.key_field),
            "stream": [self.stream, str(self.lane), self.stamped_by],
        }

    def load(self, saved: dict[str, Any]) -> None:
        """See Worker."""
        self.slots.load(saved["keys"])
        self.fields = {field.name: field for field in map(unpack_field, saved["fields"])}
        self.key_field = None if saved["key_field"] is None else unpack_field(saved["key_field"])
        self.stream, lane, self.stamped_by = saved["stream"]
        self.lane = Lane(lane)
