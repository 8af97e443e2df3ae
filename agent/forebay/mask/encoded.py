"""Pictures that stand in text, in base64 or hex: cameras and gates send them so, within JSON.

Detectors look at bytes that were declared as pictures. One that comes as text, or as bytes that nobody declared, was
looked at by nobody.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from forebay.blocks import Column
from forebay_core.cells import with_runs

_LEAST_RUN = 128  # bytes without a sign that no encoding has; a smaller picture shows nobody

_RAW_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_SLASH = rb"(?:\\*/|_|%2[Ff])"  # as JSON, URLs and base64 for URLs write it
_HEX = (
    *(
        rb"ffd8ff[c-f]",
        rb"89504e470d0a1a0a",
        rb"47494638",
        rb"424d[0-9a-f]{8}0{8}",
        rb"49492a00",
        rb"4d4d002a",
    ),
    *(rb"52494646[0-9a-f]{8}57454250", rb"0{6}[0-9a-f]{2}66747970"),
)
_START = re.compile(
    # What a picture's first bytes become, at the beginning of what is encoded.
    rb"(?:\\+[nrt])*(?:"
    + rb"|".join(
        (
            _SLASH + rb"9j" + _SLASH + rb"[0-9w-z+/_\\%-]",  # JPEG
            rb"iVBORw0KGgo",  # PNG
            rb"R0lGOD",  # GIF
            rb"UklGR[A-Za-z0-9+/_%\\-]{6,18}XRUJQ",  # WebP
            rb"Qk[0-3][A-Za-z0-9+/_%\\-]{5,15}AAAA",  # BMP: four zeros behind its size
            rb"(?:SUkqA|TU0AK)",  # TIFF
            rb"AAAA[A-Za-z0-9+/]GZ0eX",  # HEIC, AVIF, MP4
            rb"(?:0x)?(?i:" + rb"|".join(_HEX) + rb")",
        )
    )
    + rb")"
)
_DATA_URI = re.compile(rb"(?i:data:(?:image|video)/[a-z0-9.+;=-]{1,60}(?:,|%2c))")
_CODE = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-\\%"  # base64, hex, and their escapes
)
_PIECES = re.compile(rb"[" + re.escape(_CODE) + rb"]{60,}")  # lines of PEM have 64
# Encoded text may be wrapped. Padding stands at an end.
_IN_RUN = np.isin(np.arange(256), np.frombuffer(_CODE + b"\r\n", np.uint8)).astype(np.uint8)


def hold_pictures(column: Column, *, raw: bool) -> npt.NDArray[np.bool_] | None:
    """Return which cells of a text or bytes column hold a picture. None: no cell does.

    `raw` looks for pictures as they are, too: for bytes, for a text may begin with BM.
    """
    assert column.offsets is not None
    # Text has a space or a stop now and then, and most columns end here.
    rows = with_runs(column.values, column.offsets, _IN_RUN, _LEAST_RUN).tolist()
    if not raw and not rows:
        return None
    held = np.zeros(column.rows, dtype=np.bool_)
    if raw:
        held[:] = [column.cell_bytes(row).startswith(_RAW_STARTS) for row in range(column.rows)]
    for row in rows:
        held[row] = held[row] or _is_coded(column.cell_bytes(row))
    return held if held.any() else None


def _is_coded(cell: bytes) -> bool:
    if _DATA_URI.search(cell):
        return True
    return any(_START.match(cell, piece.start()) for piece in _PIECES.finditer(cell))
