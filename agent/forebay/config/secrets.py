"""Secrets are written as references, never inline: a configuration is copied, mailed and kept in git."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from forebay.errors import ConfigError

_REFERENCE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|credential:[A-Za-z0-9._-]+)")
_HINT = "put the secret into a file that only the agent may read and write `file:PATH`"


def _check(text: str) -> str:
    if not _REFERENCE.fullmatch(text):
        raise ConfigError(
            "expected a reference `env:NAME`, `file:PATH` or `credential:NAME`, found other text", hint=_HINT
        )
    return text


SecretRef = Annotated[
    str,
    AfterValidator(_check),
    WithJsonSchema({"type": "string", "pattern": "^(env|file|credential):.+$", "examples": ["env:PASSWORD"]}),
]
"""`env:NAME`, `file:PATH` (relative to the configuration file) or `credential:NAME` (systemd)."""


def read_secret(reference: str, base: Path, environment: Mapping[str, str] = os.environ) -> bytes:
    """Return the secret that a reference names, one line break at a file's end removed.

    Raises
    ------
    ConfigError
        Missing, empty or unreadable. The message names the reference, never the content.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = environment.get(name, "").encode()
        if not value:
            raise ConfigError(f"environment variable {name} is not set", hint=f"set {name}")
        return value
    if kind == "credential":
        folder = environment.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise ConfigError(
                f"credential {name}: this process was not given any",
                hint=f"add LoadCredential={name}:PATH to the unit",
            )
        path = Path(folder) / name
    else:
        path = base / name
    try:
        value = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the secret: {error.strerror}", place=str(path)) from error
    value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise ConfigError("the secret is empty", place=str(path))
    return value
