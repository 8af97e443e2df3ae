"""advance: one body over the compiled kernel and its twin."""

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay import quality as q

PARAMS = ["compiled", "reference"]
LINEAR, LAST, MEAN = 0, 1, 2
LOW, HIGH = -(2**63), 2**63 - 1
MISSING, MADE = q.MISSING, q.INTERPOLATED


def load(which: str) -> ModuleType:
    return import_module(
        "forebay_core._resampling" if which == "compiled" else "forebay_core.reference.resampling"
    )


@pytest.fixture(params=PARAMS)
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


def run(
    kernels: ModuleType, method: int, at: Any, *fields: Any, codes: Any = None, first: int = -100, every: int = 10,
    gap: int = 25, final: bool = True, room: int = 400,
) -> tuple[list[int], list[list[float]], list[list[int]], int, int]:  # fmt: skip
    """Return times, values and codes of the points made, the first open point and the first row needed."""
    time, values = np.array(at, np.int64), np.array(fields, np.float64).reshape(len(fields), len(at))
    given = np.array(codes if codes is not None else np.full(values.shape, 4), np.uint8).reshape(values.shape)
    for array in (time, values, given):
        array.flags.writeable = False
    out = np.full(room, 77), np.full((len(fields), room), 7.0), np.full((len(fields), room), 7, np.uint8)
    firsts, counts, needed = np.array([first]), np.zeros(1, np.int64), np.zeros(1, np.int64)
    made = kernels.advance(
        time, values, given, np.array([0, len(at)]), np.array([final], np.uint8), every, gap, method, firsts,
        counts, needed, *out,
    )  # fmt: skip
    assert counts.tolist() == [made]
    times, cells, marks = out[0][:made], out[1][:, :made], out[2][:, :made]
    return times.tolist(), cells.tolist(), marks.tolist(), int(firsts[0]), int(needed[0])


def test_linear_joins_neighbours_up_to_the_gap_and_keeps_hits(kernels: ModuleType) -> None:
    times, values, codes, _, _ = run(kernels, LINEAR, [5, 15, 20, 46], [0, 10, 20, 46])
    assert (times, values, codes) == ([10, 20], [[5, 20]], [[MADE, 4]])
    times, values, _, _, _ = run(kernels, LINEAR, [5, 15, 21, 46], [0, 10, 21, 46])
    assert times == [10, 20, 30, 40]
    assert values[0] == pytest.approx([5, 10 + 11 * 5 / 6, 30, 40])


def test_last_holds_a_value_no_longer_than_the_gap(kernels: ModuleType) -> None:
    found = run(kernels, LAST, [5, 10, 10, 60], [1, 2, 3, 4])
    assert found[:3] == ([10, 20, 30, 60], [[3, 3, 3, 4]], [[4, MADE, MADE, 4]])


def test_mean_takes_the_interval_that_ends_at_the_point(kernels: ModuleType) -> None:
    found = run(kernels, MEAN, [-11, -10, -1, 0, 9, 10, 39], [50, 1, 3, 5, 7, 9, 11])
    assert found[:3] == ([-10, 0, 10, 20, 40], [[50, 2, 6, 9, 11]], [[0] * 5])


def test_a_point_waits_for_the_next_sample_of_each_field_that_may_still_come(kernels: ModuleType) -> None:
    codes = [[0, MISSING, 0, 0], [0, 0, MISSING, MISSING]]
    found = run(kernels, LINEAR, [0, 12, 21, 30], [0, 0, 21, 30], [0, 12, 0, 0], codes=codes, final=False)
    assert found[0] == [0, 10]
    assert found[3:] == (2, 0)  # point 20 waits for the second field; it lies between its rows 0 and 2
    beyond = run(kernels, LINEAR, [0, 12, 21, 39], [0, 0, 21, 39], [0, 12, 0, 0], codes=codes, final=False)
    assert beyond[0] == [0, 10, 20, 30]


def test_a_point_at_the_latest_time_waits_for_rows_of_the_same_time(kernels: ModuleType) -> None:
    assert run(kernels, LAST, [0, 10], [1, 2], final=False)[0] == [0]
    assert run(kernels, LAST, [0, 10], [1, 2], final=True)[0] == [0, 10]


def test_years_without_a_sample_cost_nothing(kernels: ModuleType) -> None:
    far = 10**18
    for method in (LINEAR, LAST, MEAN):
        found = run(kernels, method, [0, 7, far, far + 10], [1, 2, 3, 4], every=5)
        assert len(found[0]) < 30
        assert found[0][-1] >= far


def test_more_points_than_there_is_room_for_are_asked_for(kernels: ModuleType) -> None:
    time, x, code = np.array([0, 1000]), np.zeros((1, 2)), np.zeros((1, 2), np.uint8)
    room = np.zeros(3, np.int64), np.zeros((1, 3)), np.zeros((1, 3), np.uint8)
    one, all_of_it = [np.zeros(1, np.int64) for _ in range(3)], np.array([0, 2])
    found = kernels.advance(time, x, code, all_of_it, np.ones(1, np.uint8), 10, 1000, LINEAR, *one, *room)
    assert found == 101


