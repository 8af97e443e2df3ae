"""Keyed tokens: the same value gives the same token under the same key, on every gateway that has it.

A token is `CLASS_KEYID_TEXT`, TEXT being base32 of HMAC-SHA256. While a key is being rotated, `_KEYID_TEXT` of
each key that bridges follows, so that rows from before the rotation still join. An unkeyed hash of a phone
number would be reversed by trying them all; so can this one by whoever has the key.
"""

from __future__ import annotations

import base64
import hmac
import re
import unicodedata

from forebay.mask.keyring import Keyring
from forebay_core import text_tables as tables

_CACHE_ENTRIES = 8192  # tokens remembered between blocks, about 1 MB; then the memory starts anew
_PLAIN: dict[int, str | None] = dict.fromkeys(map(ord, " -.·•()/_+"))
_PLAIN |= dict.fromkeys(code for code, symbol in enumerate(tables.SYMBOLS) if symbol == tables.SKIP)
_PLAIN |= dict.fromkeys(tables.TAGS)
_PLAIN |= {zero + value: str(value) for zero in tables.ZEROS for value in range(10)}
_PLAIN |= {ord(c): str(value) for value, chars in enumerate(tables.SPOKEN_DIGITS) for c in chars}
_LINE_END = re.compile(r"[ \t]*(?:[\r\n]|\\+[rn])[ \t\r\n]*")  # also as often escaped as it may be
_KEEP_SIGNS = frozenset({"email", "ipv4", "ipv6", "gps", "name", "address", "field"})


class Tokens:
    """Makes tokens."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._ids = (keyring.id, *keyring.bridges)
        self._cache: dict[tuple[str, int, bytes], bytes] = {}

    def token(self, class_name: str, length: int, text: bytes) -> bytes:
        """Return the token of a found text. Spacing, hyphens and ways to write digits make no difference."""
        entry = (class_name, length, text)
        known = self._cache.get(entry)
        if known is not None:
            return known
        plain = normalise(class_name, text)
        parts = [class_name]
        for key_id in self._ids:
            digest = hmac.digest(self._keyring.derive("token", class_name, key_id), plain, "sha256")
            parts += [key_id, base64.b32encode(digest).decode().lower().rstrip("=")[:length]]
        made = "_".join(parts).encode()
        if len(self._cache) >= _CACHE_ENTRIES:
            self._cache.clear()
        self._cache[entry] = made
        return made


def normalise(class_name: str, text: bytes) -> bytes:
    """Return the one form of a value, whatever way it was written."""
    plain = unicodedata.normalize("NFKC", text.decode("utf-8", "surrogateescape")).casefold()
    if class_name != "field":  # of a field masked whole every sign may tell values apart
        plain = _LINE_END.sub("", plain)
    if class_name not in _KEEP_SIGNS:
        plain = plain.translate(_PLAIN)
    return plain.strip().encode("utf-8", "surrogateescape")
