"""smooth, gaps, crossings: one body over the compiled kernels and their twins."""

from importlib import import_module
from itertools import chain, pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay import quality as q

S = 10**9
NONE8, NONE32 = np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int32)
PARAMS = ["compiled", "reference"]
LOW, HIGH = -(2**63), 2**63 - 1


def load(which: str) -> ModuleType:
    return import_module("forebay_core._filters" if which == "compiled" else "forebay_core.reference.filters")


@pytest.fixture(params=PARAMS)
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


def frozen(values: Any, dtype: Any) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    array.flags.writeable = False  # every kernel takes read-only input
    return array


class Smooth:
    """The kernel with its state."""

    def __init__(self, kernels: ModuleType, tau: float = 10.0, states: int = 1) -> None:
        self.kernels, self.tau = kernels, tau
        self.state = np.zeros(states), np.zeros(states, np.int64), np.zeros(states, np.uint8)

    def __call__(self, values: Any, at: Any, codes: Any = (), groups: Any = ()) -> np.ndarray:
        out = np.full(len(values), 77.0)
        self.kernels.smooth(
            frozen(values, np.float64), frozen(codes, np.uint8), frozen(at, np.int64), frozen(groups, np.int32),
            self.tau, *self.state, out,
        )  # fmt: skip
        return out


def test_a_step_is_followed_to_63_percent_after_the_time_constant_however_it_is_sampled(
    kernels: ModuleType,
) -> None:
    for times in ([0, 10], [0, 1, 2, 10], [0, *range(1, 11)]):
        found = Smooth(kernels)([0.0] + [1.0] * (len(times) - 1), times)
        assert found[-1] == pytest.approx(1 - np.exp(-1))


def test_equal_values_stay_exactly_what_they_are(kernels: ModuleType) -> None:
    assert Smooth(kernels)([0.1] * 50, range(0, 150, 3)).tolist() == [0.1] * 50


def test_bad_null_and_infinite_samples_pass_as_they_are_and_teach_nothing(kernels: ModuleType) -> None:
    codes = [0, q.RANGE, q.MISSING, q.SPIKE, 0, 0]
    found = Smooth(kernels)([1.0, 99.0, 0.0, 1.0, np.inf, np.nan], [0, 1, 2, 3, 4, 5], codes)
    assert found[:5].tolist() == [1.0, 99.0, 0.0, 1.0, np.inf]
    assert np.isnan(found[5])


def test_time_that_goes_back_starts_the_smoothing_anew(kernels: ModuleType) -> None:
    assert Smooth(kernels)([1.0, 5.0, 7.0], [100, 100, 99]).tolist() == [1.0, 1.0, 7.0]


def test_each_group_is_smoothed_alone_and_one_without_state_is_not(kernels: ModuleType) -> None:
    smooth = Smooth(kernels, states=2)
    found = smooth([1.0, 50.0, 1.0, 50.0, 9.0], range(5), groups=[0, 1, 0, 1, -1])
    assert found.tolist() == [1.0, 50.0, 1.0, 50.0, 9.0]
    with pytest.raises(ValueError, match="outside the state"):
        smooth([1.0], [0], groups=[2])


def test_values_and_times_at_their_ends_do_not_overflow(kernels: ModuleType) -> None:
    found = Smooth(kernels, tau=1e19)([1e308, -1e308, 5e-324], [LOW, 0, HIGH])
    assert np.isfinite(found).all()
    assert -1e308 < found[1] < 1e308


numbers = st.floats(width=64) | st.sampled_from([0.0, -0.0, 5e-324, 1e-310, 1.8e308, np.nan, np.inf, -np.inf])
moments_in_time = st.integers(-50, 50) | st.sampled_from([LOW, LOW + 1, HIGH - 1, HIGH])


