"""Signatures of bundles: Ed25519 over the manifest's bytes, which hold the sha256 of every file.

`manifest.sig`, lines of `name: value` as in key files::

    forebay-signature: 1
    key: BASE64 of the signer's 32 public bytes
    signature: BASE64 of 64 bytes

The signature covers a context string and then the manifest, so that no other signature of the same key can pass
for one. The key in the file says whom to look for; it is believed only when it is one of the trusted keys.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from forebay.errors import ModelError
from forebay.keys import PublicKey, SecretKey, read_public

CONTEXT = b"forebay model manifest 1\0"
FORMAT = "1"
MAX_BYTES = 4096
SHIPPED = "shipped with Forebay"

_KEY_BYTES, _SIGNATURE_BYTES = 32, 64


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose bundles may be loaded.

    Attributes
    ----------
    keys : public keys of signers
    required : whether a bundle that none of them signed is refused. Those shipped with Forebay are trusted by
        being shipped: whoever can change them can change the code beside them.
    """

    keys: tuple[PublicKey, ...] = ()
    required: bool = False

    @staticmethod
    def read(paths: list[Path], *, required: bool) -> Trust:
        """Return the trust in the keys of these files. Raises KeyFileError."""
        return Trust(tuple(read_public(path) for path in paths), required)


def sign(manifest: bytes, key: SecretKey) -> bytes:
    """Return the content of `manifest.sig`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made = Ed25519PrivateKey.from_private_bytes(key.signing).sign(CONTEXT + manifest)
    lines = (
        "# Forebay signature of manifest.yaml",
        f"forebay-signature: {FORMAT}",
        f"key: {base64.b64encode(key.public.signing).decode()}",
        f"signature: {base64.b64encode(made).decode()}",
    )
    return ("\n".join(lines) + "\n").encode()


def check(manifest: bytes, signature: bytes | None, trust: Trust, place: str) -> str:
    """Return who signed the manifest, by the name in the trusted key's file; empty if nobody who is trusted.

    Raises
    ------
    ModelError
        The signature is broken or of other bytes, whoever made it; or one is required and there is none.
    """
    if signature is None:
        if trust.required:
            raise ModelError(
                "not signed, and signatures are required (`models.require_signature`)",
                place=place,
                hint=f"sign it with: forebay models sign {place} --key NAME.key",
            )
        return ""
    key, made = _parse(signature, place)
    if not _holds(key, made, CONTEXT + manifest):
        raise ModelError(
            "the signature is not of this manifest: it was changed after it was signed",
            place=place,
            hint="install the bundle again, from where it was signed",
        )
    for known in trust.keys:
        if known.signing == key:
            return known.name
    if trust.required:
        raise ModelError(
            "signed by a key that is not trusted", place=place, hint="add the signer's .pub to `models.trust`"
        )
    return ""


def _holds(key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _parse(text: bytes, place: str) -> tuple[bytes, bytes]:
    """Return key and signature."""
    lines = {}
    if len(text) <= MAX_BYTES:
        for line in text.decode("ascii", "replace").splitlines():
            name, colon, value = line.partition(":")
            if colon and not name.startswith("#"):
                lines[name.strip()] = value.strip()
    parts = []
    for name, size in (("key", _KEY_BYTES), ("signature", _SIGNATURE_BYTES)):
        try:
            parts.append(base64.b64decode(lines.get(name, ""), validate=True))
        except (binascii.Error, ValueError):
            parts.append(b"")
        if len(parts[-1]) != size or lines.get("forebay-signature") != FORMAT:
            raise ModelError(f"manifest.sig is no signature of format {FORMAT}", place=place)
    return parts[0], parts[1]
