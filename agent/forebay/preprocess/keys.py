"""Keys of a stream to slots of the state arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from forebay.blocks import Block, Column, Distinct, Type
from forebay.preprocess.arrays import AS_THEY_ARE, I32, I64, ONE_GROUP, find
from forebay_core.grouping import group_rows

_PARSERS: dict[Type, Callable[[str], Any]] = {
    Type.F64: float,
    Type.I64: int,
    Type.BOOL: lambda text: text == "True",
}


@dataclass(slots=True)
class Groups:
    """The keys of a block's rows.

    Attributes
    ----------
    slots : int32 (n,) slot of each row, -1 where there are more keys than may be remembered; or ONE_GROUP
    present : int64 (g,) slot of each segment
    codes : int32 (n,) segment of each row; or ONE_GROUP
    rows : rows of the block
    order, bounds : segment s is the rows order[bounds[s]:bounds[s + 1]]; order may be AS_THEY_ARE. Made when
        asked for: not every step needs them.
    """

    slots: I32
    present: I64
    codes: I32
    rows: int
    _segments: tuple[I64, I64] | None = None

    @property
    def order(self) -> I64:
        """See the class."""
        return self._in_segments()[0]

    @property
    def bounds(self) -> I64:
        """See the class."""
        return self._in_segments()[1]

    def _in_segments(self) -> tuple[I64, I64]:
        if self._segments is None:
            if self.codes is ONE_GROUP:
                self._segments = AS_THEY_ARE, np.array([0, self.rows], dtype=np.int64)
            else:
                self._segments = group_rows(self.codes, len(self.present))
        return self._segments


class KeySlots:
    """Numbers the keys of a stream in order of appearance, up to a limit."""

    def __init__(self, key: str, max_keys: int) -> None:
        self.key = key
        self.max_keys = max_keys
        self.keys: list[bytes] = []
        self.bypassed = 0  # rows that found no slot
        self._index: dict[bytes, int] = {}
        self._known: tuple[bytes, I64] = (
            b"",
            np.zeros(0, dtype=np.int64),
        )  # the last block's keys, their slots
        self._in_order = False  # these are 0, 1, 2, ..., as they mostly are

    def __len__(self) -> int:
        return len(self.keys)

    def groups(self, block: Block) -> Groups:
        """Return the slot of every row, giving new keys theirs."""
        index = find(block.schema, self.key or block.schema.key) if self.key or block.schema.key else -1
        if index < 0:
            slot = self._slot(b"")
            if slot < 0:
                self.bypassed += block.rows
                slots = np.full(block.rows, -1, dtype=np.int32)
            else:
                slots = ONE_GROUP if slot == 0 else np.full(block.rows, slot, dtype=np.int32)
            return Groups(slots, np.array([slot], dtype=np.int64), ONE_GROUP, block.rows)
        column = _as_text(block.schema.fields[index].type, block.columns[index])
        distinct = column.distinct()
        present = self._slots_of(distinct)
        if len(present) == 1 and present[0] == 0:
            return Groups(ONE_GROUP, present, ONE_GROUP, block.rows)
        slots = distinct.codes if self._in_order else present.astype(np.int32)[distinct.codes]
        if len(self.keys) >= self.max_keys:
            self.bypassed += int(np.count_nonzero(slots < 0))
        return Groups(slots, present, distinct.codes, block.rows)

    def _slots_of(self, distinct: Distinct) -> I64:
        """Return the slots of a block's keys. The devices of a stream mostly come in the same order again."""
        if self._known[0] != distinct.key:
            raw, ends = distinct.values.tobytes(), distinct.offsets.tolist()
            slots = [self._slot(raw[a:b]) for a, b in pairwise(ends)]
            self._known = distinct.key, np.array(slots, dtype=np.int64)
            self._in_order = slots == list(range(len(slots)))
        return self._known[1]

    def _slot(self, key: bytes) -> int:
        slot = self._index.get(key)
        if slot is None:
            if len(self.keys) >= self.max_keys:
                return -1
            slot = self._index[key] = len(self.keys)
            self.keys.append(key)
        return slot

    def dump(self) -> list[bytes]:
        """Return what `load` takes."""
        return self.keys

    def load(self, keys: list[bytes]) -> None:
        """Take over the saved keys."""
        self.keys = [bytes(key) for key in keys]
        self._index = {key: slot for slot, key in enumerate(self.keys)}
        self._known = b"", np.zeros(0, dtype=np.int64)

    def column(self, type_: Type, slots: list[int]) -> Column:
        """Return a key column for rows of these slots."""
        cells: list[Any] = [self.keys[slot].decode("utf-8", "replace") or None for slot in slots]
        if type_ in _PARSERS:
            parse = _PARSERS[type_]
            cells = [None if cell is None else parse(cell) for cell in cells]
        elif type_ is Type.BYTES:
            cells = [self.keys[slot] or None for slot in slots]
        return Column.of(type_, cells)


def _as_text(type_: Type, column: Column) -> Column:
    """Return a key column as text; numbers as keys are rare, and their speed is that of Python."""
    if column.offsets is not None:
        return column
    return Column.of(Type.STR, [None if v is None else str(v) for v in column.to_list(type_)])
