"""The record model: what columns and blocks remember of themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type, concat, null_out


def texts(*cells: str | None) -> Column:
    return Column.of(Type.STR, cells)


def cells_of(column: Column) -> list[bytes]:
    distinct = column.distinct()
    taken = Column(distinct.values, distinct.offsets)
    return [taken.cell_bytes(row) for row in range(len(distinct))]


def test_distinct_cells_are_numbered_in_order_of_appearance():
    column = texts("b", "a", "b", None, "a", "")
    assert cells_of(column) == [b"b", b"a", b""]
    assert column.distinct().codes.tolist() == [0, 1, 0, 2, 1, 2]
    assert column.distinct().first.tolist() == [0, 1, 3]
    assert column.distinct() is column.distinct(), "searched for once"


def test_equal_dictionaries_have_equal_keys_and_others_have_not():
    keys = [
        texts(*c).distinct().key for c in (["ab", "c"], ["ab", "c", "ab"], ["a", "bc"], ["c", "ab"], ["abc"])
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_a_column_with_other_cells_forgets_the_distinct_ones():
    column = texts("13812345678", "x", "x")
    assert cells_of(column) == [b"13812345678", b"x"]
    assert cells_of(column.marked("policy")) == [b"13812345678", b"x"]
    other = texts("masked", "y", "z")
    assert cells_of(replace(column, values=other.values, offsets=other.offsets)) == [b"masked", b"y", b"z"]
    gone = null_out(column, np.array([True, False, False]), q.SUPPRESSED)
    assert cells_of(gone) == [b"", b"x"]


def test_a_block_with_other_columns_counts_its_readings_anew():
    schema = Schema("s", (Field("dev", Type.STR), Field("t", Type.F64)), key="dev")
    block = Block(schema, np.arange(3), (texts("a", "b", "a"), Column(np.arange(3.0))))
    assert block.readings() == 3
    nulled = block.with_columns({"t": null_out(block.columns[1], np.array([True, False, True]), q.GUARDED)})
    assert (block.readings(), nulled.readings()) == (3, 1)
    assert concat([block, nulled]).readings() == 4
    assert block.take(slice(0, 2)).readings() == 2


def test_equal_schemas_are_one_key_and_others_are_not():
    a, b = (Schema("s", (Field("t", Type.F64),), key="t") for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert {a: 1}[b] == 1
    for other in (
        replace(a, stream="x"),
        replace(a, key=""),
        replace(a, fields=()),
        replace(a, stamped_by="gateway"),
    ):
        assert other != a
        assert hash(other) != hash(a)
