"""Reference twin of forebay_core._resampling; see there for the rules."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

Samples = tuple[
    list[int], list[float], list[int], list[int]
]  # of a field's usable rows: time, value, code, row

_GOOD, _INTERPOLATED, _BAD_FROM, _MISSING = 0, 5, 64, 128
_LINEAR, _LAST, _MEAN = 0, 1, 2
_TIME_MIN, _TIME_MAX = -(2**63), 2**63 - 1


def _value(samples: Samples, grid: int, every: int, gap: int, method: int) -> tuple[float, int]:
    times, values, codes, _ = samples
    if method == _MEAN:
        part = values[bisect_left(times, grid - every) : bisect_left(times, grid)]
        return (sum(part) / len(part), _GOOD) if part else (0.0, _MISSING)
    at = bisect_right(times, grid) - 1
    if at < 0:
        return 0.0, _MISSING
    if times[at] == grid:
        return values[at], codes[at]
    if method == _LAST:
        return (values[at], _INTERPOLATED) if grid - times[at] <= gap else (0.0, _MISSING)
    if at + 1 == len(times) or times[at + 1] - times[at] > gap:
        return 0.0, _MISSING
    part_of = float(grid - times[at]) / float(times[at + 1] - times[at])
    return values[at] + (values[at + 1] - values[at]) * part_of, _INTERPOLATED


def _settled(fields: list[Samples], latest: int, every: int, gap: int, method: int, final: bool) -> int:
    if method == _MEAN:
        return latest // every + final
    if final:
        return latest // every
    end = -(-latest // every) - 1
    lasts = [times[-1] for times, _, _, _ in fields if times and latest - times[-1] <= gap]
    return min([end, *(last // every for last in lasts)]) if method == _LINEAR else end


def _numbers(fields: list[Samples], first: int, end: int, every: int, gap: int) -> list[int]:
    """Return the numbers of points near a sample: no other one can have a value."""
    reach = max(gap, every) // every + 1
    near: set[int] = set()
    for times, _, _, _ in fields:
        for time in times:
            low = -(-time // every)
            near.update(range(max(first, low), min(end, low + reach) + 1))
    return sorted(near)


def _stretch(
    time: I64, values: F64, codes: U8, first: int, every: int, gap: int, method: int, final: bool
) -> tuple[list[tuple[int, list[tuple[float, int]]]], int, int]:
    """Return the points of a stretch with their cells, the first open point and the first row needed."""
    fields: list[Samples] = []
    for x, c in zip(values, codes, strict=True):
        rows = np.flatnonzero((c < _BAD_FROM) & np.isfinite(x))
        fields.append((time[rows].tolist(), x[rows].tolist(), c[rows].tolist(), rows.tolist()))
    latest = int(time[-1])
    end = _settled(fields, latest, every, gap, method, final)
    points = []
    for number in _numbers(fields, first, min(end, _TIME_MAX // every), every, gap):
        cells = [_value(samples, number * every, every, gap, method) for samples in fields]
        if any(code < _MISSING for _, code in cells):
            points.append((number * every, cells))
    first = max(first, end + 1)
    point = max(_TIME_MIN, min(first * every, _TIME_MAX))
    needed = bisect_left(time.tolist(), point - every)
    if method != _MEAN:
        for times, _, _, where in fields:
            at = bisect_right(times, point) - 1
            if at >= 0 and min(point, latest) - times[at] <= gap:
                needed = min(needed, where[at])
    return points, first, needed


def advance(
    time: I64,
    values: F64,
    codes: U8,
    bounds: I64,
    final: U8,
    every_ns: int,
    max_gap_ns: int,
    method: int,
    first: I64,
    made: I64,
    needed: I64,
    out_time: I64,
    out_values: F64,
    out_codes: U8,
) -> int:
    """Give the points of each stretch that are settled and have a value in some field."""
    stretches = len(final)
    shapes = {values.shape, codes.shape} == {(len(values), len(time))}
    shapes = shapes and {out_values.shape, out_codes.shape} == {(len(values), len(out_time))}
    if not shapes or {len(first), len(made), len(needed), len(bounds) - 1} != {stretches}:
        raise ValueError("rows, stretches and the outputs differ in shape")
    if bounds[0] != 0 or bounds[-1] != len(time):
        raise ValueError("the stretches are not the rows")
    if (np.diff(bounds) <= 0).any():
        raise ValueError("a stretch has no row")
    if every_ns <= 0 or max_gap_ns < 0 or method not in (_LINEAR, _LAST, _MEAN):
        raise ValueError("every_ns must be positive, max_gap_ns not negative, the method 0, 1 or 2")
    total = 0
    for s, (a, b) in enumerate(pairwise(bounds.tolist())):
        points, first[s], needed[s] = _stretch(
            time[a:b],
            values[:, a:b],
            codes[:, a:b],
            int(first[s]),
            every_ns,
            max_gap_ns,
            method,
            bool(final[s]),
        )
        made[s] = len(points)
        for at, cells in points:
            if total < len(out_time):
                out_time[total] = at
                out_values[:, total], out_codes[:, total] = zip(*cells, strict=True)
            total += 1
    return total
