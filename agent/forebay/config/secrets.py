"""Secrets are written as references, never inline: a configuration is copied, mailed and kept in git."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo

from forebay.config.findings import KeyPath
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


def _is_secret(info: FieldInfo) -> bool:
    optional = (m for a in get_args(info.annotation) for m in getattr(a, "__metadata__", ()))
    return any(isinstance(m, AfterValidator) and m.func is _check for m in (*info.metadata, *optional))


def secrets_of(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield path and reference of every SecretRef in a configuration."""
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            inner = getattr(value, name)
            here = (*path, info.alias or name)
            if isinstance(inner, str) and _is_secret(info):
                yield here, inner
            else:
                yield from secrets_of(inner, here)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from secrets_of(inner, (*path, key))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from secrets_of(inner, (*path, i))
