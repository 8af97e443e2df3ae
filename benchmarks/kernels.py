"""Operations on arrays: the compiled kernels beside NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.model import Case
from forebay_core.hampel import hampel as hampel_kernel
from forebay_core.signal import deadband as deadband_kernel
from forebay_core.signal import validate as validate_kernel
from forebay_core.windows import MOMENTS, moments

SAMPLES = 65_536
WINDOW = 256
_NO_CODES = np.zeros(0, dtype=np.uint8)
_NO_GROUPS = np.zeros(0, dtype=np.int32)


def _walk(samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return np.cumsum(rng.normal(0.0, 0.05, samples)), np.arange(samples, dtype=np.int64) * 1_000_000


def _rate(samples: int) -> Callable[[float], float]:
    return lambda seconds: samples / seconds / 1e6


def deadband(samples: int = SAMPLES) -> Case:
    """Deadband of one series."""
    values, time = _walk(samples)
    out = np.empty(samples, dtype=np.uint8)
    last, when = np.zeros(1), np.zeros(1, dtype=np.int64)

    def run() -> np.ndarray:
        known = np.full(1, 255, dtype=np.uint8)
        deadband_kernel(values, _NO_CODES, time, _NO_GROUPS, 0.1, 0.0, -1, last, when, known, out)
        return out

    def check(unchanged: np.ndarray) -> None:
        assert np.array_equal(unchanged.view(bool), plain())

    def plain() -> np.ndarray:
        dropped, held = np.ones(samples, dtype=bool), None
        for i, value in enumerate(values.tolist()):
            if held is None or abs(value - held) > 0.1:
                dropped[i], held = False, value
        return dropped

    return Case(run, check, _rate(samples), {"pure Python": plain})


def validate(samples: int = SAMPLES) -> Case:
    """Range, rate and stuck checks of one series."""
    values, time = _walk(samples)
    out = np.empty(samples, dtype=np.uint8)
    low, high = np.quantile(values, [0.1, 0.9])

    def run() -> np.ndarray:
        state = (np.zeros(1), np.zeros(1, dtype=np.int64), np.zeros(1), np.zeros(1, dtype=np.int64))
        seen = np.zeros(1, dtype=np.uint8)
        validate_kernel(
            values, _NO_CODES, time, _NO_GROUPS, low, high, 100.0, 10**9, *state, seen, out
        )  # fmt: skip
        return out

    def check(codes: np.ndarray) -> None:
        outside = (values < low) | (values > high)
        assert np.array_equal(codes >= 64, outside)

    def with_numpy() -> np.ndarray:
        step = np.abs(np.diff(values, prepend=values[0])) / np.maximum(np.diff(time, prepend=-1), 1) * 1e9
        return np.where((values < low) | (values > high), 64, np.where(step > 100.0, 1, 0))

    return Case(run, check, _rate(samples), {"NumPy, range and rate only": with_numpy})


def hampel(samples: int = SAMPLES) -> Case:
    """Hampel filter, window of 7."""
    rng = np.random.default_rng(5)
    values = rng.normal(0.0, 1.0, samples)
    values[::500] += 40.0
    spikes, medians = np.zeros(samples, dtype=np.uint8), np.zeros(samples)
    order, bounds = np.zeros(0, dtype=np.int64), np.array([0, samples], dtype=np.int64)
    slots = np.zeros(1, dtype=np.int64)

    def run() -> np.ndarray:
        history, filled = np.zeros((1, 6)), np.zeros(1, dtype=np.int64)
        hampel_kernel(
            values, _NO_CODES, order, bounds, slots, 7, 3.0, 0.0, history, filled, spikes, medians
        )  # fmt: skip
        return spikes

    def with_numpy() -> np.ndarray:
        views = np.lib.stride_tricks.sliding_window_view(values, 7)
        middle = np.median(views, axis=1)
        spread = 1.4826 * np.median(np.abs(views - middle[:, None]), axis=1)
        return np.abs(values[6:] - middle) > 3.0 * spread

    def check(found: np.ndarray) -> None:
        assert np.array_equal(found[6:].view(bool), with_numpy())

    return Case(run, check, _rate(samples), {"NumPy, sliding medians": with_numpy})


def window(samples: int = SAMPLES) -> Case:
    """All moments (count to last, 14 of them) of windows of 256, one call a window."""
    values = np.random.default_rng(9).normal(1.0, 2.0, samples)
    starts = np.arange(0, samples, WINDOW, dtype=np.int64)
    pieces = [values[a : a + WINDOW] for a in starts.tolist()]
    first, last = np.zeros(1, dtype=np.int64), np.full(1, WINDOW, dtype=np.int64)
    out = np.zeros((len(starts), len(MOMENTS)))
    results = [out[n : n + 1] for n in range(len(starts))]  # made beforehand: cutting one costs a tenth of a call

    def run() -> np.ndarray:
        for piece, result in zip(pieces, results, strict=True):
            moments(piece, first, last, result)
        return out

    def with_numpy() -> np.ndarray:
        rows = []
        for piece in pieces:
            mean, std = piece.mean(), piece.std()
            rms, peak = np.sqrt((piece * piece).mean()), np.abs(piece).max()
            rows.append((mean, std, rms, peak, peak / rms, ((piece - mean) ** 4).mean() / std**4))
        return np.array(rows)

    def check(found: np.ndarray) -> None:
        columns = [MOMENTS.index(n) for n in ("mean", "std", "rms", "peak", "crest", "kurtosis")]
        assert np.allclose(found[:, columns], with_numpy(), rtol=1e-9)

    return Case(run, check, _rate(samples), {"NumPy, mean to kurtosis": with_numpy})


def windows_at_once(samples: int = SAMPLES) -> Case:
    """The same windows in one call, as the step makes it."""
    values = np.random.default_rng(9).normal(1.0, 2.0, samples)
    starts = np.arange(0, samples, WINDOW, dtype=np.int64)
    ends = starts + WINDOW
    out = np.zeros((len(starts), len(MOMENTS)))

    def run() -> np.ndarray:
        moments(values, starts, ends, out)
        return out

    def check(found: np.ndarray) -> None:
        assert np.allclose(found[:, MOMENTS.index("mean")], values.reshape(-1, WINDOW).mean(axis=1))

    return Case(run, check, _rate(samples))
