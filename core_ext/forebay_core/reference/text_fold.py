"""Folding of a cell to one byte a character: twin of the text kernel's."""

from __future__ import annotations

from forebay_core import text_tables as tables
from forebay_core.reference.text_checks import HEX

PAD = 8
_ESCAPES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 9, ord("f"): 9}
_UNKNOWN = 1  # code point of what is no character of the basic plane


def fold(raw: bytes) -> tuple[bytes, list[int], list[int]]:
    """Return the folded symbols with PAD zeros on either side, the byte where each begins, its code point."""
    symbols, pos, points = bytearray(PAD), [0] * PAD, [0] * PAD
    i, percent_end = 0, -1
    while i < len(raw):
        code, length = _character(raw, i, percent_end == i)
        if code in tables.WIDE_DIGITS:
            code = 0x30 + (code - tables.WIDE_DIGITS.start) % 10
        if raw[i] == 0x25:  # percent sign
            percent_end = i + (length if length > 1 else 0)
        if code in tables.TAGS:
            i += length
            continue
        symbol = tables.SYMBOLS[code] if code > _UNKNOWN or raw[i] == code else tables.OTHER
        if symbol != tables.SKIP:
            symbols.append(symbol)
            pos.append(i)
            points.append(symbol if symbol < 0x80 else code)
        i += length
    pos += [len(raw)] * PAD
    return bytes(symbols + bytearray(PAD)), pos, points + [0] * PAD


def _character(raw: bytes, i: int, inside: bool) -> tuple[int, int]:
    byte = raw[i]
    if byte == 0x5C:
        return _escape(raw, i)
    if byte == 0x25:
        return _percent(raw, i, inside)
    if byte < 0x80:
        return byte, 1
    tail = raw[i + 1 : i + 3]
    if 0xC2 <= byte < 0xE0 and len(tail) >= 1 and tail[0] & 0xC0 == 0x80:
        return (byte & 0x1F) << 6 | tail[0] & 0x3F, 2
    if 0xE0 <= byte < 0xF0 and len(tail) == 2 and tail[0] & 0xC0 == 0x80 and tail[1] & 0xC0 == 0x80:
        return (byte & 0x0F) << 12 | (tail[0] & 0x3F) << 6 | tail[1] & 0x3F, 3
    tail = raw[i + 1 : i + 4]
    if 0xF0 <= byte < 0xF8 and len(tail) == 3 and all(c & 0xC0 == 0x80 for c in tail):
        code = (byte & 0x07) << 18 | (tail[0] & 0x3F) << 12 | (tail[1] & 0x3F) << 6 | tail[2] & 0x3F
        if code in tables.WIDE_DIGITS or code in tables.TAGS:
            return code, 4
    return _UNKNOWN, 1


def _escape(raw: bytes, i: int) -> tuple[int, int]:
    follow = raw[i + 1 : i + 6]
    if follow and follow[0] in _ESCAPES:
        return _ESCAPES[follow[0]], 2
    if len(follow) == 5 and follow[:1] == b"u" and all(c in HEX for c in follow[1:]):
        return int(follow[1:], 16), 6
    return raw[i], 1


def _hex(raw: bytes, i: int) -> int:
    """Return the byte that `%XX` at i stands for, -1 if it is none."""
    text = raw[i : i + 3]
    if len(text) < 3 or text[0] != 0x25 or text[1] not in HEX or text[2] not in HEX:
        return -1
    return int(text[1:], 16)


def _percent(raw: bytes, i: int, inside: bool) -> tuple[int, int]:
    code = _hex(raw, i)
    if 0x20 <= code < 0x30 or 0x3A <= code <= 0x40:
        return code, 3
    if 0xE0 <= code < 0xF0:
        second, third = _hex(raw, i + 3), _hex(raw, i + 6)
        if 0x80 <= second < 0xC0 and 0x80 <= third < 0xC0:
            return (code & 0x0F) << 12 | (second & 0x3F) << 6 | third & 0x3F, 9
    if code >= 0xC2 or (code >= 0x80 and inside):
        return _UNKNOWN, 3
    return raw[i], 1