usable = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 5e-324, np.nan, np.inf])


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    n, fields = draw(st.integers(1, 20)), draw(st.integers(1, 3))
    wild = draw(st.booleans())
    at = st.sampled_from([LOW, LOW + 3, -5, 0, HIGH - 3, HIGH]) if wild else st.integers(-90, 90)
    cells = st.lists(st.lists(usable, min_size=n, max_size=n), min_size=fields, max_size=fields)
    codes = st.lists(st.sampled_from([0, 4, 65, 128]), min_size=n, max_size=n)
    return {
        "at": sorted(draw(st.lists(at, min_size=n, max_size=n))),
        "fields": draw(cells),
        "codes": [draw(codes) for _ in range(fields)],
        "every": draw(st.sampled_from([2**61, 2**62] if wild else [1, 3, 10])),
        "gap": draw(st.sampled_from([2**61, 2**62] if wild else [10, 25, 60])),
    }


@settings(max_examples=300, deadline=None)
@given(
    data=rows(), method=st.sampled_from([LINEAR, LAST, MEAN]), final=st.booleans(), later=st.integers(0, 3)
)
def test_compiled_and_reference_advance_alike(
    data: dict[str, Any], method: int, final: bool, later: int
) -> None:
    gap = data["every"] if method == MEAN else data["gap"]
    first = -(-data["at"][0] // data["every"]) + later
    found = [
        run(
            load(which), method, data["at"], *data["fields"], codes=data["codes"], first=first,
            every=data["every"], gap=gap, final=final, room=2_000,
        )
        for which in PARAMS
    ]  # fmt: skip
    assert found[0][0] == found[1][0]
    assert found[0][2:] == found[1][2:]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(rows(), min_size=1, max_size=4), finals=st.lists(st.booleans(), min_size=4, max_size=4),
    method=st.sampled_from([LINEAR, LAST, MEAN]), which=st.sampled_from(PARAMS),
)  # fmt: skip
def test_stretches_in_one_call_are_as_each_alone(
    parts: list[dict[str, Any]], finals: list[bool], method: int, which: str
) -> None:
    kernels, every, gap = load(which), 2**61, 2**62
    firsts = [-(-part["at"][0] // every) for part in parts]
    alone = [
        run(
            kernels, method, part["at"], part["fields"][0], codes=part["codes"][:1], first=first, every=every,
            gap=gap, final=final, room=2_000,
        )
        for part, first, final in zip(parts, firsts, finals, strict=False)
    ]  # fmt: skip
    time = np.concatenate([np.array(part["at"], np.int64) for part in parts])
    values = np.concatenate([np.array(part["fields"][:1], np.float64) for part in parts], axis=1)
    codes = np.concatenate([np.array(part["codes"][:1], np.uint8) for part in parts], axis=1)
    bounds = np.cumsum([0, *(len(part["at"]) for part in parts)])
    first, made, needed = np.array(firsts), np.zeros(len(parts), np.int64), np.zeros(len(parts), np.int64)
    out = np.zeros(9_000, np.int64), np.zeros((1, 9_000)), np.zeros((1, 9_000), np.uint8)
    final = np.array(finals[: len(parts)], np.uint8)
    total = kernels.advance(time, values, codes, bounds, final, every, gap, method, first, made, needed, *out)
    ends = np.cumsum([0, *made.tolist()])
    assert total == ends[-1]
    for i, (times, cells, marks, after, wanted) in enumerate(alone):
        a, b = ends[i], ends[i + 1]
        assert (out[0][a:b].tolist(), out[2][:, a:b].tolist()) == (times, marks)
        assert (out[1][:, a:b].tolist(), int(first[i]), int(needed[i])) == (cells, after, wanted)


def test_what_does_not_fit_is_an_error(kernels: ModuleType) -> None:
    time, x, code, out = (
        np.zeros(1, np.int64),
        np.zeros((1, 1)),
        np.zeros((1, 1), np.uint8),
        np.zeros(1, np.int64),
    )
    whole, last, counts = np.array([0, 1]), np.ones(1, np.uint8), [np.zeros(1, np.int64) for _ in range(3)]
    for every, gap, method in ((0, 1, 0), (1, -1, 0), (1, 1, 3)):
        with pytest.raises(ValueError, match="positive"):
            kernels.advance(
                time, x, code, whole, last, every, gap, method, *counts, out, x.copy(), code.copy()
            )
    for wrong in ([0, 0], [1, 1], [0, 2]):
        with pytest.raises(ValueError, match="stretch"):
            kernels.advance(
                time, x, code, np.array(wrong), last, 1, 1, 0, *counts, out, x.copy(), code.copy()
            )
    with pytest.raises(ValueError, match="shape"):
        kernels.advance(time, x, code, whole, last, 1, 1, 0, *counts, out, np.zeros((2, 1)), code.copy())
    with pytest.raises(ValueError, match="shape"):
        kernels.advance(time, x, code, whole, last[:0], 1, 1, 0, *counts, out, x.copy(), code.copy())
