"""Turns pydantic's errors into sentences with a place in the file.

pydantic names an error by `loc`, a path that also holds names of union branches and validators. Walking it
along the parsed document tells which parts are keys of the file and which are noise. Values never appear:
an error may stand on a secret that somebody wrote inline.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from forebay.config.base import format_duration, format_size, parse_duration, parse_size
from forebay.config.findings import Finding, KeyPath
from forebay.config.migration import hint_for
from forebay.config.shape import known_keys, types_at
from forebay.config.slips import full_width, half_width_number
from forebay.config.yaml_source import Document
from forebay.errors import ForebayError
from forebay.nearest import nearest

TAG = "\0"  # begins the tags of our own unions, so that no key of a file can be taken for one

_EXPECTED = {
    "string_type": "text",
    "string_sub_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping of keys and values",
    "mapping_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "model_attributes_type": "a mapping of keys and values",
    "path_type": "a path",
    "finite_number": "a finite number",
    "none_required": "nothing",
}

_LIMITS = {
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected {le} or less",
    "multiple_of": "expected a multiple of {multiple_of}",
    "string_too_short": "expected text of at least {min_length} characters",
    "string_too_long": "expected text of at most {max_length} characters",
}

_FOUND = {
    bool: "true/false",
    int: "a whole number",
    float: "a decimal number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}

_PYTHON_FOUND = re.compile(r"found (int|float|str|bool|dict|list|NoneType)\b")


@dataclass(slots=True)
class _Located:
    path: KeyPath
    error: ErrorDetails
    union_at: int = -1  # length of the path where the first union branch stood, -1: none
    branch: str = ""


def found(value: Any) -> str:
    """Return the kind of a YAML value in plain words."""
    return _FOUND.get(type(value), "something else")


def explain(error: ValidationError, document: Document, root: type[BaseModel]) -> list[Finding]:
    """Return one finding for each thing that is wrong, none twice at one place."""
    located = [_locate(e, document) for e in error.errors(include_url=False, include_input=False)]
    located = [item for item in located if not _only_follows(item, document)]
    taken = {finding.path for finding in document.findings}
    out: list[Finding] = []
    for group in _by_union(located):
        for finding in _explain_group(group, document, root):
            if finding.path not in taken or not finding.path:
                taken.add(finding.path)
                out.append(finding)
    return out


def booleans_as_numbers(document: Document, root: type[BaseModel], taken: set[str]) -> list[Finding]:
    """Return what pydantic lets pass: `true` where a number stands, which it takes for 1."""
    out: list[Finding] = []
    for path, value in document.leaves():
        if isinstance(value, bool):
            types = types_at(root, path, document)
            if (int in types or float in types) and bool not in types:
                out.append(document.finding("expected a number, found true/false", path))
    return [finding for finding in out if finding.path not in taken]


def _value(document: Document, path: KeyPath) -> Any:
    try:
        return document.at(path)
    except (LookupError, TypeError):
        return None


def _locate(error: ErrorDetails, document: Document) -> _Located:
    """Keep of `loc` what are keys and indices of the file."""
    path: list[str | int] = []
    value: Any = document.value
    union_at, branch = -1, ""
    arrived = True  # nothing of this value's own loc was read yet: a union's tag can only stand here
    loc = error["loc"]
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(part, str) and part.startswith(TAG):
            continue
        is_tag = arrived and isinstance(value, dict) and value.get("type") == part and not last
        if _has(value, part) and not is_tag:
            path.append(part)
            value, arrived = value[part], True
        elif last and error["type"] == "missing":
            path.append(part)
        elif part != "[key]" and not is_tag:
            arrived = False
            if union_at < 0:
                union_at, branch = len(path), str(part)
    return _Located(tuple(path), error, union_at, branch)


def _only_follows(item: _Located, document: Document) -> bool:
    """Tell whether a list is too short only because wrong items were left out of it."""
    value, context = _value(document, item.path), item.error.get("ctx", {})
    return (
        item.error["type"] == "too_short" and isinstance(value, list) and len(value) >= context["min_length"]
    )


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _by_union(located: Sequence[_Located]) -> Iterable[list[_Located]]:
    """Yield errors one by one, those of one union's branches together."""
    unions: dict[KeyPath, list[_Located]] = {}
    for item in located:
        if item.union_at < 0:
            yield [item]
        else:
            unions.setdefault(item.path[: item.union_at], []).append(item)
    yield from unions.values()


def _explain_group(group: list[_Located], document: Document, root: type[BaseModel]) -> list[Finding]:
    branches: dict[str, list[_Located]] = {}
    for item in group:
        branches.setdefault(item.branch, []).append(item)
    if len(branches) == 1:
        return [_explain_one(item, document, root) for item in group]
    path = group[0].path[: group[0].union_at]
    # A branch that complains of the kind of value was not meant; of the others take the one least wrong.
    meant = [b for b in branches.values() if not any(i.path == path and _is_kind(i.error) for i in b)]
    if meant:
        return [_explain_one(item, document, root) for item in min(meant, key=len)]
    value = _value(document, path)
    expected = dict.fromkeys(_expected(b[0].error) for b in branches.values())
    return [document.finding(f"expected {' or '.join(expected)}, found {found(value)}", path)]


def _is_kind(error: ErrorDetails) -> bool:
    kind = error["type"]
    return kind in ("enum", "literal_error") or (kind in _EXPECTED and kind != "finite_number")


