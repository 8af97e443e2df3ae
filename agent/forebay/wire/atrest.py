"""Sealing of batches at rest: authenticated encryption of each batch by itself. No IO.

Layout of a locked batch (an open one begins with a msgpack array, 0x9b, never with the magic):

    4   magic "FBL1"
    1   kind: 1 gateway, 2 center
    1   cipher: 1 AES-256-GCM, 2 SM4-GCM (GB/T 32907, 128-bit keys)
    32  gateway: salt of the key; center: ephemeral X25519 public key
    12  nonce
    ..  ciphertext and 16-byte tag; the 50 bytes before are authenticated with it

Keys are HKDF-SHA256 (RFC 5869). Gateway: of the gateway's own transport secret with the salt, which is random per
process. Center: of the X25519 shared secret of a key that lives for one batch and the receiver's transport key, with
both public keys in `info`. The transport keys are CURVE's, which are X25519 keys as well: CURVE derives its keys with
HSalsa20, here it is HKDF under a label of its own, so that neither use yields a key of the other. Whoever holds the
receiver's secret key can open what was locked to it: guard it like the data.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Protocol

from forebay.errors import SpoolError, WireError
from forebay.wire.envelope import content_tag

MAGIC = b"FBL1"
CIPHERS = {"aes-gcm": 1, "sm4-gcm": 2}
_GATEWAY, _CENTER = 1, 2
_KEY_BYTES = {1: 32, 2: 16}
_SALT_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 12, 16
_HEAD_BYTES = len(MAGIC) + 2 + _SALT_BYTES + _NONCE_BYTES
_LABEL = {_GATEWAY: b"forebay batch at rest, gateway, v1", _CENTER: b"forebay batch at rest, center, v1"}


class Lock(Protocol):
    """Locks batches."""

    def lock(self, data: bytes) -> bytes:
        """Return the locked bytes."""


def is_locked(data: bytes | memoryview) -> bool:
    """Return whether bytes are a locked batch."""
    return bytes(data[: len(MAGIC)]) == MAGIC


class GatewayLock:
    """Locks and opens with a key from the gateway's own secret.

    Parameters
    ----------
    secret : 32 bytes, the gateway's transport secret
    cipher : `aes-gcm` or `sm4-gcm`
    """

    def __init__(self, secret: bytes, cipher: str = "aes-gcm") -> None:
        self._secret, self._cipher = secret, CIPHERS[cipher]
        self._salt = os.urandom(_SALT_BYTES)

    def lock(self, data: bytes) -> bytes:
        """Return the locked bytes."""
        head = MAGIC + bytes((_GATEWAY, self._cipher)) + self._salt + os.urandom(_NONCE_BYTES)
        return head + _encrypt(head, _derive(self._secret, self._salt, _GATEWAY, self._cipher, b""), data)

    def open(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the bytes of a batch and their content tag; one that is not locked, as it is. Raises SpoolError."""
        if not is_locked(data):
            return data, content_tag(data)
        if data[4] == _CENTER:
            return data, content_tag(data)  # locked to the receiver: sent as it is
        try:
            salt = data[6 : 6 + _SALT_BYTES]
            plain = _decrypt(data, lambda: _derive(self._secret, salt, _GATEWAY, data[5], b""), _GATEWAY)
        except WireError as error:
            raise SpoolError(error.message) from None
        return plain, content_tag(plain)


class CenterLock:
    """Locks to a receiver's public key.

    Parameters
    ----------
    public : 32 bytes, the receiver's transport public key
    cipher : `aes-gcm` or `sm4-gcm`
    """

    def __init__(self, public: bytes, cipher: str = "aes-gcm") -> None:
        self._public, self._cipher = public, CIPHERS[cipher]

    def lock(self, data: bytes) -> bytes:
        """Return the locked bytes."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

        own = X25519PrivateKey.generate()
        shared = own.exchange(X25519PublicKey.from_public_bytes(self._public))
        mine = own.public_key().public_bytes_raw()
        head = MAGIC + bytes((_CENTER, self._cipher)) + mine + os.urandom(_NONCE_BYTES)
        return head + _encrypt(head, _hkdf(shared, b"", _CENTER, self._cipher, mine + self._public), data)


def open_at_center(data: bytes, secret: bytes, public: bytes) -> bytes:
    """Return the sealed bytes of a batch that was locked to this receiver.

    Parameters
    ----------
    data : locked bytes
    secret, public : 32 bytes each, the receiver's transport keys

    Raises
    ------
    WireError
        It is locked to another key, damaged, or not locked to a receiver at all.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    theirs = bytes(data[6 : 6 + _SALT_BYTES])

    def key() -> bytes:
        try:
            other = X25519PublicKey.from_public_bytes(theirs)
            shared = X25519PrivateKey.from_private_bytes(secret).exchange(other)
        except ValueError:
            raise WireError("expected an X25519 key in a locked batch") from None
        return _hkdf(shared, b"", _CENTER, data[5], theirs + public)

    return _decrypt(bytes(data), key, _CENTER)


def _encrypt(head: bytes, key: bytes, data: bytes) -> bytes:
    nonce = head[-_NONCE_BYTES:]
    if len(key) == _KEY_BYTES[1]:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(key).encrypt(nonce, data, head)
    from cryptography.hazmat.primitives.ciphers import Cipher, modes
    from cryptography.hazmat.primitives.ciphers.algorithms import SM4

    encryptor = Cipher(SM4(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(head)
    return encryptor.update(data) + encryptor.finalize() + encryptor.tag


def _decrypt(data: bytes, key: Callable[[], bytes], kind: int) -> bytes:
    from cryptography.exceptions import InvalidTag

    if (
        len(data) < _HEAD_BYTES + _TAG_BYTES
        or not is_locked(data)
        or data[4] != kind
        or data[5] not in _KEY_BYTES
    ):
        raise WireError("expected a locked batch of a known kind and cipher")
    head, body = data[:_HEAD_BYTES], data[_HEAD_BYTES:]
    nonce, made = head[-_NONCE_BYTES:], key()
    try:
        if data[5] == CIPHERS["aes-gcm"]:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            return AESGCM(made).decrypt(nonce, body, head)
        from cryptography.hazmat.primitives.ciphers import Cipher, modes
        from cryptography.hazmat.primitives.ciphers.algorithms import SM4

        decryptor = Cipher(SM4(made), modes.GCM(nonce, body[-_TAG_BYTES:])).decryptor()
        decryptor.authenticate_additional_data(head)
        return decryptor.update(body[:-_TAG_BYTES]) + decryptor.finalize()
    except InvalidTag:
        raise WireError("a locked batch cannot be opened: another key, or it is damaged") from None


@functools.lru_cache(maxsize=64)  # one a start of the agent
def _derive(secret: bytes, salt: bytes, kind: int, cipher: int, info: bytes) -> bytes:
    return _hkdf(secret, salt, kind, cipher, info)


def _hkdf(secret: bytes, salt: bytes, kind: int, cipher: int, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    label = _LABEL[kind] + bytes((cipher,)) + info
    return HKDF(SHA256(), _KEY_BYTES[cipher], salt or None, label).derive(secret)
