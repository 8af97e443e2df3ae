"""The columnar payload: round trips, bounds of the decoder, size on the reference series, golden files."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard

from forebay import quality as q
from forebay.blocks import MAX_WAVEFORM_ROWS, Block, Column, Field, Schema, Type, null_out
from forebay.errors import WireError
from forebay.wire.columns import VERSION, decode_columns, encode_columns
from forebay.wire.schema import parse_schema

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests/data/wire").glob("columns-v*.json"))
LIMITS = {"max_rows": MAX_WAVEFORM_ROWS, "max_bytes": 64 << 20}


def _block(columns, time=None, key=""):
    """Build a block of {name: (type, python values or Column)}."""
    fields = tuple(Field(name, type_) for name, (type_, _) in columns.items())
    cells = tuple(c if isinstance(c, Column) else Column.of(t, c) for t, c in columns.values())
    rows = cells[0].rows if cells else 0
    times = np.arange(rows, dtype=np.int64) * 1000 if time is None else np.array(time, dtype=np.int64)
    return Block(Schema("s", fields, key), times, cells)


def _same(a, b):
    np.testing.assert_array_equal(a.time, b.time)
    for x, y in zip(a.columns, b.columns, strict=True):
        assert x.values.dtype == y.values.dtype
        assert x.values.tobytes() == y.values.tobytes()
        assert (x.offsets is None) == (y.offsets is None)
        if x.offsets is not None:
            np.testing.assert_array_equal(x.offsets, y.offsets)
        codes = [np.zeros(c.rows, np.uint8) if c.quality is None else c.quality for c in (x, y)]
        np.testing.assert_array_equal(*codes)


def _round_trip(block, **options):
    options = {"level": 3, **options}
    data = encode_columns(block, **options)
    _same(decode_columns(data, block.schema, **LIMITS), block)
    return data


@pytest.mark.parametrize("compress", [True, False])
def test_all_types_with_specials_come_back(compress):
    _round_trip(
        _block(
            {
                "f": (Type.F64, [1.25, -0.0, 5e-324, 1e300, float("inf"), 0.1, None, 3.0] * 9),
                "i": (Type.I64, [2**63 - 1, -(2**63), 0, None, 7, 7, 7, 7] * 9),
                "b": (Type.BOOL, [True, None, False, True, True, True, False, False] * 9),
                "s": (Type.STR, ["水", "", None, "pump", "pump", "a\0b", "𝄞", "é"] * 9),
                "y": (Type.BYTES, [b"\xff\xd8", b"", None, b"\0", b"x" * 500, b"q", b"q", b"q"] * 9),
            },
            key="s",
        ),
        compress=compress,
    )


def test_nan_payloads_in_cells_that_are_not_null_keep_every_bit():
    bits = [0x7FF8_0000_0000_0001, 0xFFF0_0000_0000_00FF, 0x7FF0_0000_0000_0001]
    values = np.array([0.5] * 60)
    values[[3, 30, 59]] = [struct.unpack("<d", struct.pack("<Q", b))[0] for b in bits]
    _round_trip(_block({"f": (Type.F64, Column(values))}))


def test_nothing_hides_under_a_null():
    secret = b"13800138000"
    column = Column(
        np.frombuffer(secret * 2, np.uint8), np.array([0, 11, 22]), np.array([0, q.GUARDED], np.uint8)
    )
    number = Column(np.array([1.5, 13800138000.0]), None, np.array([0, q.GUARDED], np.uint8))
    block = _block({"s": (Type.STR, column), "n": (Type.F64, number)})
    data = encode_columns(block, level=3, compress=False)
    assert data.count(secret) == 1
    back = decode_columns(data, block.schema, **LIMITS)
    assert back.columns[0].to_list(Type.STR) == [secret.decode(), None]
    assert back.columns[0].values.tobytes() == secret
    assert back.columns[1].values.tolist() == [1.5, 0.0]


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_tiny_and_empty_blocks_come_back(rows):
    types = {Type.F64: 1.5, Type.I64: 2, Type.BOOL: True, Type.STR: "x", Type.BYTES: b"y"}
    _round_trip(_block({t.value: (t, [v] * rows) for t, v in types.items()}, key="str"))


def test_a_block_without_columns_comes_back():
    block = Block(Schema("s", ()), np.array([5, 6, 7], dtype=np.int64), ())
    _round_trip(block)


@pytest.mark.parametrize("type_", list(Type))
def test_all_null_columns_come_back_and_cost_little(type_):
    column = null_out(Column.of(type_, [None] * 500), np.ones(500, dtype=np.bool_), q.UNCHANGED)
    assert len(_round_trip(_block({"x": (type_, column)}))) < 30


def test_one_quality_pattern_is_written_once():
    codes = np.random.default_rng(1).choice([0, q.RANGE, q.UNCHANGED], 900).astype(np.uint8)
    columns = {n: (Type.I64, Column(np.where(codes > 127, 0, 5), None, codes)) for n in "abcd"}
    one = len(_round_trip(_block({"a": columns["a"]})))
    assert len(_round_trip(_block(columns))) < one + 3 * 8


def test_key_with_nulls_and_grouped_columns_with_nulls_come_back():
    rng = np.random.default_rng(8)
    names = [None if i % 11 == 0 else f"dev{i % 5}" for i in range(400)]
    values = [None if rng.random() < 0.3 else round(float(v), 1) for v in np.cumsum(rng.normal(0, 1, 400))]
    values[17] = -0.0
    keys = [None if i % 13 == 0 else (i % 7) * 10**12 for i in range(400)]
    for key, column in (
        ("k", (Type.STR, names)),
        ("k", (Type.I64, keys)),
        ("k", (Type.BYTES, [b"a", b"b"] * 200)),
    ):
        _round_trip(_block({"v": (Type.F64, values), "k": column}, key=key))


def test_grouping_by_a_dictionary_is_found_without_a_key():
    rng = np.random.default_rng(8)
    walk = np.cumsum(rng.integers(-2, 3, (40, 20)), axis=0) + rng.integers(0, 10**6, 20)
    block = _block(
        {"v": (Type.I64, walk.ravel().tolist()), "d": (Type.STR, [f"d{i % 20}" for i in range(800)])}
    )
    plain = _block({"v": (Type.I64, walk.ravel().tolist())})
    assert 2 * len(_round_trip(block)) < len(_round_trip(plain))


def test_numbered_cells_are_cheap_and_come_back():
    for texts in (
        [f"plant3/line2/pump-{i:04d}" for i in range(0, 3000, 3)],
        [f"{i:018d}" for i in range(10**17, 10**17 + 50)],
        [f"{i:019d}" for i in range(10**18, 10**18 + 50)],
        ["a1", "a2", "b3"],
        ["7", "8"],
    ):
        data = _round_trip(_block({"d": (Type.STR, texts)}))
    assert len(data) < 40
    assert len(_round_trip(_block({"d": (Type.STR, [f"pump-{i:04d}" for i in range(500)])}))) < 60


def test_read_only_and_strided_arrays_are_taken():
    values, codes = np.arange(200.0)[::2], np.zeros(200, dtype=np.uint8)[::2]
    codes[3] = q.SPIKE
    for array in (values, codes):
        array.flags.writeable = False
    block = Block(Schema("s", (Field("f", Type.F64),)), np.arange(200)[::2], (Column(values, None, codes),))
    _round_trip(block)


def test_pictures_of_8_mib_pass_uncompressed():
    picture = np.random.default_rng(1).bytes(8 * 1024 * 1024)
    block = _block({"jpeg": (Type.BYTES, [picture, b"", None])})
    data = _round_trip(block)
    assert len(picture) < len(data) < len(picture) + 100


def test_long_texts_are_compressed_and_short_payloads_have_no_zstd_without_compress():
    texts = [f"{i}: pump {i * 7919 % 1000} started after check of valve {i % 13}" for i in range(400)]
    block = _block({"s": (Type.STR, texts)})
    total = sum(len(t) for t in texts)
    assert 3 * len(_round_trip(block)) < total
    assert len(_round_trip(block, compress=False)) > total


def test_waveforms_of_65536_rows_come_back_small():
    t = np.arange(MAX_WAVEFORM_ROWS)
    wave = np.round(np.sin(t / 50) * 8 + np.random.default_rng(2).normal(0, 0.002, len(t)), 3)
    block = _block({"a": (Type.F64, Column(wave))}, time=t * 39_062 + 10**18)
    assert len(_round_trip(block)) < 2 * len(t)


def test_float32_in_doubles_costs_four_bytes():
    values = np.random.default_rng(2).normal(0, 1, 1000).astype(np.float32).astype(np.float64)
    assert len(_round_trip(_block({"f": (Type.F64, Column(values))}))) < 4.1 * 1000


def test_columns_that_do_not_fit_are_the_callers_error():
    good = _block({"a": (Type.I64, [1, 2])})
    for block in (
        Block(good.schema, good.time[:1], good.columns),
        Block(good.schema, good.time, ()),
        Block(good.schema, good.time, (Column(np.arange(2), None, np.zeros(3, np.uint8)),)),
    ):
        with pytest.raises(ValueError, match=r"expected|length"):
            encode_columns(block, level=1)


# -- hostile bytes


def _sample_block():
    rng = np.random.default_rng(6)
    n = 60
    values = np.round(np.cumsum(rng.normal(0, 1, n)), 2)
    values[7] = np.pi
    codes = np.where(np.arange(n) % 9 == 0, q.NULL, 0).astype(np.uint8)
    texts = [f"line {i} of {rng.integers(1000)} 水" * 3 for i in range(n)]
    return _block(
        {
            "d": (Type.STR, [f"dev{i % 4}" for i in range(n)]),
            "f": (Type.F64, Column(np.where(codes > 0, 0.0, values), None, codes)),
            "r": (Type.F64, Column(rng.random(n))),
            "s": (Type.STR, texts),
            "b": (Type.BOOL, (rng.random(n) < 0.5).tolist()),
            "y": (Type.BYTES, [rng.bytes(i % 5) for i in range(n)]),
        },
        key="d",
    )


def test_every_truncation_is_a_wire_error():
    block = _sample_block()
    data = encode_columns(block, level=3)
    for size in range(len(data)):
        with pytest.raises(WireError):
            decode_columns(data[:size], block.schema, **LIMITS)
    with pytest.raises(WireError, match="too many"):
        decode_columns(data + b"\0", block.schema, **LIMITS)


def test_mutated_bytes_are_a_wire_error_or_a_sound_block():
    rng = np.random.default_rng(13)
    block = _sample_block()
    source = [encode_columns(block, level=3, compress=c) for c in (True, False)]
    outcomes = [0, 0]
    for trial in range(3000):
        data = bytearray(source[trial % 2])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            back = decode_columns(bytes(data), block.schema, max_rows=1000, max_bytes=1 << 20)
        except WireError:
            outcomes[0] += 1
            continue
        outcomes[1] += 1
        assert all(c.rows == back.rows for c in back.columns)
        for field, column in zip(block.schema.fields, back.columns, strict=True):
            if field.type is Type.STR:
                assert all(column.cell_bytes(r).decode() is not None for r in range(back.rows))
    assert min(outcomes) > 100


def test_random_bytes_are_a_wire_error():
    rng = np.random.default_rng(14)
    schema = _sample_block().schema
    for _ in range(500):
        with pytest.raises(WireError):
            decode_columns(b"\x01" + rng.bytes(int(rng.integers(0, 300))), schema, **LIMITS)


def test_rows_and_bytes_beyond_the_limits_are_refused_at_the_limit():
    block = _block({"i": (Type.I64, [5] * 100)})
    data = encode_columns(block, level=1)
    assert decode_columns(data, block.schema, max_rows=100, max_bytes=1600).rows == 100
    with pytest.raises(WireError, match="up to 99"):
        decode_columns(data, block.schema, max_rows=99, max_bytes=1600)
    with pytest.raises(WireError, match="limit of bytes"):
        decode_columns(data, block.schema, max_rows=100, max_bytes=1599)


def test_a_dictionary_cannot_be_blown_up_beyond_the_limit():
    small = _block({"y": (Type.BYTES, [b"x" * 1000] * 900)})
    data = encode_columns(small, level=3)
    assert len(data) < 100
    assert decode_columns(data, small.schema, max_rows=1000, max_bytes=1_000_000).rows == 900
    with pytest.raises(WireError, match="limit of bytes"):
        decode_columns(data, small.schema, max_rows=1000, max_bytes=900_000)


def _text_payload(blob, length=300):
    """Write by hand a block of one row with one bytes column of `length` bytes."""

    def varint(v):
        return bytes((v,)) if v < 128 else bytes((v & 127 | 128,)) + varint(v >> 7)

    section = b"\0\x04\0" + b"\0" + varint(2 * length) + blob
    return b"\x01\x01\x01\x00" + b"\x02\0\0" + varint(len(section)) + section


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (zstandard.ZstdCompressor().compress(b"x" * (8 << 20)), "declares another size"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 300), "declares another size"),
        (zstandard.ZstdCompressor().compress(b"x" * 300) + b"tail", "not a zstd frame"),
        (b"\x28\xb5\x2f\xfd", "not a zstd frame"),
        (b"", "not a zstd frame"),
    ],
)
def test_a_zstd_frame_must_declare_the_size_that_was_accounted_for(frame, message):
    schema = Schema("s", (Field("y", Type.BYTES),))
    good = zstandard.ZstdCompressor().compress(b"x" * 300)

    def payload(f):
        size = (
            bytes((len(f) & 127 | 128, len(f) >> 7))
            if len(f) < 16384
            else bytes((len(f) & 127 | 128, len(f) >> 7 & 127 | 128, len(f) >> 14))
        )
        return _text_payload(b"\x01" + size + f)

    assert decode_columns(payload(good), schema, **LIMITS).columns[0].values.tobytes() == b"x" * 300
    with pytest.raises(WireError, match=message):
        decode_columns(payload(frame), schema, **LIMITS)


@pytest.mark.parametrize("cells", [[b"\xff"], [b"\xe6", b"\xb0\xb4"], [b"\xed\xa0\x80"], [b"ok", b"\xc3"]])
def test_str_cells_that_are_not_utf8_are_refused_without_showing_them(cells):
    offsets = np.cumsum([0] + [len(c) for c in cells])
    block = _block({"s": (Type.STR, Column(np.frombuffer(b"".join(cells), np.uint8), offsets))})
    data = encode_columns(block, level=1)
    with pytest.raises(WireError, match="UTF-8") as caught:
        decode_columns(data, block.schema, **LIMITS)
    assert caught.value.__cause__ is None


def test_another_schema_is_refused():
    block = _block({"i": (Type.I64, [1, 2]), "s": (Type.STR, ["a", "b"])})
    data = encode_columns(block, level=1)
    for fields in (
        block.schema.fields[:1],
        (*block.schema.fields, Field("z", Type.I64)),
        block.schema.fields[::-1],
    ):
        with pytest.raises(WireError):
            decode_columns(data, Schema("s", fields), **LIMITS)


def test_later_versions_are_refused_by_name():
    with pytest.raises(WireError, match="version 1, found 2"):
        decode_columns(b"\x02\0\0\0", Schema("s", ()), **LIMITS)


# -- budgets and golden files


@pytest.mark.parametrize(("rows", "budget"), [(1000, 0.70 - 0.02), (50, 2.0 - 0.4)])
def test_the_reference_series_stays_within_its_bytes(rows, budget, monkeypatch):
    """The envelope's 100 bytes are kept free: 0.02 and 0.4 bytes a reading."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import reference_series

    events = 4 * rows
    blocks = list(reference_series.blocks(reference_series.generate(events), rows))
    size = sum(len(_round_trip(block)) for block in blocks)
    assert size / (events * reference_series.READINGS) <= budget
    sys.modules.pop("benchmarks.reference_series", None)


