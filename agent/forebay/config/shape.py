"""Walks the options classes along a path of a document: which keys are known there."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from forebay.config.findings import KeyPath
from forebay.config.yaml_source import Document


def known_keys(root: type[BaseModel], path: KeyPath, document: Document) -> list[str]:
    """Return the keys that the mapping at `path` may have, empty where any key may stand."""
    keys: dict[str, None] = {}
    for model in models_at(root, path, document):
        for name, info in model.model_fields.items():
            keys[info.alias or name] = None
    return list(keys)


def models_at(root: type[BaseModel], path: KeyPath, document: Document) -> list[type[BaseModel]]:
    """Return the options classes that the mapping at `path` may be."""
    reached, value = _walk(root, path, document)
    return [m for m in _models(reached) if _fits(m, value)]


def types_at(root: type[BaseModel], path: KeyPath, document: Document) -> list[Any]:
    """Return the types that the value at `path` may have, unions taken apart."""
    return [a for reached in _walk(root, path, document)[0] for a in _alternatives(reached)]


def _walk(root: type[BaseModel], path: KeyPath, document: Document) -> tuple[list[Any], Any]:
    reached: list[Any] = [root]
    value = document.value
    for part in path:
        reached = [after for a in reached for after in _step_into(a, part, value)]
        try:
            value = value[part]
        except (LookupError, TypeError):
            value = None
    return reached, value


def _models(annotations: Iterable[Any]) -> list[type[BaseModel]]:
    return [
        a for x in annotations for a in _alternatives(x) if isinstance(a, type) and issubclass(a, BaseModel)
    ]


def _alternatives(annotation: Any) -> list[Any]:
    """Return the branches of a union, flattened; anything else alone."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [a for branch in get_args(annotation) for a in _alternatives(branch)]
    return [annotation]


def _step_into(annotation: Any, part: str | int, value: Any) -> list[Any]:
    out: list[Any] = []
    for branch in _alternatives(annotation):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            if not _fits(branch, value):
                continue
            for name, info in branch.model_fields.items():
                if part == (info.alias or name):
                    out.append(info.annotation)
                elif name == "root":
                    out.extend(_step_into(info.annotation, part, value))
        elif isinstance(part, int):
            inner = [a for a in get_args(branch) if a is not Ellipsis]
            fixed = get_origin(branch) is tuple and Ellipsis not in get_args(branch)
            out.extend(inner[part : part + 1] if fixed else inner[:1])
        else:
            out.extend(get_args(branch)[1:2])  # dict[key, value]
    return out


def _fits(model: type[BaseModel], value: Any) -> bool:
    """Tell whether a mapping can be meant as this class, by what fixes it: literals such as `type`."""
    if not isinstance(value, dict):
        return True
    for name, info in model.model_fields.items():
        written = value.get(info.alias or name)
        if get_origin(info.annotation) is Literal and written is not None:
            return written in get_args(info.annotation)
    return True