@st.composite
def series(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(0, 25))
    keyed = draw(st.booleans())
    return {
        "values": draw(st.lists(numbers, min_size=n, max_size=n)),
        "at": draw(st.lists(moments_in_time, min_size=n, max_size=n)),
        "codes": draw(st.sampled_from([[], draw(st.lists(st.sampled_from([0, 5, 64, 128]), min_size=n, max_size=n))])),
        "groups": draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n)) if keyed else [],
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=series(), tau=st.sampled_from([1e-300, 1.0, 7.5, 1e300]), cut=st.integers(0, 25))
def test_compiled_and_reference_smooth_alike_in_one_call_or_two(
    data: dict[str, Any], tau: float, cut: int
) -> None:
    found = []
    for which, cuts in (("compiled", (0, 25)), ("compiled", (0, cut, 25)), ("reference", (0, 25))):
        smooth = Smooth(load(which), tau, states=3)
        parts = [
            smooth(*(data[name][a:b] for name in ("values", "at", "codes", "groups")))
            for a, b in pairwise(cuts)
        ]
        found.append((np.concatenate(parts), *smooth.state))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found[0], found[1], strict=True))
    np.testing.assert_allclose(found[0][0], found[2][0], rtol=1e-12, atol=0)
    assert np.array_equal(found[0][2], found[2][2])


def run_gaps(
    kernels: ModuleType, at: Any, *, groups: Any = (), every: int = 10, longest: int = 15, back: int = 100,
    state: Any = None,
) -> tuple[list[int], list[int]]:  # fmt: skip
    n = len(at)
    since, missed = np.zeros(n, np.int64), np.full(n, 77, np.int32)
    last, seen = state or (np.zeros(3, np.int64), np.zeros(3, np.uint8))
    found = kernels.gaps(
        frozen(at, np.int64), frozen(groups, np.int32), every, longest, back, last, seen, since, missed
    )
    assert found == np.count_nonzero(missed)
    return missed.tolist(), since[missed > 0].tolist()


def test_missing_rows_are_counted_to_the_nearest(kernels: ModuleType) -> None:
    missed, since = run_gaps(kernels, [0, 10, 24, 40, 60, 94, 130, 167])
    assert missed == [0, 0, 0, 1, 1, 2, 3, 3]
    assert since == [24, 40, 60, 94, 130]
    assert run_gaps(kernels, [0, 15, 31], longest=15)[0] == [0, 0, 1]


def test_rows_out_of_order_are_no_gap_and_a_clock_set_back_begins_anew(kernels: ModuleType) -> None:
    assert run_gaps(kernels, [0, 10, 5, 20, 500, 20, 30, 60], back=50)[0] == [0, 0, 0, 0, 47, 0, 0, 2]


def test_gaps_are_those_of_each_group(kernels: ModuleType) -> None:
    assert run_gaps(kernels, [0, 5, 40, 10, 900], groups=[0, 1, 0, 1, -1])[0] == [0, 0, 3, 0, 0]
    with pytest.raises(ValueError, match="outside the state"):
        run_gaps(kernels, [0], groups=[3])


def test_a_gap_as_long_as_time_itself_does_not_overflow(kernels: ModuleType) -> None:
    assert run_gaps(kernels, [LOW, HIGH])[0] == [0, 2**31 - 1]
    assert run_gaps(kernels, [LOW, HIGH], every=2**62, longest=2**62)[0] == [0, 3]


@settings(max_examples=150, deadline=None)
@given(
    data=series(), every=st.integers(1, 9), more=st.integers(0, 9), back=st.sampled_from([0, 5, HIGH]),
    cut=st.integers(0, 25),
)  # fmt: skip
def test_compiled_and_reference_find_the_same_gaps_in_one_call_or_two(
    data: dict[str, Any], every: int, more: int, back: int, cut: int
) -> None:
    found = []
    for which, cuts in (("compiled", (0, 25)), ("compiled", (0, cut, 25)), ("reference", (0, 25))):
        state = np.zeros(3, np.int64), np.zeros(3, np.uint8)
        parts: list[Any] = []
        for a, b in pairwise(cuts):
            parts += run_gaps(
                load(which), data["at"][a:b], groups=data["groups"][a:b], every=every, longest=every + more,
                back=back, state=state,
            )  # fmt: skip
        found.append((list(chain(*parts[::2])), list(chain(*parts[1::2])), [x.tolist() for x in state]))
    assert found[0] == found[1] == found[2]


