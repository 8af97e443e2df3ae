"""The codec kernels: one body over the compiled module and its reference twin, and parity of their bytes."""

from __future__ import annotations

import struct
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from forebay_core import IMPLEMENTATION, codec
from forebay_core import cells as chosen_cells
from forebay_core.reference import cells, decimals, residuals
from forebay_core.reference import codec as ints

I64 = np.iinfo(np.int64)
REFERENCE = SimpleNamespace(
    **{
        name: getattr(module, name)
        for module, names in (
            (ints, ("encode_ints", "decode_ints")),
            (residuals, ("encode_residuals", "decode_residuals")),
            (cells, ("gather",)),
            (decimals, ("to_decimal", "from_decimal", "to_ordered", "from_ordered")),
        )
        for name in names
    }
)
COMPILED = SimpleNamespace(
    **{name: getattr(codec, name) for name in codec.__all__}, gather=chosen_cells.gather
)


def _implementations():
    return ["reference"] if IMPLEMENTATION == "pure" else ["compiled", "reference"]


@pytest.fixture(params=_implementations())
def core(request):
    return COMPILED if request.param == "compiled" else REFERENCE


def _frozen(array):
    array.flags.writeable = False
    return array


def _columns():
    """Return (name, int64 values, groups or None) of the shapes that columns have."""
    rng = np.random.default_rng(7)
    n = 700
    devices = (np.arange(n) % 50).astype(np.int32)
    walk = np.cumsum(rng.normal(0, 2, (n // 50, 50)), axis=0).ravel().round() + rng.normal(0, 99, 50)[devices]
    outliers = rng.integers(-3, 4, n)
    outliers[[5, 400]] = (1 << 40, -(1 << 50))
    return [
        ("one", np.array([-17]), None),
        ("two", np.array([3, I64.min]), None),
        ("equal", np.full(300, -5), None),
        ("sequence", np.arange(1000) + 10**12, None),
        ("jittered ms", (1_760_000_000_000 + 20 * np.arange(n) + rng.integers(-5, 6, n)) * 1_000_000, None),
        ("parabola", np.arange(n) ** 2 * 3, None),
        ("falling line", 7 - np.arange(n) * 13 // 4 + rng.integers(0, 3, n), None),
        ("bits", rng.integers(0, 2, n), None),
        ("noise", rng.integers(I64.min, I64.max, n), None),
        ("extremes", np.array([I64.min, I64.max, 0, -1, 1, I64.max, I64.min] * 30), None),
        ("outliers", outliers, None),
        ("grouped walk", walk.astype(np.int64), devices),
        ("grouped ramps", (np.arange(n) // 50 * devices * 7 + devices * 1000).astype(np.int64), devices),
        ("grouped extremes", rng.choice([I64.min, I64.max, 0], n), devices),
        ("one group", np.cumsum(rng.integers(-9, 9, 129)), np.zeros(129, dtype=np.int32)),
        ("long", np.cumsum(rng.integers(-9, 9, 9000)), (np.arange(9000) % 3).astype(np.int32)),
    ]


@pytest.fixture(params=_columns(), ids=lambda column: column[0])
def column(request):
    _, values, groups = request.param
    return _frozen(np.array(values, dtype=np.int64)), None if groups is None else _frozen(groups.copy())


def _decode(core, data, n, groups=None, start=0):
    out = np.empty(n, dtype=np.int64)
    end = core.decode_ints(np.frombuffer(data, dtype=np.uint8), start, out, groups, 50)
    return end, out


@pytest.mark.parametrize("entropy", [True, False])
def test_integer_streams_come_back_to_the_last_bit_and_end_where_they_end(core, column, entropy):
    values, groups = column
    data = core.encode_ints(values, groups, 50, entropy)
    end, out = _decode(core, b"ab" + data + b"tail", len(values), groups, 2)
    assert end == 2 + len(data)
    np.testing.assert_array_equal(out, values)


@pytest.mark.skipif(IMPLEMENTATION == "pure", reason="needs both implementations")
@pytest.mark.parametrize("entropy", [True, False])
def test_compiled_and_reference_write_the_same_bytes(column, entropy):
    values, groups = column
    assert codec.encode_ints(values, groups, 50, entropy) == ints.encode_ints(values, groups, 50, entropy)


@pytest.mark.parametrize("kind", range(1, 8))
@pytest.mark.parametrize("grouped", [True, False])
def test_a_named_predictor_is_taken_and_comes_back(core, column, kind, grouped):
    values, groups = column
    groups = groups if grouped else None
    data = core.encode_ints(values, groups, 50, True, kind)
    assert data[0] & 15 in ({0, kind} if groups is not None or kind < 6 else set(range(6)))
    end, out = _decode(core, data, len(values), groups)
    assert end == len(data)
    np.testing.assert_array_equal(out, values)
    if IMPLEMENTATION != "pure":
        assert data == ints.encode_ints(values, groups, 50, True, kind)


def test_the_best_predictor_named_gives_the_same_bytes(core, column):
    values, groups = column
    data = core.encode_ints(values, groups, 50)
    assert core.encode_ints(values, groups, 50, True, data[0] & 15) == data


@pytest.mark.parametrize("kind", [-1, 8])
def test_a_predictor_that_does_not_exist_is_refused(core, kind):
    with pytest.raises(ValueError, match="predictor"):
        core.encode_ints(np.arange(3), None, 0, True, kind)


@pytest.mark.parametrize("divisor", [2, 3, 1_000_000, 1 << 40, 3 << 61, 1 << 62, (1 << 62) - 1])
def test_distances_with_any_common_divisor_come_back(core, divisor):
    rng = np.random.default_rng(divisor % 1000)
    top = I64.max // divisor
    values = rng.integers(-min(top, 50), min(top, 50) + 1, 400) * divisor
    data = core.encode_ints(values)
    end, out = _decode(core, data, len(values), None)
    assert end == len(data)
    np.testing.assert_array_equal(out, values)
    if IMPLEMENTATION != "pure":
        assert data == ints.encode_ints(values)


def test_no_values_are_no_bytes(core):
    empty = np.empty(0, dtype=np.int64)
    assert core.encode_ints(empty) == b""
    assert core.decode_ints(b"xyz", 1, empty) == 1
    assert core.decode_ints(b"xyz", 4, empty) == -1


@pytest.mark.parametrize("groups", [[0, 1], [0, 1, 50], [0, -1, 2]])
def test_groups_that_do_not_fit_are_refused(core, groups):
    values, groups = np.arange(3), np.array(groups, dtype=np.int32)
    with pytest.raises(ValueError, match="group numbers"):
        core.encode_ints(values, groups, 50)
    with pytest.raises(ValueError, match="group numbers"):
        core.decode_ints(b"\0\0", 0, values.copy(), groups, 50)


def test_every_truncation_of_a_stream_is_an_error(core):
    rng = np.random.default_rng(3)
    groups = (np.arange(300) % 7).astype(np.int32)
    for values in (rng.integers(-40, 40, 300), np.cumsum(rng.integers(0, 1 << 30, 300))):
        data = core.encode_ints(values, groups, 7)
        assert [_decode(core, data[:size], 300, groups)[0] for size in range(len(data))] == [-1] * len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x00",  # no such predictor
        b"\x80\x00",  # reserved bit
        b"\x36\x00\x00",  # groups, but none are given
        b"\x31\x00",  # coder 3
        b"\x11\x00\x41",  # width 65
        b"\x21\x00\x00\x00\x00\x00\x00\x01\x00",  # a table of nothing
        b"\x11" + b"\xff" * 9 + b"\x02",  # varint beyond 64 bits
        b"\x05\x00\x00\x80\x80\x04",  # fraction 65536
    ],
)
def test_malformed_heads_are_errors(core, data):
    assert _decode(core, data + bytes(40), 20)[0] == -1


@pytest.mark.skipif(IMPLEMENTATION == "pure", reason="needs both implementations")
def test_both_judge_random_and_mutated_bytes_alike():
    rng = np.random.default_rng(11)
    groups = (np.arange(90) % 6).astype(np.int32)
    source = [codec.encode_ints(rng.integers(-s, s, 90), groups, 50) for s in (2, 40, 1 << 33)]
    accepted = 0
    for trial in range(400):
        if trial % 2:
            data = bytearray(source[trial % 3])
            for _ in range(int(rng.integers(1, 4))):
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
        else:
            data = bytearray(rng.bytes(int(rng.integers(1, 200))))
            data[0] = int(rng.integers(128))
        ends = [_decode(core, bytes(data), 90, groups) for core in (codec, REFERENCE)]
        assert ends[0][0] == ends[1][0]
        if ends[0][0] >= 0:
            accepted += 1
            np.testing.assert_array_equal(ends[0][1], ends[1][1])
    assert accepted > 20  # the trial reaches the decoders, not only their first check


@pytest.mark.parametrize("entropy", [True, False])
def test_residuals_of_every_bit_length_come_back(core, entropy):
    rng = np.random.default_rng(5)
    for n in (1, 15, 16, 127, 128, 129, 500):
        lengths = rng.integers(0, 65, n).tolist()
        u = np.array([int.from_bytes(rng.bytes(8)) >> (64 - b) for b in lengths], dtype=np.uint64)
        u[0] = 2**64 - 1
        u.flags.writeable = False
        coder, data = core.encode_residuals(u, entropy)
        out = np.empty_like(u)
        assert core.decode_residuals(data, 0, coder, out) == len(data)
        np.testing.assert_array_equal(out, u)


@pytest.mark.parametrize("rare", [0, 1, 5, 999])
def test_a_token_of_the_least_frequency_is_coded_alike_and_comes_back(core, rare):
    """Two common tokens fill the table, so that what is left for a third is 1 of 4096."""
    u = np.tile(np.array([2, 3], dtype=np.uint64), 2000)
    u[1234] = rare
    coder, data = core.encode_residuals(u)
    assert (coder, data) == residuals.encode_residuals(u)
    out = np.zeros_like(u)
    assert core.decode_residuals(data, 0, coder, out) == len(data)
    assert coder == 2
    assert np.array_equal(out, u)


def test_all_zero_residuals_cost_nothing_and_skewed_ones_far_less_than_a_bit(core):
    assert core.encode_residuals(np.zeros(1000, dtype=np.uint64)) == (0, b"")
    rare = np.zeros(5000, dtype=np.uint64)
    rare[::500] = 1
    coder, data = core.encode_residuals(rare)
    assert coder == 2
    assert len(data) < 30


def test_rans_is_within_three_percent_of_the_entropy_and_its_table():
    rng = np.random.default_rng(1)
    d = np.rint(rng.normal(0, 2, 20_000)).astype(np.int64)
    share = np.unique(d, return_counts=True)[1] / len(d)
    entropy_bytes = -(share * np.log2(share)).sum() * len(d) / 8
    _, data = codec.encode_residuals(((d << 1) ^ (d >> 63)).astype(np.uint64))
    assert entropy_bytes < len(data) < 1.03 * entropy_bytes + 40


def _cells_of(texts):
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(t) for t in texts], out=offsets[1:])
    return _frozen(np.frombuffer(b"".join(texts), dtype=np.uint8)), _frozen(offsets)


def test_gather_takes_cells_and_respects_its_limit(core):
    values, offsets = _cells_of([b"aa", b"", b"cde"])
    taken, ends = core.gather(values, offsets, np.array([2, 2, 0, 1]), 8)
    assert (taken.tobytes(), ends.tolist()) == (b"cdecdeaa", [0, 3, 6, 8, 8])
    assert core.gather(values, offsets, np.array([2, 2, 0, 1]), 7) is None
    with pytest.raises(ValueError, match="index"):
        core.gather(values, offsets, np.array([3]), 100)
    with pytest.raises(ValueError, match="index"):
        core.gather(values, offsets, np.array([-1]), 100)


@pytest.mark.parametrize("offsets", [[0, 3, 2], [0, 9], [-1, 2], []])
def test_offsets_that_do_not_fit_are_refused(core, offsets):
    values, offsets = np.zeros(4, dtype=np.uint8), np.array(offsets, dtype=np.int64)
    with pytest.raises(ValueError, match="offsets"):
        core.gather(values, offsets, np.array([0]), 100)


def _decimal(core, values, limit):
    integers, exceptions = np.empty(len(values), dtype=np.int64), np.empty(limit, dtype=np.int64)
    k, count = core.to_decimal(_frozen(values), integers, exceptions)
    if k < 0:
        return k, [], []
    return k, integers[: len(values) - count].tolist(), exceptions[:count].tolist()


def test_decimals_are_found_with_the_fewest_places(core):
    assert _decimal(core, np.array([1.0, -20.0]), 0) == (0, [1, -20], [])
    assert _decimal(core, np.array([0.1, 2.25, -7.0]), 0) == (2, [10, 225, -700], [])
    assert _decimal(core, np.array([0.1 + 0.2]), 0)[0] == -1
    assert _decimal(core, np.array([1e-15]), 0) == (15, [1], [])
    assert _decimal(core, np.empty(0), 0) == (0, [], [])


@pytest.mark.skipif(IMPLEMENTATION == "pure", reason="needs both implementations")
def test_both_find_the_same_decimals_at_the_edge_of_what_is_exact():
    rng = np.random.default_rng(1)
    top = 2.0**51
    at_the_limit = [top, -top, top - 0.3, -top - 0.3, -top + 0.5, top - 1, top / 2 + 0.5]
    beyond = [2 * top, -2 * top, 4 * top, np.nan, np.inf, -np.inf, 1e300]
    edge = np.array([*at_the_limit, *beyond, 0.0, -0.0, 1.5, -0.1, 5e-324])
    for trial in range(1500):
        n = int(rng.integers(1, 6))
        values = (
            rng.choice(edge, n)
            if trial % 2
            else np.round(rng.normal(0, 10.0 ** (trial % 17 - 3), n), trial % 5)
        )
        limit = int(rng.integers(0, n + 1))
        assert _decimal(COMPILED, values, limit) == _decimal(REFERENCE, values, limit)


def test_special_values_are_exceptions(core):
    values = np.array([1.5] * 40)
    specials = [-0.0, np.inf, -np.inf, np.nan, 5e-324]
    values[3:8] = specials
    assert _decimal(core, values, 5) == (1, [15] * 35, [3, 4, 5, 6, 7])
    assert _decimal(core, values, 4)[0] == -1


def test_every_decimal_text_gives_its_double_back(core):
    rng = np.random.default_rng(9)
    for places in range(10):
        m = rng.integers(-(10**6), 10**6, 200)
        values = np.array([float(f"{v}e-{places}") for v in m.tolist()])
        k, integers, exceptions = _decimal(core, values, 0)
        assert k <= places
        assert not exceptions
        out = np.empty(200)
        core.from_decimal(np.array(integers), k, out)
        assert out.tobytes() == values.tobytes()


def test_ordered_images_keep_order_and_every_bit(core):
    nan = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_DEAD_BEEF))[0]
    values = np.array(
        [-np.inf, -1.5, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1.0000000000000002, np.inf, np.nan, nan]
    )
    image = np.empty(len(values), dtype=np.int64)
    core.to_ordered(_frozen(values), image)
    assert image[3] == I64.min  # -0.0 stands apart
    assert (np.diff(np.delete(image[:9], 3)) > 0).all()
    assert image[7] - image[6] == 1
    assert image[2] == -image[5]
    out = np.empty(len(values))
    core.from_ordered(image, out)
    assert out.tobytes() == values.tobytes()


@pytest.mark.skipif(IMPLEMENTATION == "pure", reason="needs both implementations")
def test_decimals_agree_between_compiled_and_reference():
    rng = np.random.default_rng(4)
    for values in (rng.normal(0, 1, 100), np.round(rng.normal(0, 1e3, 100), 3), rng.random(100) * 1e300):
        values[::10] = np.round(values[::10], 1)
        assert _decimal(codec, values.copy(), 12) == _decimal(REFERENCE, values.copy(), 12)


@pytest.mark.skipif(IMPLEMENTATION == "pure", reason="the twins hold the GIL")
def test_kernels_release_the_gil():
    values = np.random.default_rng(0).integers(0, 1 << 40, 2_000_000)
    beats, running = 0, threading.Event()

    def encode():
        running.set()
        codec.encode_ints(values)
        running.clear()

    thread = threading.Thread(target=encode)
    thread.start()
    running.wait()
    while running.is_set():
        beats += 1
    thread.join()
    assert beats > 1000
