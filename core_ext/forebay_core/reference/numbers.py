"""Numbers and times from text for the twin of `_rows`: `_decimal.pxd` and `_timestamp.pxd` in Python."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

_NUMBER = re.compile(rb"([-+]?)([0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]*)?")
_ISO = re.compile(
    rb"([0-9]{4})([-/])([0-9]{2})\2([0-9]{2})"
    rb"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?(.+)?)?",
    re.DOTALL,
)
_OFFSET = re.compile(rb"([-+])([0-9]{2})(?::?([0-9]{2}))?")
_EPOCH = datetime.date(1970, 1, 1).toordinal()
INT64_MAX = 2**63 - 1


@dataclass(slots=True)
class Number:
    """One number as text."""

    text: bytes
    negative: bool
    plus: bool
    whole: bytes  # digits before the point
    fraction: bytes
    exponent: int
    integer: bool

    @property
    def padded(self) -> bool:
        """Whether a zero stands before another digit."""
        return len(self.whole) > 1 and self.whole.startswith(b"0")

    def int64(self) -> int | None:
        """Value of an integer, None if int64 cannot hold it."""
        digits = self.whole.lstrip(b"0") or b"0"
        value = INT64_MAX + 2 if len(digits) > 19 else int(digits)
        value = -value if self.negative else value
        return value if -INT64_MAX - 1 <= value <= INT64_MAX else None

    def scaled(self, power: int) -> int | None:
        """Value * 10**power cut towards zero, None if int64 cannot hold it."""
        text = (self.whole + self.fraction).lstrip(b"0") or b"0"
        shift = self.exponent - len(self.fraction) + power + max(0, len(text) - 40)
        digits = int(text[:40])  # the rest is below one unit of whatever fits
        if digits == 0:
            return 0
        if shift >= 0:
            value = digits * 10**shift if shift < 40 else INT64_MAX + 1
        else:
            value = digits // 10**-shift if shift >= -40 else 0
        if value > INT64_MAX:
            return None
        return -value if self.negative else value


def lex_number(text: bytes, start: int, end: int, json: bool) -> Number | None:
    """See _decimal.pxd."""
    match = _NUMBER.match(text, start, end)
    assert match is not None
    sign, whole, point, power = match.groups()
    if json and (sign == b"+" or not whole or (len(whole) > 1 and whole.startswith(b"0"))):
        return None
    fraction = (point or b"")[1:]
    if point is not None and not fraction and (json or not whole):
        return None
    if point is None and not whole:
        return None
    if power is not None and not power[-1:].isdigit():
        return None
    exponent = 0
    if power is not None:
        digits = power[1:].lstrip(b"+-").lstrip(b"0") or b"0"
        exponent = int(digits) if len(digits) < 7 else 1_000_000
        exponent = -exponent if power[1:2] == b"-" else exponent
    return Number(
        match.group(), sign == b"-", sign == b"+", whole, fraction, exponent, point is None and power is None
    )


def parse_iso(text: bytes) -> tuple[int, bool] | None:
    """Return ns since 1970 and whether the text names no zone, None if it is no time."""
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day = int(match[1]), int(match[3]), int(match[4])
    hour, minute, second = (int(match[i] or 0) for i in (5, 6, 7))
    if not 1678 <= year <= 2261 or hour > 23 or minute > 59 or second > 60:
        return None
    try:
        days = datetime.date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None
    offset = 0 if match[9] is None else _offset(match[9])
    if offset is None:
        return None
    seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset
    return seconds * 10**9 + int((match[8] or b"")[:9].ljust(9, b"0")), match[9] is None


def _offset(text: bytes) -> int | None:
    if text in (b"Z", b"z"):
        return 0
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[2]) > 23 or int(match[3] or 0) > 59:
        return None
    seconds = int(match[2]) * 3600 + int(match[3] or 0) * 60
    return -seconds if match[1] == b"-" else seconds
