"""validate, deadband, scale, carry and latch: one body over the compiled kernels and their twins."""

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forebay import quality as q

S = 10**9
NONE8, NONE32 = np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int32)
PARAMS = ["compiled", "reference"]


def load(which: str) -> SimpleNamespace:
    """Return the kernels of both modules."""
    place = "forebay_core._" if which == "compiled" else "forebay_core.reference."
    return SimpleNamespace(**vars(import_module(place + "signal")) | vars(import_module(place + "alarm")))


@pytest.fixture(params=PARAMS)
def kernels(request: pytest.FixtureRequest) -> SimpleNamespace:
    return load(request.param)


def f64(values: Any) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False  # every kernel takes read-only input
    return array


def seconds(values: Any) -> np.ndarray:
    return (np.array(values, dtype=np.float64) * S).astype(np.int64)


def run_validate(
    kernels: SimpleNamespace, values: Any, at: Any, *, codes: Any = (), groups: Any = (),
    low: float = -np.inf, high: float = np.inf, rate: float = -1.0, stuck: float = -1, states: int = 1,
) -> list[int]:  # fmt: skip
    out = np.full(len(values), 77, dtype=np.uint8)
    state = [
        np.zeros(states), np.zeros(states, np.int64), np.zeros(states), np.zeros(states, np.int64),
        np.zeros(states, np.uint8),
    ]  # fmt: skip
    marked = kernels.validate(
        f64(values), np.array(codes, np.uint8), seconds(at), np.array(groups, np.int32), low, high, rate,
        int(stuck * S) if stuck >= 0 else -1, *state, out,
    )  # fmt: skip
    given = np.array(codes, np.uint8) if len(codes) else np.zeros(len(values), np.uint8)
    assert marked == np.count_nonzero(out != given)
    return out.tolist()


def test_range_is_inclusive_and_only_raises_codes(kernels: SimpleNamespace) -> None:
    found = run_validate(
        kernels, [-40, -40.1, 150, 151, 0, 151, -99], range(7), codes=[0, 0, 0, 3, 1, 130, 70], low=-40,
        high=150,
    )  # fmt: skip
    assert found == [0, q.RANGE, 0, q.RANGE, 1, 130, 70]


def test_a_step_faster_than_the_rate_is_marked_and_a_slow_one_not(kernels: SimpleNamespace) -> None:
    assert run_validate(kernels, [0, 5, 10.1, 10.1], [0, 1, 2, 3], rate=5) == [0, 0, q.RATE, 0]


def test_a_value_out_of_range_is_no_reference_for_the_rate(kernels: SimpleNamespace) -> None:
    assert run_validate(kernels, [20, 9999, 21], [0, 1, 2], rate=5, high=150) == [0, q.RANGE, 0]


def test_of_samples_at_one_time_the_first_is_the_reference(kernels: SimpleNamespace) -> None:
    assert run_validate(kernels, [0, 100, 1], [0, 0, 1], rate=5) == [0, 0, 0]


def test_time_that_goes_back_starts_rate_and_stuck_anew(kernels: SimpleNamespace) -> None:
    assert run_validate(kernels, [0, 100, 101], [10, 5, 6], rate=5) == [0, 0, 0]
    assert run_validate(kernels, [1, 1, 1, 1], [100, 110, 5, 14], stuck=10) == [0, q.STUCK, 0, 0]


def test_stuck_counts_from_the_first_sample_of_the_value(kernels: SimpleNamespace) -> None:
    assert run_validate(kernels, [1, 2, 2, 2, 3], [0, 1, 5, 11, 12], stuck=10) == [0, 0, 0, q.STUCK, 0]


def test_each_group_has_its_own_state_and_a_negative_one_has_none(kernels: SimpleNamespace) -> None:
    found = run_validate(
        kernels, [0, 100, 1, 101, 500, 0], range(6), groups=[0, 1, 0, 1, -1, -1], rate=5, states=2, high=400
    )
    assert found == [0, 0, 0, 0, q.RANGE, 0]


def test_nan_and_infinity_neither_crash_nor_become_a_reference(kernels: SimpleNamespace) -> None:
    assert run_validate(kernels, [1, np.nan, np.inf, 2], range(4), rate=5) == [0, 0, 0, 0]
    assert run_validate(kernels, [1, -np.inf], range(2), low=0) == [0, q.RANGE]


