"""What a line end cuts in two: twin of the text kernel's second scan.

A cell with line ends is scanned once more without those that may stand inside an identifier, and of what is found
only hits over such a place count.
"""

from __future__ import annotations

from bisect import bisect_left
from copy import copy
from itertools import takewhile
from typing import TYPE_CHECKING

from forebay_core import text_tables as tables
from forebay_core.reference.text_address import CODE, gap_end
from forebay_core.reference.text_checks import ALNUM, DIGITS
from forebay_core.reference.text_fold import PAD

if TYPE_CHECKING:
    from forebay_core.reference.text import Cell

Hit = tuple[int, int, int, int]

_JOINS = ALNUM | frozenset(b"-.@:_") | {tables.MIDDLE_DOT, tables.PROVINCE}
_BLANKS = frozenset(b" \t")
_ENDS = frozenset(b"\0\n\r")
_DATES = frozenset(b"-/:")
_SURE = frozenset((CODE["resident_id"], CODE["uscc"]))
_CHECKED = frozenset(CODE[name] for name in ("resident_id", "bank_card", "uscc", "vin"))
_WHOLE = frozenset(CODE[name] for name in ("uscc", "vin", "email", "plate"))


def over_breaks(cell: Cell, hits: list[Hit]) -> list[Hit]:
    """Return the hits of a cell with those over its line ends."""
    whole, gaps = _without_breaks(cell)
    if not gaps:
        return hits
    out = list(hits)
    for start, end, code, confidence in whole.scan():
        b, e = _symbol_at(whole, start), _symbol_at(whole, end)
        gap = next((g for g in gaps if b < g < e), 0)
        if not gap or not _holds(whole, code, confidence, b, e, gap):
            continue
        inside = [h for h in out if h[0] < end and h[1] > start]
        checked = confidence >= 85 and code in _CHECKED
        if any(h[0] < start or h[1] > end for h in inside):
            continue
        if not checked and any(h[2] != code or h[3] > 65 for h in inside):
            continue  # what was found on one line stays, but for a weak part of the same
        sure = confidence if code in _SURE else min(confidence, 75)
        out = sorted([*(h for h in out if h not in inside), (start, end, code, sure)])
    return out


def _without_breaks(cell: Cell) -> tuple[Cell, list[int]]:
    """Return a cell without such line ends, and the symbols behind them."""
    s = cell.s
    symbols, pos, points = bytearray(PAD), [0] * PAD, [0] * PAD
    gaps, i = [], PAD
    while i < cell.end:
        if s[i] in b"\n\r":
            behind, e = _gap_at(cell, i)
            if e:
                keep = len(symbols) - (i - behind)
                del symbols[keep:], pos[keep:], points[keep:]
                if _parts_groups(symbols, s, e):
                    symbols.append(0x20)
                    pos.append(cell.pos[i])
                    points.append(0x20)
                gaps.append(len(symbols))
                i = e
                continue
        symbols.append(s[i])
        pos.append(cell.pos[i])
        points.append(cell.points[i])
        i += 1
    whole = copy(cell)
    whole.end = len(symbols)
    whole.s, whole.pos = bytes(symbols) + bytes(PAD), pos + [len(cell.raw)] * PAD
    whole.points, whole.hits = points + [0] * PAD, []
    return whole, gaps


def _gap_at(cell: Cell, i: int) -> tuple[int, int]:
    """Return the index after the last symbol before the line end at i, and the one after it and its blanks.

    The second is 0 if no identifier may go over it: none of its neighbours is a digit, and there is no at sign.
    """
    s, behind = cell.s, i
    while behind > PAD and s[behind - 1] in b" \t\r\\":  # a line end may be escaped twice
        behind -= 1
    e = gap_end(s, i)
    if not e or behind == PAD or s[behind - 1] not in _JOINS or s[e] not in _JOINS:
        return behind, 0
    near = _digit_near(s[behind - 4 : behind][::-1]) or _digit_near(s[e : e + 4])
    return behind, e if 0x40 in s or near else 0


def _digit_near(symbols: bytes) -> bool:
    """Is one of these a digit, with nothing before it that an identifier cannot hold?"""
    return any(c in DIGITS for c in takewhile(lambda c: c in _JOINS, symbols))


def _parts_groups(left: bytearray, right: bytes, e: int) -> bool:
    """Does a line end between digits stand where a number in groups has its space?"""
    n = m = 0
    while n < 7 and left[-1 - n] in DIGITS:
        n += 1
    while m < 9 and right[e + m] in DIGITS:
        m += 1
    if n not in (3, 4, 6) or m < 3 or (n + m == 11 and left[-n] == 0x31):  # a mobile number in two parts
        return False
    before = left[-1 - n] == 0x20 and left[-2 - n] in DIGITS
    return before or (right[e + m] == 0x20 and right[e + m + 1] in DIGITS)


def _symbol_at(cell: Cell, place: int) -> int:
    return bisect_left(cell.pos, place, PAD, cell.end)


def _holds(cell: Cell, code: int, confidence: int, b: int, e: int, gap: int) -> bool:
    """Is a hit over a line end believed?"""
    name = tables.CLASSES[code]
    if name in ("resident_id", "imei"):
        return confidence > 70
    if code in _WHOLE:
        return True
    if name == "passport":
        return cell.within(b, tables.CONTEXT_PERMIT, tables.CONTEXT_BYTES)
    if name == "bank_card":
        return not _stands_bare(cell.s, b, e) or cell.within(b, tables.CONTEXT_CARD, tables.CONTEXT_BYTES)
    if name in ("mobile", "landline"):
        if _is_dated(cell, b, e):
            return False
        if cell.s[b - 1] == 0x3D or _stands_bare(cell.s, b, e):  # a column, or what a log counts
            return cell.within(b, tables.CONTEXT_PHONE, tables.LABEL_BYTES)
        return True
    # IP and MAC addresses: broken beside one of their signs
    return name != "gps" and (cell.s[gap - 1] in b".:-" or cell.s[gap] in b".:-")


def _stands_bare(s: bytes, b: int, e: int) -> bool:
    while s[b - 1] in _BLANKS:
        b -= 1
    while s[e] in _BLANKS:
        e += 1
    return s[b - 1] in _ENDS and s[e] in _ENDS


def _is_dated(cell: Cell, b: int, e: int) -> bool:
    """Does what stands beside the number tell that a line begins or ends with a date, a time or a year?"""
    s = cell.s
    if s[e] in _DATES and s[e + 1] in DIGITS:
        return True
    return cell.points[e] == 0x5E74 or (s[b - 1] in _DATES and s[b - 2] in DIGITS)
