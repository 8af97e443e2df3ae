"""A configuration as it may be shown: secrets are references in it, and what could be one all the same is hidden."""

from __future__ import annotations

from typing import Any

HIDDEN = "(hidden)"
_SECRET_WORDS = ("password", "secret", "token", "passphrase", "credential")


def hidden(value: Any, key: str = "") -> Any:
    """Return a configuration's tree with whatever could be a secret hidden."""
    if isinstance(value, dict):
        return {k: hidden(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [hidden(v, key) for v in value]
    if not isinstance(value, str) or not value:
        return value
    if any(word in key.lower() for word in _SECRET_WORDS):
        return value if value.startswith(("env:", "file:", "credential:")) else HIDDEN
    scheme, sep, rest = value.partition("://")
    if sep and "@" in rest.split("/")[0]:
        return f"{scheme}://{HIDDEN}@{rest.split('@', 1)[1]}"
    return value