def test_times_at_the_ends_of_int64_do_not_overflow(kernels: SimpleNamespace) -> None:
    out = np.empty(2, np.uint8)
    ends = np.array([-(2**63), 2**63 - 1])
    state = [np.zeros(1), np.zeros(1, np.int64), np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.uint8)]
    kernels.validate(f64([1, 1]), NONE8, ends, NONE32, -1, 5, 1e-12, 2**62, *state, out)
    assert out.tolist() == [0, q.STUCK]


class Band:
    """A deadband with its state."""

    def __init__(self, kernels: SimpleNamespace, states: int = 1, **options: float) -> None:
        self.kernels = kernels
        self.absolute = options.get("absolute", 0.0)
        self.relative = options.get("relative", 0.0)
        self.silence = int(options["silence"] * S) if "silence" in options else -1
        self.state = np.zeros(states), np.zeros(states, np.int64), np.full(states, 255, np.uint8)

    def __call__(self, values: Any, at: Any = None, codes: Any = (), groups: Any = ()) -> list[int]:
        out = np.full(len(values), 9, np.uint8)
        times = seconds(range(len(values)) if at is None else at)
        count = self.kernels.deadband(
            f64(values), np.array(codes, np.uint8), times, np.array(groups, np.int32), self.absolute,
            self.relative, self.silence, *self.state, out,
        )  # fmt: skip
        assert count == out.sum()
        return out.tolist()


def test_deadband_compares_with_the_last_reported_value_not_the_last_one(kernels: SimpleNamespace) -> None:
    assert Band(kernels, absolute=1.0)([0, 0.6, 1.2, 1.8, 2.4]) == [0, 1, 0, 1, 0]


def test_a_decimal_step_of_just_the_deadband_is_no_change(kernels: SimpleNamespace) -> None:
    for base in (0.1, 20.0, 20.1, 1013.2, -7.3):
        band = Band(kernels, absolute=0.1)
        step, beyond = round(base + 0.1, 1), round(base + 0.2, 1)
        assert band([base, step, base, beyond]) == [0, 1, 1, 0]


def test_deadband_zero_passes_every_change_however_small(kernels: SimpleNamespace) -> None:
    tiny = np.nextafter(20.0, 21.0)
    assert Band(kernels)([20.0, 20.0, tiny, tiny, 20.0]) == [0, 1, 0, 1, 0]


def test_relative_and_absolute_together_take_the_larger(kernels: SimpleNamespace) -> None:
    assert Band(kernels, relative=0.1)([100, 109, 111, 0, 0.001]) == [0, 1, 0, 0, 0]
    assert Band(kernels, relative=0.1, absolute=1)([100, 109, 111, 0, 0.9, 1.1]) == [0, 1, 0, 0, 1, 0]


def test_silence_ends_by_data_time_in_both_directions(kernels: SimpleNamespace) -> None:
    assert Band(kernels, absolute=1, silence=10)([5, 5, 5, 5], [0, 9, 10, 19]) == [0, 1, 0, 1]
    assert Band(kernels, absolute=1, silence=10)([5, 5], [1000, 0]) == [0, 0]


def test_without_silence_no_distance_in_time_is_news(kernels: SimpleNamespace) -> None:
    band, out = Band(kernels, absolute=1), np.zeros(2, np.uint8)
    ends = np.array([-(2**63), 2**63 - 1])
    kernels.deadband(np.full(2, 5.0), NONE8, ends, NONE32, 1.0, 0.0, -1, *band.state, out)
    assert out.tolist() == [0, 1]


def test_a_changed_quality_is_news_and_a_failure_is_news_once(kernels: SimpleNamespace) -> None:
    values = [5, 5, 5, 0, 0, 0, 5]
    codes = [0, q.RANGE, q.RANGE, q.DEVICE_ERROR, q.DEVICE_ERROR, q.NAN, 0]
    assert Band(kernels, absolute=1)(values, codes=codes) == [0, 0, 1, 0, 1, 0, 0]


def test_cells_that_say_nothing_are_not_marked_and_do_not_touch_the_state(kernels: SimpleNamespace) -> None:
    codes = [0, q.MISSING, q.NULL, q.UNCHANGED, q.SUPPRESSED, 0]
    assert Band(kernels, absolute=1)([5, 0, 0, 0, 0, 5.5], codes=codes) == [0, 0, 0, 0, 0, 1]
    assert Band(kernels, absolute=1)([5, np.nan, 5]) == [0, 0, 1]


def test_infinity_is_reported_and_left_again(kernels: SimpleNamespace) -> None:
    assert Band(kernels, absolute=1)([1, np.inf, np.inf, -np.inf, 1, 1]) == [0, 0, 1, 0, 0, 1]
    assert Band(kernels, relative=0.1)([1, np.inf, np.inf, 1]) == [0, 0, 1, 0]


