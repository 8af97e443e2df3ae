"""What differs between two configurations, as lines that an engineer reads. Secrets are references, so none shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from forebay.config.findings import KeyPath, format_path

_ABSENT = object()
LONGEST = 80


def differences(old: BaseModel, new: BaseModel) -> list[str]:
    """Return a line for each value that changed: `path: old -> new`, `+ path: new`, `- path: old`."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [_line(path, a, b) for path, a, b in _walk(before, after, ())]


def changed_sections(old: BaseModel, new: BaseModel) -> set[str]:
    """Return the top-level keys that differ."""
    return {
        name for name in type(new).model_fields if getattr(old, name, _ABSENT) != getattr(new, name, _ABSENT)
    }


def _walk(old: Any, new: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from _walk(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _walk(a, b, (*path, place))
    elif old != new:
        yield path, old, new


def _line(path: KeyPath, old: Any, new: Any) -> str:
    name = format_path(path)
    if old is _ABSENT:
        return f"+ {name}: {_short(new)}"
    if new is _ABSENT:
        return f"- {name}: {_short(old)}"
    return f"{name}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
