"""Reference twin of forebay_core._signal; see there for the conventions and the rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

_STUCK, _RATE, _BAD_FROM, _RANGE, _NULL_FROM = 2, 3, 64, 65, 128
_FAILURES = frozenset({130, 131, 132, 138, 139})  # nan, type, size, device_error, overflow
_SEEN_RATE, _SEEN_STUCK = 1, 2
_SLACK = 4.0 * float(np.finfo(np.float64).eps)


def _check(
    rows: int, states: int, codes: U8, groups: I32, state: tuple[npt.NDArray[np.generic], ...]
) -> None:
    if len(codes) not in (0, rows):
        raise ValueError("codes and values differ in length")
    if len(groups) not in (0, rows):
        raise ValueError("groups and values differ in length")
    if any(len(array) < states for array in state) or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")


def _columns(rows: int, codes: U8, groups: I32) -> tuple[list[int], list[int]]:
    return (codes.tolist() if len(codes) else [0] * rows), (groups.tolist() if len(groups) else [0] * rows)


def validate(
    values: F64,
    codes: U8,
    time: I64,
    groups: I32,
    low: float,
    high: float,
    max_rate: float,
    stuck_ns: int,
    rate_value: F64,
    rate_time: I64,
    stuck_value: F64,
    stuck_since: I64,
    seen: U8,
    out: U8,
) -> int:
    """Mark cells out of range, changing too fast or unchanged for too long."""
    rows, states, marked = len(values), len(seen), 0
    if len(time) != rows or len(out) != rows:
        raise ValueError("time, out and values differ in length")
    _check(rows, states, codes, groups, (rate_value, rate_time, stuck_value, stuck_since))
    all_codes, all_groups = _columns(rows, codes, groups)
    cells = zip(values.tolist(), all_codes, time.tolist(), all_groups, strict=True)
    for row, (value, code, now, group) in enumerate(cells):
        out[row] = code
        if code >= _NULL_FROM or value != value:
            continue
        found = max(code, _RANGE) if value < low or value > high else code
        if group >= states:
            raise ValueError("a group is outside the state arrays")
        if group >= 0 and stuck_ns >= 0:
            if not seen[group] & _SEEN_STUCK or value != stuck_value[group] or now < stuck_since[group]:
                stuck_value[group], stuck_since[group] = value, now
                seen[group] |= _SEEN_STUCK
            elif now - int(stuck_since[group]) >= stuck_ns:
                found = max(found, _STUCK)
        # As in the compiled kernel RANGE and incoming bad codes keep a value from being a reference.
        if group >= 0 and max_rate >= 0 and found < _BAD_FROM and np.isfinite(value):
            if not seen[group] & _SEEN_RATE or now < rate_time[group]:
                rate_value[group], rate_time[group] = value, now
                seen[group] |= _SEEN_RATE
            elif now > rate_time[group]:
                with np.errstate(over="ignore", invalid="ignore"):
                    change = abs(value - float(rate_value[group])) * 1e9
                    if change > max_rate * float(now - int(rate_time[group])):
                        found = max(found, _RATE)
                rate_value[group], rate_time[group] = value, now
        out[row] = found
        marked += found != code
    return marked


def _within(value: float, last: float, absolute: float, relative: float) -> bool:
    """Whether a change is not larger than the deadband."""
    if value == last:
        return True
    size = abs(last)
    if not np.isfinite(size):
        return False
    width = max(size * relative, absolute)
    if width > 0.0:
        width += _SLACK * size
    return abs(value - last) <= width


def deadband(
    values: F64,
    codes: U8,
    time: I64,
    groups: I32,
    absolute: float,
    relative: float,
    max_silence_ns: int,
    last_value: F64,
    last_time: I64,
    reported: U8,
    out: U8,
) -> int:
    """Find the cells that repeat what was last reported."""
    rows, states, unchanged = len(values), len(reported), 0
    if len(time) != rows or len(out) != rows:
        raise ValueError("time, out and values differ in length")
    _check(rows, states, codes, groups, (last_value, last_time))
    silence = 2**64 if max_silence_ns < 0 else max_silence_ns
    all_codes, all_groups = _columns(rows, codes, groups)
    cells = zip(values.tolist(), all_codes, time.tolist(), all_groups, strict=True)
    for row, (value, code, now, group) in enumerate(cells):
        out[row] = 0
        if group < 0 or value != value or (code >= _NULL_FROM and code not in _FAILURES):
            continue
        if group >= states:
            raise ValueError("a group is outside the state arrays")
        if (
            code == reported[group]
            and abs(now - int(last_time[group])) < silence
            and (code >= _NULL_FROM or _within(value, float(last_value[group]), absolute, relative))
        ):
            out[row] = 1
            unchanged += 1
            continue
        last_value[group], last_time[group], reported[group] = value, now, code
    return unchanged


def scale(values: F64, codes: U8, multiply: float, add: float, divide: float, out: F64) -> None:
    """Compute (value * multiply + add) / divide; null cells become 0."""
    _check(len(values), 1, codes, np.zeros(0, dtype=np.int32), ())
    if len(out) != len(values):
        raise ValueError("out and values differ in length")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        out[:] = (values * multiply + add) / divide
    if len(codes):
        out[codes >= _NULL_FROM] = 0.0
