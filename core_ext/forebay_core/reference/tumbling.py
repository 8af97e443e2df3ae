"""Reference twin of forebay_core._tumbling; see there for the rules."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

ACCUMULATED: int = 10

_COUNT, _SUM, _CENTRE, _M2, _M3, _M4, _LOW, _HIGH, _FIRST, _LAST = range(ACCUMULATED)
_MOMENTS = 14
_BAD_FROM = 64
_JOINS, _OPENS, _CLOSES, _LATE, _NO_STATE = range(5)


def tumble(
    time: I64,
    groups: I32,
    pane_ns: int,
    max_back: int,
    max_rows: int,
    open_pane: I64,
    open_rows: I64,
    kind: U8,
    closed_pane: I64,
    closed_group: I32,
) -> int:
    """Sort rows into windows that follow each other, and list the windows that they close."""
    rows, states, closed = len(time), len(open_rows), 0
    if {len(kind), len(closed_pane), len(closed_group)} != {rows} or len(groups) not in (0, rows):
        raise ValueError("time, groups, kind, closed_pane and closed_group differ in length")
    if len(open_pane) < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    if pane_ns <= 0 or max_rows <= 0 or max_back < 0:
        raise ValueError("pane_ns and max_rows must be positive, max_back not negative")
    slots = groups.tolist() if len(groups) else [0] * rows
    for row, (now, group) in enumerate(zip(time.tolist(), slots, strict=True)):
        if group < 0:
            kind[row] = _NO_STATE
            continue
        if group >= states:
            raise ValueError("a group is outside the state arrays")
        number, found = now // pane_ns, _JOINS
        behind = int(open_pane[group]) - number
        if not open_rows[group]:
            found = _OPENS
        elif 0 < behind <= max_back:
            kind[row] = _LATE
            continue
        elif behind or open_rows[group] >= max_rows:
            found = _CLOSES
            closed_pane[closed], closed_group[closed] = open_pane[group], group
            closed += 1
        kind[row] = found
        if found != _JOINS:
            open_rows[group], open_pane[group] = 0, number
        open_rows[group] += 1
    return closed


def _take(state: F64, x: float) -> None:
    n, s = float(state[_COUNT]) + 1.0, [float(v) for v in state]
    state[_COUNT], state[_LAST] = n, x
    if n == 1.0:
        state[[_SUM, _CENTRE, _LOW, _HIGH, _FIRST]] = x
        state[[_M2, _M3, _M4]] = 0.0
        return
    away = x - s[_CENTRE]
    part = away / n
    square = part * part
    term = away * part * (n - 1.0)
    state[_SUM] = s[_SUM] + x
    state[_CENTRE] = s[_CENTRE] + part
    more = term * square * (n * n - 3.0 * n + 3.0) + 6.0 * square * s[_M2] - 4.0 * part * s[_M3]
    state[_M4] = s[_M4] + more
    state[_M3] = s[_M3] + (term * part * (n - 2.0) - 3.0 * part * s[_M2])
    state[_M2] = s[_M2] + term
    state[_LOW], state[_HIGH] = min(s[_LOW], x), max(s[_HIGH], x)


def _finish(state: F64, out: F64) -> None:
    n = state[_COUNT]
    if n == 0.0:
        out[:] = (0.0, 0.0, *(math.nan,) * 12)
        return
    low, high = state[_LOW], state[_HIGH]
    mean = low if low == high else state[_SUM] / n
    second, third, fourth = state[_M2] / n, state[_M3] / n, state[_M4] / n
    rms, peak = np.sqrt(second + mean * mean), max(abs(low), abs(high))
    out[:] = (
        n, state[_SUM], mean, np.sqrt(second), low, high, high - low, rms, peak, peak / rms,
        third / (second * np.sqrt(second)), fourth / (second * second), state[_FIRST], state[_LAST],
    )  # fmt: skip
    state[_COUNT] = 0.0


def accumulate(values: F64, codes: U8, groups: I32, kind: U8, state: F64, out: F64) -> None:
    """Take rows into the open windows of their groups; write the statistics of those that are closed."""
    fields, rows = values.shape
    same = codes.shape == values.shape and len(kind) == rows and len(state) == len(out) == fields
    if not same or len(groups) not in (0, rows) or (state.shape[2], out.shape[2]) != (ACCUMULATED, _MOMENTS):
        raise ValueError("values, codes, groups, kind, state and out differ in shape")
    slots = groups if len(groups) else np.zeros(rows, dtype=np.int32)
    if np.any(slots[kind < _LATE] >= state.shape[1]):
        raise ValueError("a group is outside the state arrays")
    if out.shape[1] != np.count_nonzero(kind == _CLOSES):
        raise ValueError("out must have one row for each window that is closed")
    with np.errstate(all="ignore"):
        for field in range(fields):
            closed = 0
            for row in np.flatnonzero(kind < _LATE).tolist():
                if kind[row] == _CLOSES:
                    _finish(state[field, slots[row]], out[field, closed])
                    closed += 1
                if codes[field, row] < _BAD_FROM:
                    _take(state[field, slots[row]], float(values[field, row]))


def finish(state: F64, groups: I64, out: F64) -> None:
    """Write the statistics of the open windows of some groups and empty their states."""
    if out.shape != (len(state), len(groups), _MOMENTS) or state.shape[2] != ACCUMULATED:
        raise ValueError("state, groups and out differ in shape")
    if np.any(groups < 0) or np.any(groups >= state.shape[1]):
        raise ValueError("a group is outside the state arrays")
    with np.errstate(all="ignore"):
        for field in range(len(state)):
            for place, group in enumerate(groups.tolist()):
                _finish(state[field, group], out[field, place])
