"""Read secrets from where they are kept. A configuration names the place, never the secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from forebay.errors import ConfigError

_KINDS = ("env", "file", "credential")
_MAX_BYTES = 64 * 1024  # a key, not a data file named by mistake


def check_reference(ref: str) -> str:
    """Return the reference if it is well formed. Raises ValueError, without repeating what was given."""
    kind, colon, name = ref.partition(":")
    if not colon or kind not in _KINDS or not name:
        raise ValueError("expected `env:NAME`, `file:PATH` or `credential:NAME`, never the secret itself")
    return ref


def resolve(ref: str, base: Path | None = None) -> bytes:
    """Return the secret that a reference names, without trailing line ends.

    Parameters
    ----------
    ref : `env:NAME`, `file:PATH` (relative to `base`) or `credential:NAME` (systemd's
        $CREDENTIALS_DIRECTORY)
    base : folder of the configuration file

    Raises
    ------
    ConfigError
        Malformed, missing, empty, or a file that group or others can read.
    """
    try:
        kind, _, name = check_reference(ref).partition(":")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if kind == "env":
        value = os.environb.get(name.encode())
        if value is None:
            raise ConfigError(f"the environment variable {name} is not set", hint=f"export {name}=...")
    elif kind == "credential":
        value = _read(credential_path(name))
    else:
        value = _file((base or Path()) / name)
    value = value.rstrip(b"\r\n")
    if not value:
        raise ConfigError(f"the secret at {kind}:{name} is empty")
    return value


def credential_path(name: str) -> Path:
    """Return where systemd has put a credential. Raises ConfigError where there are none, or for a strange name."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigError(
            "$CREDENTIALS_DIRECTORY is not set, so there are no systemd credentials",
            hint=f"add LoadCredential={name}:/path to the unit, or use file:PATH",
        )
    if "/" in name or name in (".", ".."):
        raise ConfigError("a credential's name has no folders in it")
    return Path(folder) / name


def _file(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"cannot read the secret: {error.strerror}", place=str(path)) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and not _among_credentials(path):
        raise ConfigError(
            f"the secret can be read by others (mode {stat.S_IMODE(mode):04o})",
            place=str(path),
            hint=f"chmod 600 {path}",
        )
    return _read(path)


def _among_credentials(path: Path) -> bool:
    # systemd keeps credentials in a folder that only the unit can enter, with modes of its own
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.resolve().is_relative_to(Path(folder or "").resolve())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            value = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the secret: {error.strerror}", place=str(path)) from None
    if len(value) > _MAX_BYTES:
        raise ConfigError(f"a secret has at most {_MAX_BYTES} bytes", place=str(path))
    return value
