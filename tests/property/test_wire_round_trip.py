"""Property tests of the columnar payload: any block comes back, any bytes are survived."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.errors import WireError
from forebay.wire.columns import decode_columns, encode_columns

I64S = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-100, 100), st.sampled_from([-(2**63), 2**63 - 1])
)
F64S = st.one_of(
    st.floats(width=64),
    st.integers(-(10**6), 10**6).map(lambda m: m / 100),
    st.sampled_from([-0.0, 5e-324, float("inf"), float("nan"), 0.1]),
)
CELLS = {
    Type.F64: F64S,
    Type.I64: I64S,
    Type.BOOL: st.booleans(),
    Type.STR: st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    Type.BYTES: st.binary(max_size=12),
}


@st.composite
def blocks(draw):
    rows = draw(st.integers(0, 80))
    types = draw(st.lists(st.sampled_from(list(Type)), max_size=4))
    fields = tuple(Field(f"f{i}", t) for i, t in enumerate(types))
    columns = []
    for type_ in types:
        few = draw(st.lists(CELLS[type_], min_size=1, max_size=5))
        cells = st.one_of(CELLS[type_], st.sampled_from(few)) if draw(st.booleans()) else st.sampled_from(few)
        values = draw(st.lists(cells, min_size=rows, max_size=rows))
        codes = None
        if draw(st.booleans()):
            codes = np.array(
                draw(st.lists(st.integers(0, 255), min_size=rows, max_size=rows)), dtype=np.uint8
            )
        else:
            codes = np.zeros(rows, dtype=np.uint8)  # NaN stays a value: every bit must survive
        column = Column.of(type_, values, codes)
        columns.append(column)
    time = np.array(draw(st.lists(I64S, min_size=rows, max_size=rows)), dtype=np.int64)
    key = draw(st.sampled_from(["", *(f.name for f in fields)]))
    return Block(Schema("s", fields, key), time, tuple(columns))


@settings(max_examples=150, deadline=None)
@given(blocks(), st.booleans())
def test_any_block_comes_back_to_the_last_bit(block, compress):
    data = encode_columns(block, level=1, compress=compress)
    back = decode_columns(data, block.schema, max_rows=80, max_bytes=1 << 20)
    assert back.time.tolist() == block.time.tolist()
    for a, b in zip(back.columns, block.columns, strict=True):
        assert a.values.tobytes() == b.values.tobytes()
        assert (a.offsets is None) == (b.offsets is None)
        if a.offsets is not None:
            assert a.offsets.tolist() == b.offsets.tolist()
        codes = [np.zeros(c.rows, np.uint8) if c.quality is None else c.quality for c in (a, b)]
        assert codes[0].tolist() == codes[1].tolist()


@settings(max_examples=150, deadline=None)
@given(blocks(), st.data())
def test_any_change_of_bytes_is_survived(block, data):
    payload = bytearray(encode_columns(block, level=1))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = decode_columns(bytes(payload), block.schema, max_rows=80, max_bytes=1 << 16)
    except WireError:
        return
    assert all(column.rows == back.rows for column in back.columns)
    assert back.nbytes <= (1 << 16) + 9 * 80 * len(back.columns)
