"""hampel: one body over the compiled kernel and its twin, and both against plain NumPy."""

from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest

NONE8, NONE64 = np.zeros(0, np.uint8), np.zeros(0, np.int64)


@pytest.fixture(params=["compiled", "reference"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(
        "forebay_core._hampel" if request.param == "compiled" else "forebay_core.reference.hampel"
    )


class Series:
    """One key's series with its history."""

    def __init__(self, kernels: ModuleType, window: int = 7, sigmas: float = 3.0, least: float = 0.0) -> None:
        self.kernels, self.window, self.sigmas, self.least = kernels, window, sigmas, least
        self.history, self.filled = np.zeros((1, window - 1)), np.zeros(1, np.int64)

    def __call__(self, values: Any, codes: Any = ()) -> tuple[np.ndarray, np.ndarray]:
        x = np.array(values, dtype=np.float64)
        x.flags.writeable = False
        spikes, medians = np.full(len(x), 9, np.uint8), np.full(len(x), 9.0)
        found = self.kernels.hampel(
            x, np.array(codes, np.uint8), NONE64, np.array([0, len(x)]), np.array([0]), self.window,
            self.sigmas, self.least, self.history, self.filled, spikes, medians,
        )  # fmt: skip
        assert found == spikes.sum()
        return spikes, medians


def plain(x: np.ndarray, window: int, sigmas: float, least: float) -> tuple[np.ndarray, np.ndarray]:
    spikes, medians = np.zeros(len(x), np.uint8), np.zeros(len(x))
    for i in range(window - 1, len(x)):
        part = x[i - window + 1 : i + 1]
        medians[i] = np.median(part)
        limit = max(sigmas * (1.4826 * np.median(np.abs(part - medians[i]))), least)
        spikes[i] = abs(x[i] - medians[i]) > limit
    return spikes, medians


@pytest.mark.parametrize("window", [3, 5, 7, 9, 21, 255])
@pytest.mark.parametrize("coarse", [False, True])
def test_spikes_and_medians_are_those_of_the_definition(
    kernels: ModuleType, window: int, coarse: bool
) -> None:
    rng = np.random.default_rng(window)
    x = rng.standard_t(2, 700)
    if coarse:
        x = np.round(x * 2) / 2  # many equal samples, MAD often 0
    spikes, medians = Series(kernels, window, 2.5, 0.3)(x)
    wanted, centres = plain(x, window, 2.5, 0.3)
    assert np.array_equal(spikes, wanted)
    assert np.array_equal(medians, centres)
    assert 0 < spikes.sum() < 300


def test_the_network_sorts_every_order_of_seven(kernels: ModuleType) -> None:
    # 0-1 principle: a network that sorts all 128 sequences of 0 and 1 sorts everything
    for pattern in range(128):
        x = np.array([(pattern >> i) & 1 for i in range(7)], dtype=np.float64)
        _, medians = Series(kernels)(x)
        assert medians[6] == np.median(x)


@pytest.mark.parametrize("window", [5, 7])
def test_any_cut_into_calls_gives_the_same(kernels: ModuleType, window: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=900)
    codes = rng.choice([0, 0, 0, 4, 65, 129], 900).astype(np.uint8)
    x[rng.integers(0, 900, 50)] = np.nan
    whole = Series(kernels, window)(x, codes)
    series = Series(kernels, window)
    cuts = [0, 1, 2, 2, 5, 11, 12, 300, 557, 558, 900]
    parts = [series(x[a:b], codes[a:b]) for a, b in pairwise(cuts)]
    assert np.array_equal(np.concatenate([p[0] for p in parts]), whole[0])
    assert np.array_equal(np.concatenate([p[1] for p in parts]), whole[1])


def test_bad_null_nan_and_infinite_samples_are_left_out(kernels: ModuleType) -> None:
    x = [1, 2, 1, 2, 1, 2, 9999, np.nan, np.inf, -np.inf, 1, 50]
    codes = [0] * 6 + [65, 0, 0, 0, 0, 0]
    spikes, medians = Series(kernels)(x, codes)
    assert spikes.tolist() == [0] * 11 + [1]
    assert medians[6:10].tolist() == [0] * 4
    assert medians[11] == 2


def test_nothing_is_judged_before_the_window_is_full(kernels: ModuleType) -> None:
    assert Series(kernels)([1, 1, 1, 1, 1, 99])[0].tolist() == [0] * 6
    assert Series(kernels)([1, 1, 1, 1, 1, 1, 99])[0].tolist() == [0] * 6 + [1]
    assert [len(part) for part in Series(kernels)([])] == [0, 0]


def test_a_quiet_window_marks_only_beyond_the_least_deviation(kernels: ModuleType) -> None:
    assert Series(kernels)([20.0] * 6 + [20.1])[0][-1] == 1
    assert Series(kernels, least=0.5)([20.0] * 6 + [20.1])[0][-1] == 0
    assert Series(kernels, least=0.5)([20.0] * 6 + [95.0])[0][-1] == 1


def test_keys_have_their_own_windows_and_slots_below_0_are_passed_over(kernels: ModuleType) -> None:
    rng = np.random.default_rng(9)
    x, keys = rng.standard_t(2, 600), rng.integers(0, 3, 600)
    order = np.argsort(keys, kind="stable")
    bounds = np.searchsorted(keys[order], np.arange(4))
    history, filled = np.zeros((2, 6)), np.zeros(2, np.int64)
    spikes, medians = np.full(600, 9, np.uint8), np.zeros(600)
    kernels.hampel(
        x, NONE8, order, bounds, np.array([1, -1, 0]), 7, 3.0, 0.0, history, filled, spikes, medians
    )
    for key in (0, 2):
        assert np.array_equal(spikes[keys == key], plain(x[keys == key], 7, 3.0, 0.0)[0])
    assert (spikes[keys == 1] == 9).all()
    assert np.array_equal(history[1], x[keys == 0][-6:])


def test_differences_beyond_the_largest_double_do_not_crash(kernels: ModuleType) -> None:
    spikes, _ = Series(kernels)([1.7e308, -1.7e308] * 10)
    assert set(spikes.tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"window": 6}, "odd"),
        ({"window": 1}, "odd"),
        ({"window": 257}, "odd"),
        ({"codes": np.zeros(3, np.uint8)}, "length"),
        ({"bounds": np.array([0, 11])}, "out of place"),
        ({"bounds": np.array([5, 2])}, "out of place"),
        ({"bounds": np.array([0])}, "one entry more"),
        ({"slots": np.array([1])}, "out of place"),
        ({"history": np.zeros((1, 5))}, "history"),
        ({"filled": np.array([7])}, "out of place"),
        ({"order": np.full(10, 10)}, "out of place"),
    ],
)
def test_what_does_not_fit_is_an_error(kernels: ModuleType, change: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {
        "values": np.zeros(10), "codes": NONE8, "order": NONE64, "bounds": np.array([0, 10]),
        "slots": np.array([0]), "window": 7, "n_sigmas": 3.0, "min_deviation": 0.0,
        "history": np.zeros((1, 6)), "filled": np.zeros(1, np.int64), "spikes": np.empty(10, np.uint8),
        "medians": np.empty(10),
    }  # fmt: skip
    with pytest.raises(ValueError, match=says):
        kernels.hampel(**(given | change))
