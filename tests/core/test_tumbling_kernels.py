"""tumble, accumulate, finish: one body over the compiled kernels and their twins."""

from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay_core import windows

PARAMS = ["compiled", "reference"]
LOW, HIGH = -(2**63), 2**63 - 1


def load(which: str) -> ModuleType:
    return import_module(
        "forebay_core._tumbling" if which == "compiled" else "forebay_core.reference.tumbling"
    )


@pytest.fixture(params=PARAMS)
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


class Tumbling:
    """The kernels with their state."""

    def __init__(
        self, kernels: ModuleType, *, pane: int = 10, back: int = 2, rows: int = 1000, states: int = 1
    ) -> None:
        self.kernels, self.options = kernels, (pane, back, rows)
        self.open = np.zeros(states, np.int64), np.zeros(states, np.int64)
        self.state = np.zeros((1, states, kernels.ACCUMULATED))

    def __call__(self, at: Any, values: Any = None, codes: Any = None, groups: Any = ()) -> Any:
        """Return kinds, (pane, group) of closed windows, and their statistics."""
        n = len(at)
        kind, pane, group = np.full(n, 77, np.uint8), np.zeros(n, np.int64), np.zeros(n, np.int32)
        time, slots = np.array(at, np.int64), np.array(groups, np.int32)
        x = np.array([values if values is not None else [1.0] * n], np.float64).reshape(1, n)
        given = np.array([codes if codes is not None else [0] * n], np.uint8).reshape(1, n)
        for array in (time, slots, x, given):
            array.flags.writeable = False
        closed = self.kernels.tumble(time, slots, *self.options, *self.open, kind, pane, group)
        out = np.full((1, closed, 14), 77.0)
        self.kernels.accumulate(x, given, slots, kind, self.state, out)
        return kind.tolist(), list(zip(pane[:closed].tolist(), group[:closed].tolist(), strict=True)), out[0]

    def rest(self) -> np.ndarray:
        groups = np.flatnonzero(self.open[1])
        out = np.full((1, len(groups), 14), 77.0)
        self.kernels.finish(self.state, groups, out)
        return out[0]


def test_rows_close_the_window_before_theirs(kernels: ModuleType) -> None:
    kind, closed, found = Tumbling(kernels)([-1, 0, 9, 10, 35], [5.0, 1.0, 2.0, 3.0, 4.0])
    assert (kind, closed) == ([1, 2, 0, 2, 2], [(-1, 0), (0, 0), (1, 0)])
    assert found[:, 1].tolist() == [5.0, 3.0, 3.0]


def test_rows_behind_are_late_until_the_clock_was_clearly_set_back(kernels: ModuleType) -> None:
    assert Tumbling(kernels)([50, 49, 31, 29, 35])[:2] == ([1, 3, 3, 2, 2], [(5, 0), (2, 0)])


def test_a_full_window_is_closed_and_groups_are_apart(kernels: ModuleType) -> None:
    assert Tumbling(kernels, rows=2)([0, 1, 2, 3, 4])[:2] == ([1, 0, 2, 0, 2], [(0, 0), (0, 0)])
    kind, closed, _ = Tumbling(kernels, states=2)([0, 90, 5, 95, 5, 12], groups=[0, 1, 0, 1, -1, 0])
    assert (kind, closed) == ([1, 1, 0, 0, 4, 2], [(0, 0)])
    with pytest.raises(ValueError, match="outside the state"):
        Tumbling(kernels)([0, 1], groups=[0, 1])


def test_windows_at_the_ends_of_int64_do_not_overflow(kernels: ModuleType) -> None:
    assert Tumbling(kernels, pane=1)([HIGH, LOW, HIGH])[:2] == ([1, 2, 2], [(HIGH, 0), (LOW, 0)])


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("n", [1, 2, 3, 500])
def test_statistics_are_those_of_the_two_pass_kernel(kernels: ModuleType, n: int, offset: float) -> None:
    x = np.random.default_rng(n).gamma(2.0, size=n) + offset
    windowed, wanted = Tumbling(kernels), np.empty((1, 14))
    windowed([0] * n, x)
    windows.moments(x, np.array([0]), np.array([n]), wanted)
    np.testing.assert_allclose(windowed.rest(), wanted, rtol=1e-6 if offset else 1e-9, atol=1e-9)


