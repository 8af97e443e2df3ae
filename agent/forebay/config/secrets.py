"""Secrets are written as references, never inline: a configuration is copied, mailed and kept in git."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
            elif isinstance(inner, dict) and _is_secret(info):
                yield from (((*here, key), reference) for key, reference in inner.items())
            else:
                yield from secrets_of(inner, here)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from secrets_of(inner, (*path, key))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from secrets_of(inner, (*path, i))
