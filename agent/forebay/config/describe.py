"""What the docstrings under attributes say, read from the sources: for JSON Schema and reference only."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache


def attribute_docstrings(cls: type) -> dict[str, str]:
    """Return the docstring under each attribute of a class and its bases, the nearest class first.

    A class without source (made by `create_model`) has those of its bases.
    """
    out: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        out |= _of_module(base.__module__).get(base.__qualname__, {})
    return out


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of a module's classes by qualified name and attribute."""
    module = sys.modules.get(name)
    if module is None or not getattr(module, "__file__", None) or not name.startswith("forebay."):
        return {}
    out: dict[str, dict[str, str]] = {}
    _collect(ast.parse(inspect.getsource(module)), "", out)
    return out


def _collect(node: ast.Module | ast.ClassDef, prefix: str, out: dict[str, dict[str, str]]) -> None:
    for inner in node.body:
        if isinstance(inner, ast.ClassDef):
            out[prefix + inner.name] = _of_class(inner)
            _collect(inner, f"{prefix}{inner.name}.", out)


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for line, below in zip(node.body, node.body[1:], strict=False):
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            text = below.value.value
            if isinstance(text, str):
                found[line.target.id] = inspect.cleandoc(text)
    return found
