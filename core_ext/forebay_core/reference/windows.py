"""Reference twin of forebay_core._windows; see there for the rules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

MOMENTS: tuple[str, ...] = (
    "count", "sum", "mean", "std", "min", "max", "range", "rms", "peak", "crest", "skewness", "kurtosis",
    "first", "last",
)  # fmt: skip

_JOINS, _OPENS, _AFRESH, _LATE = 0, 1, 2, 3


def _check_windows(size: int, starts: I64, ends: I64, outputs: int) -> None:
    if len(starts) != len(ends) or outputs != len(starts):
        raise ValueError("starts, ends and out differ in length")
    if np.any(starts < 0) or np.any(ends < starts) or np.any(ends > size):
        raise ValueError("a window lies outside the samples")


def moments(values: F64, starts: I64, ends: I64, out: F64) -> None:
    """Compute count, sum, mean, std, min, max, ... of windows; see MOMENTS for the columns."""
    if out.shape[1] != len(MOMENTS):
        raise ValueError("out must have one column for each of MOMENTS")
    _check_windows(len(values), starts, ends, len(out))
    with np.errstate(all="ignore"):
        for window, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            out[window] = _moments(values[start:end]) if end > start else (0.0, 0.0, *(math.nan,) * 12)


def _moments(x: F64) -> tuple[np.floating[Any], ...]:
    total, low, high = np.sum(x), np.min(x), np.max(x)
    mean = low if low == high else total / len(x)
    deviation = x - mean
    square = deviation * deviation
    second, third, fourth = np.mean(square), np.mean(square * deviation), np.mean(square * square)
    rms, peak = np.sqrt(second + mean * mean), np.maximum(abs(low), abs(high))
    return (
        np.float64(len(x)), total, mean, np.sqrt(second), low, high, high - low, rms, peak, peak / rms,
        third / (second * np.sqrt(second)), fourth / (second * second), x[0], x[-1],
    )  # fmt: skip


def percentiles(values: F64, starts: I64, ends: I64, probabilities: F64, out: F64) -> None:
    """Compute percentiles of windows, linear between the two nearest samples."""
    _check_windows(len(values), starts, ends, len(out))
    if out.shape[1] != len(probabilities):
        raise ValueError("out must have one column a probability")
    inside = (probabilities >= 0.0) & (probabilities <= 100.0)
    if not inside.all() or np.any(np.diff(probabilities) < 0):
        raise ValueError("probabilities must ascend within 0 to 100")
    for window, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        ranked = np.sort(values[start:end])
        if not len(ranked) or np.isnan(ranked[-1]):
            out[window] = math.nan
            continue
        for column, probability in enumerate(probabilities.tolist()):
            place = probability / 100.0 * (len(ranked) - 1)
            k = min(math.floor(place), len(ranked) - 1)
            a = float(ranked[k])
            b = float(ranked[k + 1]) if place > k and k + 1 < len(ranked) else a
            out[window, column] = (a if a == b else a + (b - a) * (place - k)) + 0.0  # never -0.0


def panes(
    time: I64,
    groups: I32,
    pane_ns: int,
    max_back: int,
    max_rows: int,
    open_pane: I64,
    open_rows: I64,
    pane: I64,
    kind: U8,
) -> None:
    """Sort rows into panes: stretches of `pane_ns` aligned to 1970, one open for each group at a time."""
    rows, states = len(time), len(open_rows)
    if len(pane) != rows or len(kind) != rows or len(groups) not in (0, rows):
        raise ValueError("time, groups, pane and kind differ in length")
    if len(open_pane) < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    if pane_ns <= 0 or max_rows <= 0 or max_back < 0:
        raise ValueError("pane_ns and max_rows must be positive, max_back not negative")
    all_groups = groups.tolist() if len(groups) else [0] * rows
    for row, (now, group) in enumerate(zip(time.tolist(), all_groups, strict=True)):
        number = now // pane_ns
        pane[row] = number
        if group < 0:
            kind[row] = _LATE
            continue
        if group >= states:
            raise ValueError("a group is outside the state arrays")
        behind = int(open_pane[group]) - number
        if open_rows[group] == 0 or behind > max_back:
            found = _AFRESH
        elif behind > 0:
            kind[row] = _LATE
            continue
        elif behind < 0:
            found = _OPENS
        else:
            found = _AFRESH if open_rows[group] >= max_rows else _JOINS
        kind[row] = found
        if found != _JOINS:
            open_rows[group], open_pane[group] = 0, number
        open_rows[group] += 1
