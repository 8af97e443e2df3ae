"""Where the files shipped beside the code are: models, config."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def path(kind: str) -> Path:
    """Return the folder `kind`: `forebay/_shipped/KIND` of an installed wheel, else the checkout's."""
    shipped = _PACKAGE / "_shipped" / kind
    return shipped if shipped.exists() else _PACKAGE.parent.parent / kind
