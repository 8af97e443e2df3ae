"""Authenticated encryption of single values: AES-256-GCM or SM4-GCM, from `cryptography`.

Text that comes out is `enc1.CIPHER.KEYID.CLASS.BASE64` (URL alphabet, no padding) over nonce (12 bytes),
ciphertext and tag (16). Class and key id are authenticated too, so a value cannot be passed off as another's.
Nonces are random: one key is good for 2^32 values (NIST SP 800-38D); rotate it long before.
"""

from __future__ import annotations

import base64
import binascii
import os
import re

from forebay.errors import MaskError
from forebay.mask.keyring import Keyring

_NONCE, _TAG = 12, 16
SEALED = re.compile(r"enc1\.(aes-gcm|sm4-gcm)\.([a-z0-9]{1,16})\.([a-z0-9_]{1,32})\.([A-Za-z0-9_-]{38,})")
"""What `seal` writes, wherever it stands in a text."""


def seal(keyring: Keyring, cipher: str, class_name: str, value: bytes) -> bytes:
    """Return a value encrypted, as ASCII text."""
    head = f"enc1.{cipher}.{keyring.id}.{class_name}"
    nonce = os.urandom(_NONCE)
    encryptor = _cipher(keyring.derive("encrypt", class_name), cipher, nonce).encryptor()
    encryptor.authenticate_additional_data(head.encode())
    sealed = nonce + encryptor.update(value) + encryptor.finalize() + encryptor.tag
    return f"{head}.{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}".encode()


def unseal(keyring: Keyring, text: str) -> bytes:
    """Return the value of what `seal` wrote.

    Raises
    ------
    MaskError
        Another key, or not what was written: nothing of it is returned.
    """
    from cryptography.exceptions import InvalidTag

    match = SEALED.fullmatch(text)
    if match is None:
        raise MaskError("expected text of the form enc1.CIPHER.KEYID.CLASS.BASE64")
    cipher, key_id, class_name, code = match.groups()
    if key_id not in keyring.ids:
        raise MaskError(f"key `{key_id}` is not among the policy's keys", hint="add it to `keys.previous`")
    try:
        raw = base64.b64decode(code + "=" * (-len(code) % 4), b"-_", validate=True)
        nonce, body, tag = raw[:_NONCE], raw[_NONCE:-_TAG], raw[-_TAG:]
        decryptor = _cipher(keyring.derive("encrypt", class_name, key_id), cipher, nonce, tag).decryptor()
        decryptor.authenticate_additional_data(f"enc1.{cipher}.{key_id}.{class_name}".encode())
        return bytes(decryptor.update(body) + decryptor.finalize())
    except (InvalidTag, binascii.Error, ValueError):
        raise MaskError(
            f"a value under key `{key_id}` cannot be opened: changed, or another secret"
        ) from None


def _cipher(key: bytes, name: str, nonce: bytes, tag: bytes | None = None):  # type: ignore[no-untyped-def]
    # 7 MB of memory: only where a policy encrypts
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    algorithm = algorithms.SM4(key[:16]) if name == "sm4-gcm" else algorithms.AES(key)
    return Cipher(algorithm, modes.GCM(nonce, tag))
