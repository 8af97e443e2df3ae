r"""Identifiers behind escapes: JSON that stands in a string of other JSON, as often as that happens.

The scan reads `\u0031` as the character it stands for, but a string that was encoded twice holds `\\u0031`, and an
operator that keeps the first three characters of `\u0031...` would keep a piece of the escape. Where the text behind
the escapes holds an identifier they are written out: whoever decodes the JSON sees no difference. Escaped quotes,
backslashes and control characters stay as they are, so that the JSON stays JSON at each level. The same is done with
numeric references of HTML (`&#24352;`, which forms in GBK send for characters that GBK has not) and with `&nbsp;`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from forebay.blocks import Column, I64Array, U8Array
from forebay.mask.search import is_repetitive

Found = tuple[I64Array, U8Array, U8Array]
Find = Callable[[Column], Found]

_RUN = re.compile(rb"(?:\\+u[0-9A-Fa-f]{4})+|&(?:#(?:[0-9]{1,7}|[xX][0-9A-Fa-f]{1,6})|nbsp);")
_UNIT = re.compile(rb"\\+u([0-9A-Fa-f]{4})")
_REPLACED = "\ufffd".encode()
_WIDE = re.compile(rb"(?:[ -~]\xef\xbf\xbd){4,}")
_KEPT = frozenset((0x22, 0x5C, 0x7F))  # quote, backslash, delete
_MARKUP = frozenset(b"&<>'")  # what HTML would take for something else


class Hidden(NamedTuple):
    """What is behind escapes: rows of a column, their text written out, and what was found in it.

    `found` counts its rows from 0: row n of it is `rows[n]` of the column.
    """

    rows: I64Array
    texts: list[bytes]
    found: Found


def hidden(column: Column, find: Find) -> Hidden | None:
    """Search the cells of a text or bytes column that hold escapes, written out. None: no cell does."""
    assert column.offsets is not None
    # Where cells repeat, the different ones hold every byte there is.
    if is_repetitive(column) and not _has_escapes(column.distinct().values.tobytes()):
        return None
    data = column.values.tobytes()
    if not _has_escapes(data):
        return None
    rows, texts = [], []
    bounds = column.offsets.tolist()
    for row, (start, end) in enumerate(pairwise(bounds)):
        if data.find(b"\\u", start, end) < 0 and data.find(b"&", start, end) < 0:
            continue
        cell = data[start:end]
        text = _RUN.sub(_written_out, cell)
        if text != cell:
            rows.append(row)
            texts.append(text)
    if not rows:
        return None
    return Hidden(np.array(rows, dtype=np.int64), texts, find(_column(texts)))


def _has_escapes(data: bytes) -> bool:
    # one byte is looked for twenty times as fast as two
    return (b"\\" in data and b"\\u" in data) or (b"&" in data and (b"&#" in data or b"&nbsp;" in data))


def written_out(column: Column, find: Find) -> Column:
    """Return a text column in which each cell whose escapes hide something that `find` finds has them written out."""
    behind = hidden(column, find)
    if behind is None or not len(behind.found[1]):
        return column
    assert column.offsets is not None
    hits = set(behind.found[0][:, 0].tolist())
    new = {int(behind.rows[n]): behind.texts[n] for n in hits}
    cells = [new[row] if row in new else column.cell_bytes(row) for row in range(column.rows)]
    made = _column(cells)
    return replace(column, values=made.values, offsets=made.offsets, spans=None)


def without_nuls(column: Column) -> Column:
    """Return a text column without NUL characters: they say nothing, and they would part the digits of a number.

    Sources have U+FFFD in their place. It goes where a file in UTF-16 was read as UTF-8: behind each ASCII character.
    """
    if column.offsets is None or not len(column.values):
        return column
    # Where cells repeat, the different ones hold every byte there is.
    data = (column.distinct().values if is_repetitive(column) else column.values).tobytes()
    if 0 in data:
        kept = column.values != 0
        until = np.zeros(len(kept) + 1, dtype=np.int64)
        np.cumsum(kept, out=until[1:])
        column = replace(column, values=column.values[kept], offsets=until[column.offsets], spans=None)
    if _REPLACED not in data:
        return column
    cells = [_WIDE.sub(_narrow, column.cell_bytes(row)) for row in range(column.rows)]
    made = _column(cells)
    if len(made.values) == len(column.values):
        return column
    return replace(column, values=made.values, offsets=made.offsets, spans=None)


def _narrow(run: re.Match[bytes]) -> bytes:
    return run[0].replace(_REPLACED, b"")


def _column(cells: list[bytes]) -> Column:
    offsets = np.zeros(len(cells) + 1, dtype=np.int64)
    np.cumsum([len(cell) for cell in cells], out=offsets[1:])
    return Column(np.frombuffer(b"".join(cells), dtype=np.uint8), offsets)


def _written_out(run: re.Match[bytes]) -> bytes:
    """Return a run of escapes as UTF-8; surrogates that are no pair stay as they are."""
    if run[0].startswith(b"&"):
        return _dereferenced(run[0])
    out = []
    units = [(unit[0], int(unit[1], 16)) for unit in _UNIT.finditer(run[0])]
    place = 0
    while place < len(units):
        raw, code = units[place]
        place += 1
        if 0xD800 <= code < 0xDC00 and place < len(units) and 0xDC00 <= units[place][1] < 0xE000:
            code = 0x10000 + ((code - 0xD800) << 10) + units[place][1] - 0xDC00
            place += 1
        if code < 0x20 or code in _KEPT or 0xD800 <= code < 0xE000:
            out.append(raw)
        else:
            out.append(chr(code).encode())
    return b"".join(out)


def _dereferenced(raw: bytes) -> bytes:
    """Return what a reference of HTML stands for, as it is where it keeps markup apart from text."""
    if raw == b"&nbsp;":
        return b"\xc2\xa0"
    code = int(raw[3:-1], 16) if raw[2:3] in b"xX" else int(raw[2:-1])
    if code < 0x20 or code in _KEPT or code in _MARKUP or 0xD800 <= code < 0xE000 or code > 0x10FFFF:
        return raw
    return chr(code).encode()
