"""Reference twin of forebay_core._alarm; see there for the rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forebay_core.reference.signal import _check, _columns

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]

_MISSING, _NULL_FROM, _UNCHANGED = 128, 128, 137


def carry(values: F64, codes: U8, groups: I32, last: F64, known: U8, out: F64, out_known: U8) -> None:
    """Carry each group's last value into the cells that are missing or blanked by a deadband."""
    rows, states = len(values), len(known)
    if len(out) != rows or len(out_known) != rows:
        raise ValueError("out and values differ in length")
    _check(rows, states, codes, groups, (last,))
    all_codes, all_groups = _columns(rows, codes, groups)
    for row, (value, code, group) in enumerate(zip(values.tolist(), all_codes, all_groups, strict=True)):
        if group >= states:
            raise ValueError("a group is outside the state arrays")
        out[row], out_known[row] = 0.0, 0
        if code < _NULL_FROM and value == value:
            out[row], out_known[row] = value, 1
            if group >= 0:
                last[group], known[group] = value, 1
        elif group >= 0:
            if code not in (_MISSING, _UNCHANGED):
                known[group] = 0
            elif known[group]:
                out[row], out_known[row] = last[group], 1


def latch(
    when: I8,
    clear: I8,
    time: I64,
    groups: I32,
    when_ns: int,
    clear_ns: int,
    raised: U8,
    timing: U8,
    since: I64,
    out: I8,
) -> int:
    """Raise where `when` has held for `when_ns`, clear where `clear` has held for `clear_ns`."""
    rows, states, events = len(when), len(raised), 0
    if len(clear) != rows or len(time) != rows or len(out) != rows:
        raise ValueError("when, clear, time and out differ in length")
    _check(rows, states, np.zeros(0, dtype=np.uint8), groups, (timing, since))
    if when_ns < 0 or clear_ns < 0:
        raise ValueError("a holding time is negative")
    all_groups = groups.tolist() if len(groups) else [0] * rows
    for row, (now, group) in enumerate(zip(time.tolist(), all_groups, strict=True)):
        out[row] = 0
        if group < 0:
            continue
        if group >= states:
            raise ValueError("a group is outside the state arrays")
        condition, hold = (clear[row], clear_ns) if raised[group] else (when[row], when_ns)
        if condition == 0:
            timing[group] = 0
        if condition != 1:
            continue
        if not timing[group] or now < since[group]:
            timing[group], since[group] = 1, now
        if now - int(since[group]) >= hold:
            out[row] = -1 if raised[group] else 1
            raised[group] ^= 1
            timing[group] = 0
            events += 1
    return events
