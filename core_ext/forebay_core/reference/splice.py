"""Twin of the splice kernel in plain Python."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from forebay_core import text_tables as tables

PASS, KEEP, REPLACE, REMOVE = range(4)

_LINE_END = re.compile(rb"\\+[nrt]")  # as often escaped as it may be
_UNKNOWN_ESCAPE = re.compile(rb"%|\\(?!\\*[nrt])")


def splice(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    spans: npt.NDArray[np.int64],
    codes: npt.NDArray[np.uint8],
    which: npt.NDArray[np.int64],
    rules: npt.NDArray[np.int64],
    new_data: npt.NDArray[np.uint8],
    new_offsets: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Mask the hits of a column. See the compiled kernel."""
    if not len(codes) == len(spans) == len(which) or spans.shape[1] != 3 or rules.shape != (256, 4):
        raise ValueError("hits and rules have different lengths")
    cells = _cells(data, offsets)
    if cells is None or int(offsets[0]) != 0 or int(offsets[-1]) != len(data) or not _fit(spans, cells):
        raise ValueError("spans do not fit the column")
    texts = _cells(new_data, new_offsets)
    table = rules.tolist()
    if texts is None or not _replacements_fit(codes.tolist(), which.tolist(), table, len(texts)):
        raise ValueError("a replacement is missing")
    by_row: dict[int, list[tuple[int, int, int, int]]] = {}
    for (row, start, end), code, index in zip(spans.tolist(), codes.tolist(), which.tolist(), strict=True):
        by_row.setdefault(row, []).append((start, end, code, index))
    removed = np.zeros(len(cells), dtype=np.uint8)
    made: list[tuple[int, int, int]] = []
    out: list[bytes] = []
    for row, cell in enumerate(cells):
        hits = by_row.get(row, [])
        removed[row] = next((code for _, _, code, _ in hits if table[code][0] == REMOVE), 0)
        new, written = (b"", []) if removed[row] else _mask(cell, hits, table, texts)
        out.append(new)
        made += [(row, a, b) for a, b in written]
    ends = np.zeros(len(cells) + 1, dtype=np.int64)
    np.cumsum([len(c) for c in out], out=ends[1:])
    return np.frombuffer(b"".join(out), np.uint8), ends, np.array(made, np.int64).reshape(-1, 3), removed


def _cells(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> list[bytes] | None:
    bounds, raw = np.asarray(offsets).tolist(), np.asarray(data).tobytes()
    if not bounds or bounds[0] < 0 or bounds[-1] > len(raw) or sorted(bounds) != bounds:
        return None
    return [raw[a:b] for a, b in pairwise(bounds)]


def _fit(spans: npt.NDArray[np.int64], cells: list[bytes]) -> bool:
    last_row, last_end = -1, 0
    for row, start, end in spans.tolist():
        if row != last_row:
            if not last_row < row < len(cells):
                return False
            last_row, last_end = row, 0
        if not last_end <= start <= end <= len(cells[row]):
            return False
        last_end = end
    return True


def _replacements_fit(codes: list[int], which: list[int], table: list[list[int]], n: int) -> bool:
    for code, index in zip(codes, which, strict=True):
        action, first, last, fill = table[code]
        if first < 0 or last < 0:
            return False
        if action in (REPLACE, KEEP) and not 0 <= (index if action == REPLACE else fill) < n:
            return False
    return True


def _mask(
    cell: bytes, hits: list[tuple[int, int, int, int]], table: list[list[int]], texts: list[bytes]
) -> tuple[bytes, list[tuple[int, int]]]:
    out, at, made = b"", 0, []
    for start, end, code, index in hits:
        action, first, last, fill = table[code]
        if action == PASS:
            continue
        out += cell[at:start]
        new = texts[index] if action == REPLACE else keep(cell[start:end], first, last, texts[fill])
        made.append((len(out), len(out) + len(new)))
        out += new
        at = end
    return out + cell[at:], made


def keep(text: bytes, first: int, last: int, fill: bytes) -> bytes:
    """Mask all but the ends; everything where less than a third would be masked."""
    characters = _characters(text)
    counted = [i for i, (_, counts) in enumerate(characters) if counts]
    if 3 * (len(counted) - first - last) < len(counted) or _UNKNOWN_ESCAPE.search(text):
        first = last = 0
    gone = set(counted[first : len(counted) - last])
    return b"".join(fill if i in gone else char for i, (char, _) in enumerate(characters))


def _characters(text: bytes) -> list[tuple[bytes, bool]]:
    out, i = [], 0
    while i < len(text):
        escape = _LINE_END.match(text, i)
        if escape:
            out.append((escape[0], False))
            i = escape.end()
            continue
        length = _length(text, i)
        code = text[i]
        if length == 2:
            code = (text[i] & 0x1F) << 6 | text[i + 1] & 0x3F
        elif length == 3:
            code = (text[i] & 0x0F) << 12 | (text[i + 1] & 0x3F) << 6 | text[i + 2] & 0x3F
        symbol = tables.SYMBOLS[code]
        plain = chr(symbol).isalnum() if symbol < 0x80 else symbol < tables.MIDDLE_DOT
        out.append((text[i : i + length], plain or (length in (1, 4) and text[i] >= 0x80)))
        i += length
    return out


def _length(text: bytes, i: int) -> int:
    lead = text[i]
    length = 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if 0xF0 <= lead < 0xF5 else 1
    tail = text[i + 1 : i + length]
    return length if len(tail) == length - 1 and all(c & 0xC0 == 0x80 for c in tail) else 1