def test_equal_samples_have_no_spread_and_bad_cells_are_left_out(kernels: ModuleType) -> None:
    windowed = Tumbling(kernels)
    windowed([0] * 260, [0.1] * 257 + [9.0, 9.0, 9.0], [0] * 255 + [5, 63] + [64, 128, 255])
    found = dict(zip(windows.MOMENTS, windowed.rest()[0].tolist(), strict=True))
    assert (found["count"], found["mean"], found["std"], found["crest"]) == (257.0, 0.1, 0.0, 1.0)
    assert np.isnan([found["kurtosis"], found["skewness"]]).all()


def test_a_window_with_nothing_usable_has_only_a_count(kernels: ModuleType) -> None:
    _, _, found = Tumbling(kernels)([0, 10], codes=[200, 0])
    assert found[0, :2].tolist() == [0.0, 0.0]
    assert np.isnan(found[0, 2:]).all()


values = st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 5e-324, 1e-310, np.inf, -np.inf, 1.7e308])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), n=st.integers(0, 30), cut=st.integers(0, 30))
def test_compiled_and_reference_agree_in_one_call_or_two(data: st.DataObject, n: int, cut: int) -> None:
    def many(of: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(of, min_size=n, max_size=n))

    at, x = many(st.integers(-60, 60) | st.sampled_from([LOW, HIGH])), many(values)
    codes, groups = many(st.sampled_from([0, 4, 64, 129])), many(st.integers(-1, 2))
    found = []
    for which, cuts in (("compiled", (0, 30)), ("compiled", (0, cut, 30)), ("reference", (0, 30))):
        windowed = Tumbling(load(which), states=3, rows=4)
        parts = [windowed(at[a:b], x[a:b], codes[a:b], groups[a:b]) for a, b in pairwise(cuts)]
        kinds = [kind for part in parts for kind in part[0]]
        closed = [window for part in parts for window in part[1]]
        statistics = np.concatenate([*(part[2] for part in parts), windowed.rest()])
        found.append((kinds, closed, statistics))
    assert found[0][:2] == found[1][:2] == found[2][:2]
    assert np.array_equal(found[0][2], found[1][2], equal_nan=True)
    np.testing.assert_allclose(found[0][2], found[2][2], rtol=1e-12)


def test_shapes_that_do_not_agree_are_errors_and_change_nothing(kernels: ModuleType) -> None:
    one, state = np.zeros(1, np.int64), np.zeros((1, 1, kernels.ACCUMULATED))
    with pytest.raises(ValueError, match="positive"):
        Tumbling(kernels, pane=0)([0])
    with pytest.raises(ValueError, match="differ in length"):
        kernels.tumble(
            one, np.zeros(0, np.int32), 1, 1, 1, one, one, np.zeros(2, np.uint8), one, np.zeros(1, np.int32)
        )
    x, codes, nobody = np.ones((1, 2)), np.zeros((1, 2), np.uint8), np.zeros(0, np.int32)
    kind = np.array([1, 2], np.uint8)
    for bad, says in (((1, 0, 14), "one row for each"), ((1, 1, 13), "shape"), ((2, 1, 14), "shape")):
        with pytest.raises(ValueError, match=says):
            kernels.accumulate(x, codes, nobody, kind, state, np.zeros(bad))
    with pytest.raises(ValueError, match="outside the state"):
        kernels.accumulate(x, codes, np.array([0, 1], np.int32), kind, state, np.zeros((1, 1, 14)))
    with pytest.raises(ValueError, match="outside the state"):
        kernels.finish(state, np.array([1]), np.zeros((1, 1, 14)))
    assert not state.any()