def run_crossings(kernels: ModuleType, values: Any, *, level: float = 0.0, hysteresis: float = 0.0) -> int:
    out = np.full(1, 77)
    x = frozen(values, np.float64)
    kernels.crossings(x, np.array([0]), np.array([len(x)]), np.array([level], np.float64), hysteresis, out)
    return int(out[0])


def test_a_sine_crosses_zero_twice_a_cycle(kernels: ModuleType) -> None:
    assert run_crossings(kernels, np.sin(0.1 + np.arange(1000) * 2 * np.pi / 50)) == 39
    assert run_crossings(kernels, 5 + np.sin(0.1 + np.arange(1000) * 2 * np.pi / 50)) == 0
    assert run_crossings(kernels, 5 + np.sin(0.1 + np.arange(1000) * 2 * np.pi / 50), level=5) == 39


def test_noise_within_the_hysteresis_crosses_nothing(kernels: ModuleType) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, 1000)
    assert run_crossings(kernels, noise, hysteresis=1.0) == 0
    assert run_crossings(kernels, noise) > 400
    assert run_crossings(kernels, [-3, 0, 3, 0.5, -0.5, 3, -3], hysteresis=1.0) == 2


def test_samples_on_the_level_and_nan_are_on_neither_side(kernels: ModuleType) -> None:
    assert run_crossings(kernels, [1, 0, np.nan, 1, 0, -1, 0, 0, 1]) == 2
    assert run_crossings(kernels, [np.inf, -np.inf]) == 1
    assert run_crossings(kernels, [1, -1], level=np.nan) == 0
    assert run_crossings(kernels, []) == 0


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(numbers, max_size=40), width=st.sampled_from([0.0, 1e-310, 1.0, np.inf]),
    level=st.sampled_from([0.0, 1.0, 5e-324, np.nan]),
)  # fmt: skip
def test_compiled_and_reference_count_the_same_crossings(values: Any, width: float, level: float) -> None:
    first, second = (run_crossings(load(which), values, level=level, hysteresis=width) for which in PARAMS)
    assert first == second


def test_what_does_not_fit_is_an_error(kernels: ModuleType) -> None:
    one, time = np.zeros(1), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="differ in length"):
        kernels.smooth(one, NONE8, time, np.zeros(2, np.int32), 1.0, one, time, np.zeros(1, np.uint8), one)
    with pytest.raises(ValueError, match="state arrays"):
        kernels.smooth(one, NONE8, time, NONE32, 1.0, np.zeros(0), time, np.zeros(1, np.uint8), one)
    with pytest.raises(ValueError, match="positive"):
        kernels.smooth(one, NONE8, time, NONE32, np.nan, one, time, np.zeros(1, np.uint8), one)
    for every, longest, back in ((0, 1, 0), (2, 1, 0), (1, 1, -1)):
        with pytest.raises(ValueError, match="positive"):
            run_gaps(kernels, [0], every=every, longest=longest, back=back)
    with pytest.raises(ValueError, match="differ in length"):
        kernels.gaps(time, NONE32, 1, 1, 0, time, np.zeros(1, np.uint8), time, np.zeros(2, np.int32))
    for start, end, width, says in ((-1, 1, 0, "outside"), (0, 2, 0, "outside"), (0, 1, -1, "negative")):
        with pytest.raises(ValueError, match=says):
            kernels.crossings(one, np.array([start]), np.array([end]), one, width, time)


def test_strided_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        Smooth(load("compiled")).kernels.smooth(
            np.zeros(8)[::2], NONE8, np.zeros(4, np.int64), NONE32, 1.0, np.zeros(1), np.zeros(1, np.int64),
            np.zeros(1, np.uint8), np.zeros(4),
        )  # fmt: skip
