"""Reference twin of forebay_core._filters; see there for the rules."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

_BAD_FROM = 64
_MOST_MISSED = 2**31 - 1


def _fits(rows: int, groups: I32, states: int, shortest: int, *others: int) -> list[int]:
    if len(groups) not in (0, rows) or any(other != rows for other in others):
        raise ValueError("the arrays of the rows differ in length")
    if shortest < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    return groups.tolist() if len(groups) else [0] * rows


def smooth(
    values: F64,
    codes: U8,
    time: I64,
    groups: I32,
    tau_ns: float,
    level: F64,
    level_time: I64,
    seen: U8,
    out: F64,
) -> None:
    """Smooth each series exponentially by time, however irregular the samples."""
    rows, states = len(values), len(seen)
    given = codes if len(codes) else np.zeros(rows, dtype=np.uint8)
    slots = _fits(rows, groups, states, min(len(level), len(level_time)), len(time), len(out), len(given))
    if not tau_ns > 0.0:
        raise ValueError("tau_ns must be positive")
    cells = zip(values.tolist(), given.tolist(), time.tolist(), slots, strict=True)
    for row, (value, code, now, group) in enumerate(cells):
        out[row] = value
        if group < 0 or code >= _BAD_FROM or not math.isfinite(value):
            continue
        if group >= states:
            raise ValueError("a group is outside the state arrays")
        if not seen[group] or now < level_time[group]:
            seen[group], level[group] = 1, value
        else:
            weight = -math.expm1(-float(now - int(level_time[group])) / tau_ns)
            before = float(level[group])
            away = value - before
            level[group] = (
                before * (1.0 - weight) + value * weight if math.isinf(away) else before + weight * away
            )
        level_time[group] = now
        out[row] = level[group]


def gaps(
    time: I64,
    groups: I32,
    every_ns: int,
    longest_ns: int,
    back_ns: int,
    last_time: I64,
    seen: U8,
    since: I64,
    missed: I32,
) -> int:
    """Find the rows before which rows are missing."""
    rows, states, found = len(time), len(seen), 0
    slots = _fits(rows, groups, states, len(last_time), len(missed), len(since))
    if every_ns <= 0 or longest_ns < every_ns or back_ns < 0:
        raise ValueError("every_ns must be positive, longest_ns not shorter, back_ns not negative")
    for row, (now, group) in enumerate(zip(time.tolist(), slots, strict=True)):
        missed[row] = 0
        if group < 0:
            continue
        if group >= states:
            raise ValueError("a group is outside the state arrays")
        distance = now - int(last_time[group])
        if seen[group] and -back_ns <= distance < 0:
            continue
        if seen[group] and distance > longest_ns:
            count, rest = divmod(distance, every_ns)
            if rest <= every_ns // 2 and count > 1:
                count -= 1
            missed[row], since[row] = min(count, _MOST_MISSED), last_time[group]
            found += 1
        seen[group], last_time[group] = 1, now
    return found


def crossings(values: F64, starts: I64, ends: I64, levels: F64, hysteresis: float, out: I64) -> None:
    """Count how often each window crosses its level, in either direction."""
    if len(starts) != len(ends) or len(levels) != len(starts) or len(out) != len(starts):
        raise ValueError("starts, ends, levels and out differ in length")
    if not hysteresis >= 0.0:
        raise ValueError("hysteresis must not be negative")
    if np.any(starts < 0) or np.any(ends < starts) or np.any(ends > len(values)):
        raise ValueError("a window lies outside the samples")
    for window, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        x, level = values[start:end], levels[window]
        sides = (x > level + hysteresis).astype(np.int8) - (x < level - hysteresis).astype(np.int8)
        reached = sides[sides != 0]
        out[window] = np.count_nonzero(reached[1:] != reached[:-1])
