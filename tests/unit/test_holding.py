"""What waits to be sealed is protected once for a whole batch, pictures at once, and nothing is masked twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forebay.blocks import MAX_ROWS, Block, Column, Field, Lane, Schema, Type
from forebay.holding import Holding

TEXT = Schema("s", (Field("note", Type.STR),))
PICTURE = Schema("s", (Field("still", Type.BYTES, media="image"),))


class Protector:
    """Marks what it sees and remembers how many rows it saw at once."""

    def __init__(self, *, drop: bool = False) -> None:
        self.seen: list[int] = []
        self.already: list[str] = []
        self._drop = drop

    def __call__(self, block: Block) -> Block:
        self.seen.append(block.rows)
        self.already.append(block.columns[0].masked)
        if self._drop:
            return block.take(np.zeros(block.rows, dtype=np.bool_))
        return replace(block, columns=tuple(column.marked("policy") for column in block.columns))


def text(first: int, rows: int = 1, *, masked: str = "", lane: Lane = Lane.NORMAL) -> Block:
    column = Column.of(Type.STR, [f"row {n}" for n in range(first, first + rows)])
    column = column.marked(masked) if masked else column
    return Block(TEXT, np.arange(first, first + rows), (column,), lane)


def test_many_small_blocks_are_looked_at_once():
    look = Protector()
    held = Holding(look)
    for row in range(200):
        held.add(text(row))
    assert look.seen == []
    (block,) = held.take()
    assert look.seen == [200]
    assert block.time.tolist() == list(range(200))
    assert block.columns[0].masked == "policy"
    assert held.take() == []


def test_a_picture_is_protected_before_anything_else_happens():
    look = Protector()
    held = Holding(look)
    held.add(Block(PICTURE, np.array([1]), (Column.of(Type.BYTES, [b"\xff\xd8"]),)))
    assert look.seen == [1]
    (block,) = held.take()
    assert look.seen == [1], "and it is not looked at again"
    assert block.columns[0].masked == "policy"


def test_what_a_policy_has_masked_is_not_joined_with_what_it_has_not():
    look = Protector()
    held = Holding(look)
    held.add(text(0, 3, masked="policy"))
    held.add(text(3, 2))
    held.add(text(5, 1, masked="policy"))
    (block,) = held.take()
    assert sorted(zip(look.seen, look.already, strict=True)) == [(2, ""), (4, "policy")]
    assert sorted(block.time.tolist()) == list(range(6))


def test_lanes_stay_apart_and_an_urgent_row_is_told():
    held = Holding(Protector())
    held.add(text(0))
    assert not held.urgent
    held.add(text(1, lane=Lane.URGENT))
    assert held.urgent
    assert sorted(block.lane for block in held.take()) == sorted([Lane.NORMAL, Lane.URGENT])
    assert not held.urgent


def test_a_batch_is_full_by_rows_and_rows_that_the_policy_drops_leave_nothing():
    held = Holding(Protector(drop=True))
    held.add(text(0, MAX_ROWS - 1))
    assert not held.is_full()
    held.add(text(MAX_ROWS))
    assert held.is_full()
    assert held.take() == []
    assert not held.is_full()


def test_a_batch_is_full_by_bytes():
    held = Holding(Protector())
    column = Column.of(Type.STR, ["x" * 5_000_000])
    held.add(Block(TEXT, np.array([1]), (column,)))
    assert held.is_full()
