"""What an encoder keeps from block to block: never at the price of bytes or of what comes back."""

from __future__ import annotations

import numpy as np

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.wire import _habits
from forebay.wire._habits import Habits
from forebay.wire.columns import decode_columns, encode_columns

SCHEMA = Schema("s", (Field("dev", Type.STR), Field("t", Type.F64), Field("n", Type.I64)), key="dev")
ROWS = 200


def block(number: int, *, devices: int = 10, shape: str = "walk") -> Block:
    rng = np.random.default_rng(number)
    names = [f"pump-{i % devices:03d}" for i in range(ROWS)]
    n = {
        "walk": np.cumsum(rng.integers(-3, 4, ROWS)),
        "noise": rng.integers(0, 1 << 40, ROWS),
        "line": np.arange(ROWS) * 7 + number,
        "equal": np.full(ROWS, 5),
    }[shape]
    time = 1_760_000_000_000_000_000 + np.arange(ROWS) * 1_000_000_000 + number
    columns = (
        Column.of(Type.STR, names),
        Column(np.round(rng.normal(20, 1, ROWS), 2)),
        Column(n.astype(np.int64)),
    )
    return Block(SCHEMA, time, columns)


def same(a: Block, b: Block) -> bool:
    pairs = zip(SCHEMA.fields, a.columns, b.columns, strict=True)
    return np.array_equal(a.time, b.time) and all(x.to_list(f.type) == y.to_list(f.type) for f, x, y in pairs)


def test_blocks_come_back_whatever_the_stream_was_before():
    habits, shapes = Habits(), ("walk", "walk", "noise", "equal", "line", "walk")
    for number in range(60):
        source = block(number, devices=(7, 10, 100)[number % 3], shape=shapes[number // 10])
        data = encode_columns(source, level=1, habits=habits)
        assert same(decode_columns(data, SCHEMA, max_rows=ROWS, max_bytes=1 << 20), source)


def test_a_stream_that_changes_its_nature_costs_no_more_than_one_that_is_compared_anew():
    habits = Habits()
    with_habits = without = 0
    for number in range(120):
        source = block(number, shape=("line", "walk", "noise", "walk")[number // 30])
        with_habits += len(encode_columns(source, level=1, habits=habits))
        without += len(encode_columns(source, level=1))
    assert with_habits <= 1.01 * without


def test_a_steady_stream_is_compared_once_in_many_blocks(monkeypatch):
    compared = []
    encode = _habits.codec.encode_ints

    def watched(values, groups, count, entropy, kind=0):
        compared.append(kind == 0)
        return encode(values, groups, count, entropy, kind)

    monkeypatch.setattr(_habits.codec, "encode_ints", watched)
    habits = Habits()
    for number in range(32):
        encode_columns(block(number), level=1, habits=habits)
    assert sum(compared) < len(compared) / 4


def test_a_dictionary_of_other_cells_is_written_anew():
    habits = Habits()
    for devices in (10, 10, 11, 10):
        source = block(1, devices=devices)
        data = encode_columns(source, level=1, habits=habits)
        assert data == encode_columns(source, level=1, habits=Habits()), "cells alone decide"
        assert same(decode_columns(data, SCHEMA, max_rows=ROWS, max_bytes=1 << 20), source)
