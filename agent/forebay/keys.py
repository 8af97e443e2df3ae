"""Key files: X25519 for transport (CURVE), Ed25519 for signatures.

A secret file holds both pairs and must not be readable by others; a public file holds the public halves.
Both are lines of `name: value` with base64 values, so that they survive mail and chat.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forebay.errors import KeyFileError

FORMAT = "1"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RELAY = ".relay"  # beside NAME.pub in an allow-list: whom it speaks for, a pattern a line
_PATTERN = re.compile(r"[A-Za-z0-9._*?-]{1,64}")
_KEY_BYTES = 32
_MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Public halves of an identity, 32 raw bytes each."""

    name: str
    transport: bytes
    signing: bytes


@dataclass(frozen=True, slots=True)
class SecretKey:
    """Secret halves with their public ones, 32 raw bytes each."""

    name: str
    transport: bytes
    signing: bytes
    public: PublicKey

    def __repr__(self) -> str:
        return f"SecretKey({self.name!r})"


def generate(name: str) -> SecretKey:
    """Make a new identity. Raises KeyFileError for a name that cannot be a file name."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    if NAME.fullmatch(name) is None:
        raise KeyFileError("expected a name of letters, digits, dot, underscore and hyphen, at most 64")
    transport, signing = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = PublicKey(
        name, transport.public_key().public_bytes_raw(), signing.public_key().public_bytes_raw()
    )
    return SecretKey(name, transport.private_bytes_raw(), signing.private_bytes_raw(), public)


def write_pair(key: SecretKey, folder: Path, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Write NAME.key (0600) and NAME.pub into `folder`; return both paths.

    Raises
    ------
    KeyFileError
        A file is already there and `overwrite` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    secret_path, public_path = folder / f"{key.name}.key", folder / f"{key.name}.pub"
    for path in (secret_path, public_path):
        if path.exists() and not overwrite:
            raise KeyFileError(
                "the file is already there", place=str(path), hint="choose another name or folder"
            )
    secret = {
        "transport-secret": key.transport,
        "signing-secret": key.signing,
        "transport-public": key.public.transport,
        "signing-public": key.public.signing,
    }
    public = {"transport-public": key.public.transport, "signing-public": key.public.signing}
    _write(secret_path, 0o600, _text("SECRET key: keep it on this machine", key.name, secret))
    _write(public_path, 0o644, public_text(key.public, public))
    return secret_path, public_path


def public_text(key: PublicKey, parts: dict[str, bytes] | None = None) -> str:
    """Return the content of a public key file."""
    parts = parts or {"transport-public": key.transport, "signing-public": key.signing}
    return _text("public key: may be handed on", key.name, parts)


def _text(title: str, name: str, parts: dict[str, bytes]) -> str:
    lines = [f"# Forebay {title}", f"forebay-key: {FORMAT}", f"name: {name}"]
    lines += [f"{part}: {base64.b64encode(raw).decode()}" for part, raw in parts.items()]
    return "\n".join(lines) + "\n"


def _write(path: Path, mode: int, text: str) -> None:
    # The mode is set at creation: a later chmod leaves a moment in which anyone could read the secret.
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_secret(path: Path) -> SecretKey:
    """Read NAME.key.

    Raises
    ------
    KeyFileError
        Missing, malformed, a public key, or readable by group or others. systemd hands credentials over in a
        folder that only the service can enter, with modes of its own: files under $CREDENTIALS_DIRECTORY are
        accepted.
    """
    lines = _read(path)
    if not any(part.endswith("-secret") for part in lines):
        raise KeyFileError(
            "expected a secret key, found a public one",
            place=str(path),
            hint="give NAME.key, which was made with it",
        )
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    is_credential = bool(credentials) and Path(credentials or "/").resolve() in path.resolve().parents
    if stat.S_IMODE(path.stat().st_mode) & 0o077 and not is_credential:
        raise KeyFileError("the secret key can be read by others", place=str(path), hint=f"chmod 600 {path}")
    public = PublicKey(
        lines["name"], _raw(path, lines, "transport-public"), _raw(path, lines, "signing-public")
    )
    return SecretKey(
        lines["name"], _raw(path, lines, "transport-secret"), _raw(path, lines, "signing-secret"), public
    )


def read_public(path: Path) -> PublicKey:
    """Read NAME.pub. Raises KeyFileError."""
    lines = _read(path)
    return PublicKey(
        lines["name"], _raw(path, lines, "transport-public"), _raw(path, lines, "signing-public")
    )


def _read(path: Path) -> dict[str, str]:
    hint = "make one with: forebay keys new NAME --dir DIR"
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(
            f"cannot read the key file: {error.strerror}", place=str(path), hint=hint
        ) from None
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
    lines = {name.strip(): value.strip() for name, value in pairs}
    if len(raw) > _MAX_FILE_BYTES or lines.get("forebay-key") != FORMAT or "name" not in lines:
        raise KeyFileError(f"expected a Forebay key file of format {FORMAT}", place=str(path), hint=hint)
    return lines


def _raw(path: Path, lines: dict[str, str], part: str) -> bytes:
    try:
        raw = base64.b64decode(lines.get(part, ""), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise KeyFileError(f"expected `{part}` of {_KEY_BYTES} bytes in base64", place=str(path))
    return raw


def allow_path(folder: Path, gateway_id: str) -> Path:
    """Return where an enrolled gateway's public key stands. Raises KeyFileError for an impossible id."""
    if NAME.fullmatch(gateway_id) is None:
        raise KeyFileError("expected a gateway id of letters, digits, dot, underscore and hyphen, at most 64")
    return folder / f"{gateway_id}.pub"


