"""Keyed tokens: the same value gives the same token under the same key, on every gateway that has it.

A token is `CLASS_KEYID_TEXT`, TEXT being base32 of HMAC-SHA256. The key of a class is derived from the
secret by HKDF-SHA256 (RFC 5869), so a key that leaks from one class opens no other. An unkeyed hash of a
phone number would be reversed by trying them all; so can this one by whoever has the key.
"""

from __future__ import annotations

import base64
import hmac
import unicodedata

from forebay.mask.policy import Policy

_CACHE_ENTRIES = 8192  # tokens remembered between blocks, about 1 MB; then the memory starts anew
_SEPARATORS = dict.fromkeys(map(ord, " -.·•()\u00ad\u200b\u200c\u200d\u2060\ufeff"))
_KEEP_SIGNS = frozenset({"email", "ipv4", "ipv6", "gps", "name", "address", "field"})


class Tokens:
    """Makes tokens. Reads the secret once, when it is made. Raises ConfigError."""

    def __init__(self, policy: Policy) -> None:
        keys = policy.options.keys
        assert keys is not None  # the options refuse tokens without keys
        self._secret = policy.secret()
        self._id, self._tenant = keys.id, keys.tenant
        self._keys: dict[str, bytes] = {}
        self._cache: dict[tuple[str, int, bytes], bytes] = {}

    def token(self, class_name: str, length: int, text: bytes) -> bytes:
        """Return the token of a found text. Spacing, hyphens and full-width forms make no difference."""
        entry = (class_name, length, text)
        known = self._cache.get(entry)
        if known is not None:
            return known
        digest = hmac.digest(self._key(class_name), normalise(class_name, text), "sha256")
        code = base64.b32encode(digest).decode().lower().rstrip("=")[:length]
        made = f"{class_name}_{self._id}_{code}".encode()
        if len(self._cache) >= _CACHE_ENTRIES:
            self._cache.clear()
        self._cache[entry] = made
        return made

    def _key(self, class_name: str) -> bytes:
        if class_name not in self._keys:
            # 7 MB of memory: only where a policy makes tokens
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            info = "\0".join((self._tenant, self._id, class_name)).encode()
            kdf = HKDF(algorithm=SHA256(), length=32, salt=b"forebay token v1", info=info)
            self._keys[class_name] = kdf.derive(self._secret)
        return self._keys[class_name]


def normalise(class_name: str, text: bytes) -> bytes:
    """Return the one form of a value, whatever way it was written."""
    plain = unicodedata.normalize("NFKC", text.decode("utf-8", "surrogateescape")).casefold()
    if class_name not in _KEEP_SIGNS:
        plain = plain.translate(_SEPARATORS)
    return plain.strip().encode("utf-8", "surrogateescape")