def test_deadband_state_is_per_group_and_goes_on_over_calls(kernels: SimpleNamespace) -> None:
    band = Band(kernels, states=2, absolute=1)
    assert band([0, 50, 0.5, 50.5, 7], groups=[0, 1, 0, 1, -1]) == [0, 0, 1, 1, 0]
    assert band([2, 50], groups=[0, 1]) == [0, 1]


def test_scale_by_a_quotient_keeps_decimals(kernels: SimpleNamespace) -> None:
    out = np.empty(4)
    kernels.scale(f64([3, 215, -7, 99]), np.array([0, 0, 65, 130], np.uint8), 1.0, -5.0, 10.0, out)
    assert out.tolist() == [-0.2, 21.0, -1.2, 0.0]
    kernels.scale(f64([np.inf, np.nan, 1e308, 1]), NONE8, 10.0, 0.0, 1.0, out)
    assert np.array_equal(out, [np.inf, np.nan, np.inf, 10], equal_nan=True)


def test_carry_holds_a_value_over_missing_cells_until_another_null(kernels: SimpleNamespace) -> None:
    last, known = np.zeros(1), np.zeros(1, np.uint8)
    out, out_known = np.empty(6), np.empty(6, np.uint8)
    codes = np.array([q.MISSING, 0, q.MISSING, q.UNCHANGED, q.NULL, q.MISSING], np.uint8)
    kernels.carry(f64([0, 4, 0, 0, 0, 0]), codes, NONE32, last, known, out, out_known)
    assert out_known.tolist() == [0, 1, 1, 1, 0, 0]
    assert out.tolist() == [0, 4, 4, 4, 0, 0]


def test_carry_does_not_mix_groups(kernels: SimpleNamespace) -> None:
    last, known = np.zeros(2), np.zeros(2, np.uint8)
    out, out_known = np.empty(4), np.empty(4, np.uint8)
    codes = np.array([0, q.MISSING, q.MISSING, 0], np.uint8)
    groups = np.array([0, 1, 0, -1], np.int32)
    kernels.carry(f64([4, 0, 0, 9]), codes, groups, last, known, out, out_known)
    assert (out_known.tolist(), out.tolist()) == ([1, 0, 1, 1], [4, 0, 4, 9])
    assert known.tolist() == [1, 0]


def run_latch(
    kernels: SimpleNamespace, when: Any, at: Any, *, clear: Any = None, hold: float = 0, release: float = 0,
    groups: Any = (), states: int = 1,
) -> list[int]:  # fmt: skip
    conditions = np.array(when, np.int8)
    ends = np.where(conditions < 0, conditions, 1 - conditions) if clear is None else np.array(clear)
    out = np.full(len(when), 9, np.int8)
    state = np.zeros(states, np.uint8), np.zeros(states, np.uint8), np.zeros(states, np.int64)
    kernels.latch(
        conditions, ends.astype(np.int8), seconds(at), np.array(groups, np.int32), int(hold * S),
        int(release * S), *state, out,
    )  # fmt: skip
    return out.tolist()


def test_latch_raises_and_clears_at_once_without_holding_times(kernels: SimpleNamespace) -> None:
    assert run_latch(kernels, [0, 1, 1, 0, 1], range(5)) == [0, 1, 0, -1, 1]


def test_latch_waits_for_its_time_and_a_false_row_starts_it_anew(kernels: SimpleNamespace) -> None:
    assert run_latch(kernels, [1, 1, 0, 1, 1, 1], [0, 4, 5, 6, 10, 11], hold=5) == [0, 0, 0, 0, 0, 1]


def test_an_unknown_condition_changes_nothing(kernels: SimpleNamespace) -> None:
    assert run_latch(kernels, [1, -1, 1, -1, 0], [0, 3, 5, 6, 7], hold=5) == [0, 0, 1, 0, -1]


def test_latch_clears_by_its_own_condition_and_time(kernels: SimpleNamespace) -> None:
    clear = [0, 0, 1, 0, 1, 1]
    assert run_latch(kernels, [1, 0, 0, 0, 0, 0], range(6), clear=clear, release=1) == [1, 0, 0, 0, 0, -1]


def test_latch_is_per_group_and_time_going_back_restarts_it(kernels: SimpleNamespace) -> None:
    assert run_latch(kernels, [1, 1, 1, 1], [0, 0, 5, 5], groups=[0, 1, 1, -1], hold=5, states=2) == [
        0,
        0,
        1,
        0,
    ]
    assert run_latch(kernels, [1, 1, 1], [10, 2, 7], hold=5) == [0, 0, 1]


