"""Twin of _series.pyx in plain Python; the columns of `track` are described there."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

COUNT, LAST, INTERVAL, FILL, STEP, LEVEL, SPREAD, RECENT, SCORED, KNEE, NOISE, TAIL = range(12)
TRACK_WIDTH: int = 12

CLIP = 5.0
GAP = 20.0
SHORT = 16.0
BOUND = 1e6
QUANTILE = 0.9
MIN_TAIL = 0.3
FLOOR = 1e-12
MIDDLE = 1.75
SLOPE = 1.2555572
LARGEST = 3e38
USABLE = 1e150


def _within(x: float, bound: float) -> float:
    return max(-bound, min(bound, x))


def _learn(mean: float, x: float, weight: float, young: bool) -> float:
    if not young and mean > 0.0 and x > CLIP * mean:
        x = CLIP * mean
    return mean + weight * (x - mean)


def _pull(mean: float, x: float, weight: float, bound: float) -> float:
    away = x - mean
    return mean + weight * (_within(away, bound) if bound > 0.0 else away)


def _observe(x: float, dt: float, ring: npt.NDArray[np.float32], t: list[float], memory: float) -> bool:
    n = t[COUNT] + 1.0
    weight = 1.0 / min(n, memory)
    d = x - t[LAST]
    young = n <= len(ring)
    broken = False
    t[COUNT] = n
    t[LAST] = x
    if n == 1.0:
        t[LEVEL] = t[RECENT] = x
        return False
    if dt >= 0.0:
        broken = not young and t[INTERVAL] > 0.0 and dt > GAP * t[INTERVAL]
        t[INTERVAL] = _learn(t[INTERVAL], dt, weight, young)
    bound = 0.0 if young else CLIP * t[SPREAD]
    t[LEVEL] = _pull(t[LEVEL], x, weight, bound)
    t[RECENT] = _pull(t[RECENT], x, min(1.0, weight * SHORT), bound)
    t[SPREAD] = _learn(t[SPREAD], abs(x - t[LEVEL]), weight, young)
    if broken:
        t[FILL] = 0.0
        return False
    t[STEP] = _learn(t[STEP], abs(d), weight, young)
    ring[:-1] = ring[1:].copy()
    ring[-1] = _within(d, LARGEST)
    t[FILL] = min(t[FILL] + 1.0, float(len(ring)))
    return t[FILL] >= len(ring) and t[STEP] > FLOOR * abs(t[LEVEL])


def _score(over: float, tail: float) -> float:
    exponent = -SLOPE * (over / max(tail, MIN_TAIL) - MIDDLE)
    return 0.0 if exponent > 700.0 else 1.0 / (1.0 + math.exp(exponent))


def _check(agree: bool, series: npt.NDArray[np.int32], rows: int) -> None:
    if not agree:
        raise ValueError("array shapes do not agree")
    bad = np.flatnonzero((series < 0) | (series >= rows))
    if len(bad):
        raise ValueError(f"series number out of range at {bad[0]}")


def windows(
    values: npt.NDArray[np.float64],
    time: npt.NDArray[np.int64],
    series: npt.NDArray[np.int32],
    ring: npt.NDArray[np.float32],
    stamp: npt.NDArray[np.int64],
    track: npt.NDArray[np.float64],
    memory: float,
    out: npt.NDArray[np.float32],
    ready: npt.NDArray[np.uint8],
) -> None:
    """See _series.pyi."""
    n, width = len(values), ring.shape[1]
    same_rows = len(time) == len(series) == len(out) == len(ready) == n
    same_series = len(track) == len(stamp) == len(ring) and track.shape[1] == TRACK_WIDTH
    _check(
        same_rows and same_series and out.shape[1] == width + 2 and width >= 1 and memory >= 1.0,
        series,
        len(ring),
    )
    out[:] = 0.0
    ready[:] = 0
    for i in range(n):
        s, x = int(series[i]), float(values[i])
        if not abs(x) <= USABLE:  # also false for NaN
            continue
        dt = float(time[i]) - float(stamp[s])
        stamp[s] = time[i]
        t = track[s].tolist()
        full = _observe(x, dt, ring[s], t, memory)
        track[s] = t
        if not full:
            continue
        out[i, :width] = np.clip(ring[s].astype(np.float64) / t[STEP], -BOUND, BOUND)
        if t[SPREAD] > 0.0:
            out[i, width] = _within((x - t[LEVEL]) / t[SPREAD], BOUND)
            out[i, width + 1] = _within((x - t[RECENT]) / t[SPREAD], BOUND)
        ready[i] = 1


def surprise(
    error: npt.NDArray[np.float32],
    series: npt.NDArray[np.int32],
    track: npt.NDArray[np.float64],
    memory: float,
    calibration: float,
    score: npt.NDArray[np.float64],
) -> None:
    """See _series.pyi."""
    n = len(error)
    _check(
        len(series) == len(score) == n and track.shape[1] == TRACK_WIDTH and memory >= 1.0, series, len(track)
    )
    score[:] = -1.0
    for i in range(n):
        t, e = track[int(series[i])], float(error[i])
        if not math.isfinite(e):
            continue
        t[SCORED] += 1.0
        k = float(t[SCORED])
        if k == 1.0:
            t[KNEE] = e
            continue
        over = e - float(t[KNEE])
        if k > calibration:
            score[i] = _score(over, float(t[TAIL]))
        weight, young = 1.0 / min(k, memory), k <= 16.0
        t[NOISE] = _learn(float(t[NOISE]), abs(over), weight, young)
        if over > 0.0:
            t[TAIL] = _learn(float(t[TAIL]), over, min(0.5, weight / (1.0 - QUANTILE)), young)
        t[KNEE] += 4.0 * weight * float(t[NOISE]) * (QUANTILE if over > 0.0 else QUANTILE - 1.0)
