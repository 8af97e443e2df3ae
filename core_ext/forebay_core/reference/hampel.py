"""Reference twin of forebay_core._hampel; see there for the rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

_MAX_WINDOW, _BAD_FROM, _SIGMA_OF_MAD = 255, 64, 1.4826


def hampel(
    values: F64,
    codes: U8,
    order: I64,
    bounds: I64,
    slots: I64,
    window: int,
    n_sigmas: float,
    min_deviation: float,
    history: F64,
    filled: I64,
    spikes: U8,
    medians: F64,
) -> int:
    """Find spikes in the series of several keys."""
    rows = len(values)
    if not 3 <= window <= _MAX_WINDOW or window % 2 == 0:
        raise ValueError("the window must be odd and from 3 to 255")
    if len(codes) not in (0, rows) or len(spikes) != rows or len(medians) != rows:
        raise ValueError("codes, spikes, medians and values differ in length")
    if len(bounds) != len(slots) + 1:
        raise ValueError("bounds must have one entry more than slots")
    if len(history) < len(filled) or history.shape[1] != window - 1:
        raise ValueError("history must be (n_slots, window - 1)")
    room = len(order) or rows
    if bounds[0] < 0 or np.any(np.diff(bounds) < 0) or bounds[-1] > room or np.any(slots >= len(filled)):
        raise ValueError("bounds or slots are out of place")
    found = 0
    for segment, slot in enumerate(slots.tolist()):
        if slot < 0:
            continue
        start, end = int(bounds[segment]), int(bounds[segment + 1])
        index = order[start:end] if len(order) else np.arange(start, end, dtype=np.int64)
        have = int(filled[slot])
        if not 0 <= have < window or np.any(index < 0) or np.any(index >= rows):
            raise ValueError("a row or the history's fill is out of place")
        spikes[index], medians[index] = 0, 0.0
        usable = np.isfinite(values[index])
        if len(codes):
            usable &= codes[index] < _BAD_FROM
        index = index[usable]
        series = np.concatenate([history[slot, :have], values[index]])
        if len(series) >= window:
            views = np.lib.stride_tricks.sliding_window_view(series, window)
            with np.errstate(over="ignore"):
                centre = np.sort(views, axis=1)[:, window // 2]
                mad = np.sort(np.abs(views - centre[:, None]), axis=1)[:, window // 2]
                limit = np.maximum(n_sigmas * (_SIGMA_OF_MAD * mad), min_deviation)
                spike = np.abs(series[window - 1 :] - centre) > limit
            judged = index[len(index) - len(centre) :]
            spikes[judged], medians[judged] = spike, centre
            found += int(np.count_nonzero(spike))
        kept = series[max(0, len(series) - (window - 1)) :]
        history[slot, : len(kept)], filled[slot] = kept, len(kept)
    return found