def _expected(error: ErrorDetails) -> str:
    if error["type"] in ("enum", "literal_error"):
        return _words(_choices(error), "one of ")
    return _EXPECTED.get(error["type"]) or _sentence(error).removeprefix("expected ").split(", found ")[0]


def _sentence(error: ErrorDetails) -> str:
    """Return an error's own message: ours as raised, pydantic's without its prefix."""
    cause = error.get("ctx", {}).get("error")
    if cause is None:
        return error["msg"]
    return cause.message if isinstance(cause, ForebayError) else str(cause)


def _explain_one(item: _Located, document: Document, root: type[BaseModel]) -> Finding:
    error, path = item.error, item.path
    kind, context = error["type"], error.get("ctx", {})
    value = _value(document, path)
    if kind == "missing":
        return _missing(path, document)
    if kind == "extra_forbidden":
        keys = known_keys(root, path[:-1], document)
        word = str(path[-1]) if path else ""
        hint = hint_for(path) or full_width(word) or suggest(word, keys)
        return document.finding("unknown key", path, hint=hint or _list_hint("known here", keys), at_key=True)
    if kind in ("enum", "literal_error"):
        choices = _choices(error)
        hint = suggest(value, choices) if isinstance(value, str) else ""
        return document.finding(f"expected {_words(choices, 'one of ')}", path, hint=hint)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _bad_choice(path, value, document, context)
    if kind in _LIMITS:
        limits = {k: _with_unit(v, value) for k, v in context.items()}
        return document.finding(_LIMITS[kind].format(**limits), path)
    if kind in ("too_short", "too_long"):
        limit = (
            f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        )
        return document.finding(f"expected {limit} items, found {context['actual_length']}", path)
    if kind == "string_pattern_mismatch":
        return document.finding(f"expected text of the form {context['pattern']}", path)
    if kind in _EXPECTED:
        message = f"expected {_EXPECTED[kind]}, found {found(value)}"
        return document.finding(message, path, hint=_kind_hint(kind, value))
    return document.finding(
        _PYTHON_FOUND.sub(lambda _: f"found {found(value)}", _sentence(error)),
        path,
        hint=str(getattr(context.get("error"), "hint", "")),
    )


def _with_unit(limit: Any, written: Any) -> Any:
    """Return a limit in the unit of what was written: sizes and durations are bytes and ns inside."""
    if isinstance(limit, int) and isinstance(written, str):
        for parse, write in ((parse_size, format_size), (parse_duration, format_duration)):
            with contextlib.suppress(ValueError):
                parse(written)
                return write(limit)
    return limit


def _missing(path: KeyPath, document: Document) -> Finding:
    last = path[-1]
    if isinstance(last, int):
        parent = path[:-1]
        return document.finding(f"expected at least {last + 1} items, found {last}", parent)
    found_at = document.finding(f"the key `{last}` is required", path[:-1], at_key=True)
    whole = document.finding("", path).path
    return Finding(found_at.severity, found_at.message, found_at.file, found_at.line, found_at.col, whole)


def _bad_choice(path: KeyPath, value: Any, document: Document, context: dict[str, Any]) -> Finding:
    """Explain a `type:` that is missing or unknown, or a step that is no step."""
    known = sorted(
        t.strip("'").removeprefix("\\x00").removeprefix(TAG)
        for t in str(context.get("expected_tags", "")).split(", ")
        if t
    )
    by = str(context.get("discriminator", ""))
    is_step = by.startswith("step_name")
    key = by.strip("'") if by.startswith("'") else "type"
    if not isinstance(value, dict):
        what = "a step `NAME: {options}`" if is_step else f"a mapping with `{key}`"
        return document.finding(f"expected {what}, found {found(value)}", path)
    if not is_step:
        if key not in value:
            return _missing((*path, key), document)
        word = value[key]
        hint = suggest(word, known) if isinstance(word, str) else ""
        return document.finding(f"expected {_words(known, 'one of ')}", (*path, key), hint=hint)
    if len(value) != 1:
        hint = "indent a step's options below its name, and begin each step with `- `"
        return document.finding(
            f"expected one step `NAME: {{options}}`, found {len(value)} keys", path, hint=hint
        )
    word = next(iter(value))
    hint = suggest(word, known) or _list_hint("known steps", known)
    return document.finding("unknown step", (*path, word), hint=hint, at_key=True)


def _choices(error: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))


def _words(choices: Iterable[str], before: str = "") -> str:
    words = [f"`{c}`" for c in choices]
    return (before if len(words) > 1 else "") + ", ".join(words)


def _kind_hint(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return "put it in quotes"
    if _EXPECTED[kind] == "a list" and not isinstance(value, (list, dict)):
        return "write it as `[…]`"
    if kind in ("int_parsing", "float_parsing", "int_type", "float_type") and isinstance(value, str):
        wide = half_width_number(value)
        return "write the digits half-width" if wide else "a number without quotes or unit"
    return ""


def _list_hint(words: str, keys: Sequence[str]) -> str:
    return f"{words}: {', '.join(keys)}" if 0 < len(keys) <= 20 else ""


def _plain(word: str) -> str:
    return re.sub(r"[-_\s]", "", word).casefold()


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean `x`?`` for the nearest known word, empty if none is near."""
    by_plain = {_plain(k): k for k in known}
    close = nearest(_plain(word), by_plain)
    return f"did you mean `{by_plain[close]}`?" if close else ""
