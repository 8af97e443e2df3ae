"""Ed25519 (RFC 8032) signatures with the keys of `forebay.keys`.

Signing needs a library that costs 6 MB once loaded. An agent that signs every few minutes and needs it for
nothing else signs in a child process instead, which is gone again after a second:
`python -m forebay.signing KEYFILE < MESSAGE > SIGNATURE`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from forebay import child
from forebay.errors import KeyFileError
from forebay.keys import SecretKey, read_secret

SIGNATURE_BYTES = 64
CHILD_S = 120.0  # a loaded gateway; longer means that it hangs


def sign(key: SecretKey, message: bytes) -> bytes:
    """Return the 64-byte signature of a message, made in this process."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(key.signing).sign(message)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the signature is of this key (32 raw bytes) and message."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def sign_apart(key_file: Path, message: bytes) -> bytes:
    """Return the signature, made in a child process unless the library is loaded here already.

    Raises
    ------
    KeyFileError
        The child could not sign.
    """
    if "cryptography" in sys.modules:
        return sign(read_secret(key_file), message)
    command, environment = child.command("forebay.signing", str(key_file)), child.environment()
    try:
        done = subprocess.run(
            command, env=environment, input=message, capture_output=True, timeout=CHILD_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KeyFileError(f"cannot sign: {type(error).__name__}", place=str(key_file)) from None
    if done.returncode != 0 or len(done.stdout) != SIGNATURE_BYTES:
        raise KeyFileError("cannot sign with this key", place=str(key_file))
    return done.stdout


if __name__ == "__main__":
    sys.stdout.buffer.write(sign(read_secret(Path(sys.argv[1])), sys.stdin.buffer.read()))
