"""Identifiers in texts that are about data: names of files and keys, lines of a log.

Names that become data are masked like any value. What is told or kept *about* data (the place of a broken record, the
position of a source) names files and keys too, and a file or a key may be named by a phone number. Lines of a log have
such spans taken out; positions leave such names out (`is_telling`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from forebay_core import text_tables as tables
from forebay_core.text import scan

SURE_CLASSES = ("resident_id", "mobile", "bank_card", "uscc", "plate", "vin", "imei", "email")
"""Classes with a check digit or a form that little else has."""

_SURE = sum(1 << tables.CODES[name] for name in SURE_CLASSES)
_MIN_CONFIDENCE = 80  # below it are forms that an order number or a count of ns may have


@lru_cache(maxsize=4096)
def is_telling(name: str) -> bool:
    """Return whether a name of a file or a key holds an identifier of any class."""
    return holds_identifier(name.encode("utf-8", "replace"))


def holds_identifier(data: bytes) -> bool:
    """Return whether some bytes, text or not, hold an identifier of any class."""
    return bool(len(_scan(data, tables.ALL_CLASSES)[1]))


def redacted(text: str) -> str:
    """Return a text about data with each sure identifier replaced by its class in brackets."""
    raw = text.encode("utf-8", "replace")
    spans, codes, confidence = _scan(raw, _SURE)
    if not len(codes):
        return text
    out, done = [], 0
    for (_, start, end), code, sure in zip(spans.tolist(), codes.tolist(), confidence.tolist(), strict=True):
        if sure >= _MIN_CONFIDENCE:
            out += [raw[done:start], f"[{tables.CLASSES[code]}]".encode()]
            done = end
    return b"".join([*out, raw[done:]]).decode("utf-8", "replace")


def _scan(raw: bytes, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return scan(np.frombuffer(raw, dtype=np.uint8), np.array([0, len(raw)], dtype=np.int64), classes, 0)