SERIES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "walk": lambda rng: np.round(np.cumsum(rng.normal(0, 0.05, 500)), 2),
    "empty": lambda rng: np.zeros(0),
    "one": lambda rng: np.array([3.0]),
    "constant": lambda rng: np.full(200, 0.1),
    "broken": lambda rng: rng.choice([1.0, 2.0, np.nan, np.inf, -np.inf, 1e308, -0.0], 300),
}


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("keyed", [False, True])
def test_compiled_and_reference_agree(name: str, keyed: bool) -> None:
    rng = np.random.default_rng(11)
    values = SERIES[name](rng)
    n = len(values)
    codes = rng.choice([0, 0, 0, 2, 64, 65, 128, 129, 130, 137, 138], n).astype(np.uint8)
    time = np.cumsum(rng.integers(-1, 5, n)) * S
    groups = rng.integers(-1, 5, n).astype(np.int32) if keyed else NONE32
    states = 5 if keyed else 1
    results = []
    for which in PARAMS:
        k, out, flags = load(which), np.empty((7, n)), np.zeros(states, np.uint8)
        cells, events = np.empty(n, np.uint8), np.empty(n, np.int8)
        rate = np.zeros(states), np.zeros(states, np.int64), np.zeros(states), np.zeros(states, np.int64)
        k.validate(values, codes, time, groups, -1.0, 1.0, 0.05, 6 * S, *rate, flags, cells)
        out[0] = cells
        state = np.zeros(states), np.zeros(states, np.int64), np.full(states, 255, np.uint8)
        k.deadband(values, codes, time, groups, 0.04, 0.05, 9 * S, *state, cells)
        out[1] = cells
        scaled, known = np.empty(n), np.empty(n, np.uint8)
        k.scale(values, codes, 3.0, -1.0, 100.0, scaled)
        out[2] = scaled
        held = np.zeros(states), np.zeros(states, np.uint8)
        k.carry(values, codes, groups, *held, scaled, known)
        out[3], out[4] = scaled, known
        when = np.where(known, scaled > 0.5, -1).astype(np.int8)
        latched = np.zeros(states, np.uint8), np.zeros(states, np.uint8), np.zeros(states, np.int64)
        k.latch(when, -when, time, groups, 3 * S, S, *latched, events)
        out[5] = events
        out[6] = codes
        results.append((out, [*rate, flags, *state, *held, *latched]))
    (compiled, compiled_state), (reference, reference_state) = results
    assert np.array_equal(compiled, reference, equal_nan=True)
    for a, b in zip(compiled_state, reference_state, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("name", ["validate", "deadband", "scale", "carry", "latch"])
def test_lengths_that_differ_and_groups_without_state_are_errors(kernels: SimpleNamespace, name: str) -> None:
    three, codes, time = f64([1, 2, 3]), np.zeros(3, np.uint8), np.arange(3)
    one, short, far = (np.zeros(1), np.zeros(1, np.int64)), NONE32, np.array([0, 1, 0], np.int32)
    flag, out = np.full(1, 255, np.uint8), np.empty(3, np.uint8)
    calls: dict[str, Callable[[Any, Any, Any], Any]] = {
        "validate": lambda c, g, o: kernels.validate(three, c, time, g, 0, 1, 1, 1, *one, *one, flag, o),
        "deadband": lambda c, g, o: kernels.deadband(three, c, time, g, 0, 0, -1, *one, flag, o),
        "scale": lambda c, g, o: kernels.scale(three, c, 1, 0, 1, np.empty(len(o))),
        "carry": lambda c, g, o: kernels.carry(three, c, g, one[0], flag, np.empty(len(o)), o),
        "latch": lambda c, g, o: kernels.latch(
            np.ones(3, np.int8),
            np.ones(len(c), np.int8),
            time,
            g,
            0,
            0,
            flag,
            flag.copy(),
            one[1],
            o.view(np.int8),
        ),
    }
    call = calls[name]
    call(codes, short, out)
    with pytest.raises(ValueError, match="length"):
        call(codes[:2], short, out)
    with pytest.raises(ValueError, match="length"):
        call(codes, short, out[:2])
    if name != "scale":
        with pytest.raises(ValueError, match="length"):
            call(codes, far[:2], out)
        with pytest.raises(ValueError, match="outside the state"):
            call(codes, far, out)