def enroll(gateway_id: str, public: PublicKey, folder: Path, speaks_for: Sequence[str] = ()) -> Path:
    """Put a gateway's public key into an allow-list folder; return the file.

    Parameters
    ----------
    speaks_for : patterns of gateway ids (`hz-*`) whose data this key may hand on, for a relay. They stand in a
        file of their own: a public key comes from the other side, this right does not.

    Raises
    ------
    KeyFileError
        The same transport key is enrolled under another id: one key must name one gateway. Or a pattern that no
        id can match.
    """
    path = allow_path(folder, gateway_id)
    for pattern in speaks_for:
        if _PATTERN.fullmatch(pattern) is None:
            raise KeyFileError(
                "expected a gateway id, with `*` and `?` for any characters, as what it speaks for"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for other_id, other in read_allowed(folder)[0].items():
        if other.transport == public.transport and other_id != gateway_id:
            raise KeyFileError(f"this key is already enrolled as {other_id}", place=str(folder))
    _write(path, 0o644, public_text(PublicKey(gateway_id, public.transport, public.signing)))
    relay = path.with_suffix(RELAY)
    if speaks_for:
        _write(relay, 0o644, "".join(f"{pattern}\n" for pattern in speaks_for))
    else:
        relay.unlink(missing_ok=True)
    return path


def read_relays(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the patterns of gateways that each enrolled relay speaks for. Raises OSError."""
    found = {}
    for path in sorted(folder.glob(f"*{RELAY}")):
        lines = path.read_bytes()[:_MAX_FILE_BYTES].decode("ascii", "replace").splitlines()
        found[path.stem] = tuple(line for line in lines if _PATTERN.fullmatch(line))
    return found


def revoke(gateway_id: str, folder: Path) -> Path:
    """Take a gateway off an allow-list folder; return the file that was removed. Raises KeyFileError."""
    path = allow_path(folder, gateway_id)
    path.with_suffix(RELAY).unlink(missing_ok=True)
    try:
        path.unlink()
    except FileNotFoundError:
        raise KeyFileError(f"no gateway `{gateway_id}` is enrolled", place=str(folder)) from None
    return path


def read_allowed(folder: Path) -> tuple[dict[str, PublicKey], list[KeyFileError]]:
    """Return the enrolled keys by gateway id, and an error for each file that cannot be used.

    A broken file locks out its own gateway and nobody else.
    """
    allowed: dict[str, PublicKey] = {}
    errors: list[KeyFileError] = []
    for path in sorted(folder.glob("*.pub")):
        try:
            allowed[path.stem] = read_public(path)
        except KeyFileError as error:
            errors.append(error)
    return allowed, errors
