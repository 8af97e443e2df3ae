"""Bytes that come as text: base64 as JSON and CSV carry it, with the habits of cameras and browsers."""

from __future__ import annotations

import base64
import binascii
import re
from itertools import pairwise

import numpy as np

from forebay import quality as q
from forebay.blocks import Column, I64Array, U8Array

_DATA_URI = re.compile(rb"data:[^,]{0,100};base64,", re.IGNORECASE)  # RFC 2397
_URL_SAFE = bytes.maketrans(b"-_", b"+/")  # RFC 4648, section 5
_BLANKS = b" \t\r\n"  # RFC 2045 wraps lines at 76


def from_base64(values: bytes, ends: I64Array, quality: U8Array | None) -> Column:
    """Decode the cells of a text column; what is no base64 becomes null, bad(type).

    Parameters
    ----------
    values : all cells' text
    ends : int64 (n + 1,), where each begins and ends
    quality : uint8 (n,), codes so far; None: all good
    """
    codes = np.zeros(len(ends) - 1, np.uint8) if quality is None else quality.copy()
    cells: list[bytes] = []
    for row, (start, end) in enumerate(pairwise(ends.tolist())):
        cell = b""
        if codes[row] < q.NULL_FROM:
            try:
                cell = decoded(values[start:end])
            except binascii.Error:
                codes[row] = q.TYPE
        cells.append(cell)
    offsets = np.zeros(len(ends), np.int64)
    np.cumsum([len(cell) for cell in cells], out=offsets[1:])
    return Column(np.frombuffer(b"".join(cells), np.uint8), offsets, codes if codes.any() else None)


def decoded(text: bytes) -> bytes:
    """Return the bytes of a base64 text or data URI; the URL alphabet, line ends and missing padding pass.

    Raises
    ------
    binascii.Error
        It is something else.
    """
    uri = _DATA_URI.match(text)
    code = text[uri.end() if uri else 0 :].translate(_URL_SAFE, _BLANKS)
    return base64.b64decode(code + b"=" * (-len(code) % 4), validate=True)
