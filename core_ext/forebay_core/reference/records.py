"""Twin of `_records` in plain Python."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forebay_core.row_codes import Buffer

_BLANK = b" \t\n\r\v\f"


def _check(spans: npt.NDArray[np.int64]) -> None:
    if spans.shape[1] != 4:
        raise ValueError("spans are (n, 4)")


def _put(
    spans: npt.NDArray[np.int64], i: int, text: bytes, start: int, end: int, after: int, line: int
) -> None:
    if end > start and text[end - 1] == 13:
        end -= 1
    spans[i] = start, end, after, line


def split_lines(data: Buffer, start: int, final: bool, spans: npt.NDArray[np.int64]) -> int:
    """See _records.pyi."""
    _check(spans)
    text, i = bytes(data), 0
    while 0 <= start < len(text) and i < len(spans):
        stop = text.find(b"\n", start)
        if stop < 0:
            if final:
                _put(spans, i, text, start, len(text), len(text), i)
                i += 1
            break
        _put(spans, i, text, start, stop, stop + 1, i)
        start, i = stop + 1, i + 1
    return i


def _csv_end(text: bytes, p: int, delimiter: int) -> int:
    while True:
        if text[p : p + 1] == b'"':
            p += 1
            while True:
                p = text.find(b'"', p)
                if p < 0:
                    return -1
                p += 1
                if text[p : p + 1] != b'"':
                    break
                p += 1
        while p < len(text) and text[p] not in (delimiter, 10):
            p += 1
        if p >= len(text):
            return -1
        if text[p] == 10:
            return p
        p += 1


def split_csv(data: Buffer, start: int, final: bool, delimiter: int, spans: npt.NDArray[np.int64]) -> int:
    """See _records.pyi."""
    _check(spans)
    text, i, line = bytes(data), 0, 0
    while 0 <= start < len(text) and i < len(spans):
        stop = _csv_end(text, start, delimiter)
        if stop < 0:
            if final:
                _put(spans, i, text, start, len(text), len(text), line)
                i += 1
            break
        _put(spans, i, text, start, stop, stop + 1, line)
        line += text.count(b"\n", start, stop + 1)
        start, i = stop + 1, i + 1
    return i


def split_array(data: Buffer, spans: npt.NDArray[np.int64]) -> int:
    """See _records.pyi."""
    _check(spans)
    text = bytes(data).rstrip(_BLANK)
    p = len(text) - len(text.lstrip(_BLANK))
    if len(text) - p < 2 or text[p] != ord("["):
        return -1
    p, i, depth, quoted, blank = p + 1, 0, 0, False, True
    start = p
    while p < len(text):
        c = text[p : p + 1]
        if quoted:
            if c == b"\\":
                p += 1
            elif c == b'"':
                quoted = False
        elif c in b",]" and depth == 0:
            if not (c == b"]" and blank and i == 0):
                if i < len(spans):
                    spans[i] = start, p, p + 1, i
                i += 1
            if c == b"]":
                return i if p + 1 == len(text) else -1
            start, blank = p + 1, True
        elif c == b'"':
            quoted, blank = True, False
        elif c in b"{[":
            depth, blank = depth + 1, False
        elif c in b"}]":
            depth -= 1
            if depth < 0:
                return -1
        elif c > b" ":
            blank = False
        p += 1
    return -1
