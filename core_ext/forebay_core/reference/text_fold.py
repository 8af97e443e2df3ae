"""Folding of a cell to one byte a character: twin of the text kernel's."""

from __future__ import annotations

from forebay_core import text_tables as tables
from forebay_core.reference.text_checks import HEX

PAD = 8
_ESCAPES = frozenset(b"nrtbf")


def fold(raw: bytes) -> tuple[bytes, list[int]]:
    """Return the folded symbols with PAD zeros on either side, and the byte where each begins."""
    symbols, pos = bytearray(PAD), [0] * PAD
    i, percent_end = 0, -1
    while i < len(raw):
        symbol, length = _symbol(raw, i, percent_end == i)
        if raw[i] == 0x25:  # percent sign
            percent_end = i + (length if length > 1 else 0)
        if symbol != tables.SKIP:
            symbols.append(symbol)
            pos.append(i)
        i += length
    pos += [len(raw)] * PAD
    return bytes(symbols + bytearray(PAD)), pos


def _symbol(raw: bytes, i: int, inside: bool) -> tuple[int, int]:
    byte = raw[i]
    if byte == 0x5C:
        return _escape(raw, i)
    if byte == 0x25:
        return _percent(raw, i, inside)
    if byte < 0x80:
        return byte, 1
    tail = raw[i + 1 : i + 3]
    if 0xC2 <= byte < 0xE0 and len(tail) >= 1 and tail[0] & 0xC0 == 0x80:
        return tables.SYMBOLS[(byte & 0x1F) << 6 | tail[0] & 0x3F], 2
    if 0xE0 <= byte < 0xF0 and len(tail) == 2 and tail[0] & 0xC0 == 0x80 and tail[1] & 0xC0 == 0x80:
        return tables.SYMBOLS[(byte & 0x0F) << 12 | (tail[0] & 0x3F) << 6 | tail[1] & 0x3F], 3
    return tables.OTHER, 1


def _escape(raw: bytes, i: int) -> tuple[int, int]:
    follow = raw[i + 1 : i + 6]
    if follow and follow[0] in _ESCAPES:
        return 10, 2
    if len(follow) == 5 and follow[:1] == b"u" and all(c in HEX for c in follow[1:]):
        return tables.SYMBOLS[int(follow[1:], 16)], 6
    return raw[i], 1


def _percent(raw: bytes, i: int, inside: bool) -> tuple[int, int]:
    follow = raw[i + 1 : i + 3]
    if len(follow) == 2 and all(c in HEX for c in follow):
        code = int(follow, 16)
        if 0x20 <= code < 0x30 or 0x3A <= code <= 0x40:
            return code, 3
        if code >= 0xC2 or (code >= 0x80 and inside):
            return tables.OTHER, 3
    return raw[i], 1