def test_the_reference_series_has_the_entropy_that_budgets_speak_of(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import reference_series

    series = reference_series.generate(50_000)
    assert reference_series.entropy_per_reading(series) == pytest.approx(0.49, abs=0.01)
    assert len(reference_series.ndjson(series)) / 50_000 == pytest.approx(113.5, abs=1.0)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_golden_payloads_of_every_version_decode_for_ever(path):
    golden = json.loads(path.read_text(encoding="utf-8"))
    schema = parse_schema(bytes.fromhex(golden["schema"]))
    block = decode_columns(bytes.fromhex(golden["payload"]), schema, **LIMITS)
    assert block.time.tolist() == golden["time"]
    for field, column, expected in zip(schema.fields, block.columns, golden["columns"], strict=True):
        assert field.name == expected["name"]
        values = column.to_list(field.type)
        if field.type is Type.BYTES:
            values = [None if v is None else v.hex() for v in values]
        elif field.type is Type.F64:
            values = [None if v is None else struct.pack(">d", v).hex() for v in values]
        assert values == expected["values"]
        assert (column.quality.tolist() if column.quality is not None else None) == expected["quality"]


def test_there_is_a_golden_payload_of_this_version():
    assert any(path.stem.startswith(f"columns-v{VERSION}-") for path in GOLDEN)
