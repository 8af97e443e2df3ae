"""Windows and surprise: one body over the compiled kernel and its twin."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import forebay_core
from forebay_core.reference import series as reference

kernels = [pytest.param(reference, id="reference")]
if forebay_core.IMPLEMENTATION == "compiled":
    from forebay_core import _series

    kernels.append(pytest.param(_series, id="compiled"))

WIDTH = 4
SECOND = 1_000_000_000


class State:
    def __init__(self, count: int = 1, width: int = WIDTH) -> None:
        self.ring = np.zeros((count, width), np.float32)
        self.stamp = np.zeros(count, np.int64)
        self.track = np.zeros((count, reference.TRACK_WIDTH))

    def run(self, kernel: ModuleType, values: object, time: object = None, series: object = None):  # type: ignore[no-untyped-def]
        x = np.asarray(values, np.float64)
        t = np.arange(len(x)) * SECOND if time is None else np.asarray(time, np.int64)
        s = np.zeros(len(x), np.int32) if series is None else np.asarray(series, np.int32)
        out, ready = np.full((len(x), self.ring.shape[1] + 2), 9, np.float32), np.full(len(x), 9, np.uint8)
        kernel.windows(x, t, s, self.ring, self.stamp, self.track, 100.0, out, ready)
        return out, ready.tolist()

    def surprise(self, kernel: ModuleType, error: object, calibration: float = 10.0) -> np.ndarray:
        e = np.asarray(error, np.float32)
        score = np.empty(len(e))
        kernel.surprise(e, np.zeros(len(e), np.int32), self.track, 100.0, calibration, score)
        return score


@pytest.fixture(params=kernels)
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def test_a_window_is_ready_after_its_width_of_differences(kernel: ModuleType) -> None:
    out, ready = State().run(kernel, [1, 2, 3, 4, 5, 6])
    assert ready == [0, 0, 0, 0, 1, 1]
    assert (out[:4] == 0).all()
    np.testing.assert_allclose(out[4, :WIDTH], out[4, 0])  # even steps


def test_windows_do_not_depend_on_scale_or_offset(kernel: ModuleType) -> None:
    x = np.random.default_rng(0).normal(0, 1, 50).cumsum()
    plain, _ = State().run(kernel, x)
    moved, _ = State().run(kernel, x * 1000 - 7)
    np.testing.assert_allclose(plain, moved, rtol=1e-3, atol=1e-4)


def test_cells_that_are_not_numbers_are_passed_over(kernel: ModuleType) -> None:
    clean = State()
    dirty = State()
    clean.run(kernel, [1, 2, 4, 3, 5, 2])
    time = np.array([0, 1, 1, 2, 2, 3, 4, 5, 5]) * SECOND
    _, ready = dirty.run(kernel, [1, 2, np.nan, 4, np.inf, 3, 5, 2, -1e200], time)
    assert ready[2] == ready[4] == ready[8] == 0
    np.testing.assert_array_equal(clean.track, dirty.track)
    np.testing.assert_array_equal(clean.ring, dirty.ring)


def test_a_series_that_never_changed_is_not_ready(kernel: ModuleType) -> None:
    _, ready = State().run(kernel, [5.0] * 20)
    assert ready == [0] * 20


def test_a_long_gap_empties_the_window_and_keeps_what_was_learned(kernel: ModuleType) -> None:
    state = State()
    state.run(kernel, [1, 3, 2, 4, 1, 3])
    step = state.track[0, 4]
    _, ready = state.run(kernel, [500, 501, 500, 501, 500], np.arange(5) * SECOND + 3600 * SECOND)
    assert ready == [0, 0, 0, 0, 1]
    assert state.track[0, 4] < 2 * step


def test_series_do_not_touch_each_other(kernel: ModuleType) -> None:
    rng = np.random.default_rng(1)
    x, s = rng.normal(0, 1, 60), rng.integers(0, 2, 60)
    both = State(2)
    out, _ = both.run(kernel, x, np.arange(60) * SECOND, s)
    alone, _ = State().run(kernel, x[s == 1], np.flatnonzero(s == 1) * SECOND)
    np.testing.assert_array_equal(out[s == 1], alone)


def test_compiled_and_reference_agree_on_hostile_series(kernel: ModuleType) -> None:
    rng = np.random.default_rng(2)
    x = np.round(rng.normal(0, 1, 400).cumsum(), 1)
    x[50], x[60:90], x[120], x[130] = 1e140, x[59], np.nan, -1e300
    t = rng.integers(-2, 50, 400).cumsum() * SECOND
    s = rng.integers(0, 3, 400)
    mine, theirs = State(3), State(3)
    a, ready_a = mine.run(kernel, x, t, s)
    b, ready_b = theirs.run(reference, x, t, s)
    assert ready_a == ready_b
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mine.track, theirs.track, rtol=1e-9)
    errors = rng.normal(0, 1, 300)
    errors[40] = np.nan
    np.testing.assert_allclose(mine.surprise(kernel, errors), theirs.surprise(reference, errors), rtol=1e-9)


def test_the_way_a_series_is_cut_into_blocks_changes_nothing(kernel: ModuleType) -> None:
    x = np.random.default_rng(3).normal(0, 1, 100)
    whole, parts = State(), State()
    a, _ = whole.run(kernel, x)
    b = [parts.run(kernel, x[i : i + 7], np.arange(i, min(i + 7, 100)) * SECOND)[0] for i in range(0, 100, 7)]
    np.testing.assert_array_equal(a, np.concatenate(b))


def test_scores_begin_after_calibration_and_lie_between_0_and_1(kernel: ModuleType) -> None:
    score = State().surprise(kernel, np.random.default_rng(4).normal(0, 1, 200), 50)
    assert (score[:50] == -1).all()
    assert ((score[50:] >= 0) & (score[50:] <= 1)).all()


def test_about_a_tenth_of_ordinary_errors_score_above_the_knee(kernel: ModuleType) -> None:
    score = State().surprise(kernel, np.random.default_rng(5).normal(0, 1, 3000), 100)
    assert 0.05 < (score[500:] > 0.1).mean() < 0.2
    assert (score > 0.9).mean() < 0.02


def test_an_error_far_outside_scores_above_nine_tenths(kernel: ModuleType) -> None:
    state = State()
    state.surprise(kernel, np.random.default_rng(6).normal(0, 1, 500))
    assert state.surprise(kernel, [8.0])[0] > 0.9
    assert state.surprise(kernel, [-8.0])[0] < 0.01


def test_a_series_number_outside_is_refused_before_anything_changes(kernel: ModuleType) -> None:
    state = State()
    with pytest.raises(ValueError, match="out of range at 1"):
        state.run(kernel, [1.0, 2.0], None, [0, 1])
    assert not state.track.any()
    with pytest.raises(ValueError, match="do not agree"):
        state.run(kernel, [1.0, 2.0], [1], [0, 0])
