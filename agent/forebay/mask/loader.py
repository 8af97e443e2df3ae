"""Read a policy file: YAML with places, what it extends, every error at once and none with a value in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from forebay import shipped
from forebay.config import masking, operators
from forebay.config.masking import PolicyOptions
from forebay.config.operators import class_conflict
from forebay.errors import ConfigError
from forebay.nearest import nearest

SHIPPED = ("base", "strict")
Place = tuple[str, ...]
"""Keys down to a value of a policy, e.g. `("classes", "mobile")`."""
_MAX_DEPTH = 8  # policies that extend each other
_MAX_BYTES = 1024 * 1024


_Base: Any = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # with libyaml a policy is read in 1 ms instead of 8


class PolicyLoader(_Base):  # type: ignore[misc]
    """Reads scalars after YAML 1.2, as in configurations: `no`, `on`, 12:30 and 2026-03-01 are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as its base has it
        first: [
            (tag, pattern)
            for tag, pattern in known
            if tag not in {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp")}
        ]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _whole = re.compile(rf"(?:{_pattern})\Z")
    PolicyLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, list(_first))


def _int(loader: PolicyLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # YAML 1.1 would read 010 as 8


PolicyLoader.add_constructor("tag:yaml.org,2002:int", _int)


def read_policy(name_or_path: str, base: Path) -> tuple[PolicyOptions, Path, dict[Place, str]]:
    """Return the options of a policy with what it extends taken in, its file, and where each rule stands.

    Raises
    ------
    ConfigError
        Missing, malformed, unknown keys or classes, an operator that does not fit its class, a circle of
        `extends`. All errors of a file at once.
    """
    path = _find(name_or_path, base)
    raw, node, places = _resolve(path, ())
    return _validate(raw, path, node, places), path, places


def _validate(raw: dict[str, Any], path: Path, node: yaml.Node, places: dict[Place, str]) -> PolicyOptions:
    try:
        options = PolicyOptions.model_validate(raw)
    except ValidationError as error:
        raise _config_error(error, path, node) from None
    wrong = [(places.get(at, str(path)) + f": {'.'.join(at)}", said) for at, said in _conflicts(options)]
    if wrong:
        raise _error_of([(place, said, "") for place, said in wrong], path)
    return options


def _conflicts(options: PolicyOptions) -> Iterator[tuple[Place, str]]:
    """Yield the rules that cannot be applied to what they stand for."""
    for name, rule in options.classes.items():
        yield from _said(("classes", name), class_conflict(name, rule))
    for level in ("personal", "sensitive"):
        rule = getattr(options.levels, level)
        if rule is not None and rule.operator in ("generalise", "fpe"):
            yield (
                ("levels", level),
                f"`{rule.operator}` fits some classes only: give those a rule in `classes`",
            )
    for pattern, stream in options.streams.items():
        rules = {**options.classes, **stream.classes}
        for name, rule in stream.classes.items():
            yield from _said(("streams", pattern, "classes", name), class_conflict(name, rule))
        for name in stream.drop_when:
            if name in rules and rules[name].operator == "pass":
                at = ("streams", pattern, "drop_when")
                yield at, f"`{name}` is not looked for, as classes.{name} lets it pass"


def _said(at: Place, why: str) -> Iterator[tuple[Place, str]]:
    if why:
        yield at, why


def _find(name_or_path: str, base: Path) -> Path:
    if name_or_path in SHIPPED:
        return shipped.path("config") / "policies" / f"{name_or_path}.yaml"
    path = base / name_or_path
    if path.is_file():
        return path
    guess = nearest(name_or_path, SHIPPED)
    hint = f"did you mean `{guess}`?" if guess else "policies that ship: base, strict"
    raise ConfigError("there is no such policy file", place=str(path), hint=hint)


def _resolve(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], yaml.Node, dict[Place, str]]:
    real = path.resolve()
    if real in seen or len(seen) >= _MAX_DEPTH:
        raise ConfigError("policies extend each other in a circle or too deep", place=str(path))
    raw, node = _load(path)
    places = dict(_places(node, path, ()))
    parent_name = raw.get("extends")
    if not isinstance(parent_name, str) or not parent_name:
        return raw, node, places
    parent_path = _find(parent_name, path.parent)
    parent, parent_node, parent_places = _resolve(parent_path, (*seen, real))
    _validate(parent, parent_path, parent_node, parent_places)
    return _merge(parent, raw), node, {**parent_places, **places}


def _places(node: yaml.Node, path: Path, above: Place) -> Iterator[tuple[Place, str]]:
    """Yield where each key stands, down to those of single rules."""
    if not isinstance(node, yaml.MappingNode) or len(above) >= _MAX_DEPTH:
        return
    shown = path.name if path.parent == shipped.path("config") / "policies" else path
    for key, value in node.value:
        at = (*above, str(key.value))
        yield at, f"{shown}:{key.start_mark.line + 1}:{key.start_mark.column + 1}"
        yield from _places(value, path, at)
        if isinstance(value, yaml.SequenceNode):
            for number, item in enumerate(value.value):
                mark = item.start_mark
                yield (*at, str(number)), f"{shown}:{mark.line + 1}:{mark.column + 1}"
                yield from _places(item, path, (*at, str(number)))


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = {
        k: dict(v) if k == "classes" and isinstance(v, dict) else v
        for k, v in parent.items()
        if k not in ("name", "version", "extends", "tests")
    }
    for key, value in child.items():
        old = merged.get(key)
        if key == "keys" or not (isinstance(old, dict) and isinstance(value, dict)):
            merged[key] = value
        elif key in ("fields", "streams"):  # the first pattern that fits counts, so the child's come first
            merged[key] = {**value, **{k: v for k, v in old.items() if k not in value}}
        else:
            merged[key] = {**old, **value}
    _prefer_levels(merged, child)
    return merged


def _prefer_levels(merged: dict[str, Any], child: dict[str, Any]) -> None:
    """Take out inherited rules of classes that a level of the child speaks for: what is nearer holds."""
    levels, classes = child.get("levels"), merged.get("classes")
    own, listed = child.get("classes") or {}, merged.get("sensitive", masking.SENSITIVE_CLASSES)
    if not isinstance(levels, dict) or not isinstance(classes, dict) or not isinstance(listed, list | tuple):
        return  # malformed: the options say so
    for name in [name for name in classes if name not in own]:
        if ("sensitive" if name in listed else "personal") in levels:
            del classes[name]


def _load(path: Path) -> tuple[dict[str, Any], yaml.Node]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the policy: {error.strerror}", place=str(path)) from None
    if len(text) > _MAX_BYTES:
        raise ConfigError("a policy has at most 1 MiB", place=str(path))
    try:
        loader = PolicyLoader(text)
        node = loader.get_single_node()
        raw = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"not YAML: {error.problem or error.context}", place=place) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("not YAML text in UTF-8", place=str(path)) from None
    if not isinstance(raw, dict) or node is None:
        raise ConfigError("expected keys such as `name` and `classes`", place=str(path))
    _refuse_twice(node, path)
    return raw, node


def _refuse_twice(node: yaml.Node | None, path: Path) -> None:
    # YAML keeps the last of two equal keys without a word; in a policy that would be a rule lost
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item, path)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            mark = key.start_mark
            place = f"{path}:{mark.line + 1}:{mark.column + 1}"
            raise ConfigError(f"`{key.value}` stands here twice", place=place)
        seen.add(str(key.value))
        _refuse_twice(value, path)


def _config_error(error: ValidationError, path: Path, root: yaml.Node) -> ConfigError:
    lines: list[tuple[str, str, str]] = []
    for item in error.errors(include_input=False, include_url=False, include_context=True):
        keys, node = _walk(root, item["loc"], missing=item["type"] == "missing")
        mark = node.start_mark
        dotted = ".".join(keys) or "(policy)"
        place = f"{path}:{mark.line + 1}:{mark.column + 1}: {dotted}"
        message = str(item["msg"]).removeprefix("Value error, ")
        line = (place, message, _hint(item["type"], keys))
        if line not in lines:  # branches of a union complain alike
            lines.append(line)
    return _error_of(lines, path)


def _error_of(lines: list[tuple[str, str, str]], path: Path) -> ConfigError:
    if len(lines) == 1:
        place, message, hint = lines[0]
        return ConfigError(message, place=place, hint=hint)
    text = "\n".join(f"  {p}: {m}{f' ({h})' if h else ''}" for p, m, h in lines)
    return ConfigError(f"{len(lines)} errors\n{text}", place=str(path))


def _walk(root: yaml.Node, location: tuple[int | str, ...], *, missing: bool) -> tuple[list[str], yaml.Node]:
    # The location also names the branch of a union (`keep`) and `[key]`: no keys of the file, so left out.
    keys, node = [], root
    location = tuple(part for part in location if part != "[key]")
    for step, part in enumerate(location):
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            keys.append(str(part))
            node = node.value[part]
            continue
        if not isinstance(node, yaml.MappingNode):
            continue
        found = next(((k, v) for k, v in node.value if str(k.value) == str(part)), None)
        if found is not None:
            keys.append(str(part))
            node = found[1] if step + 1 < len(location) else found[0]
        elif missing and step == len(location) - 1:
            keys.append(str(part))  # a missing key: its place is where it should stand
    return keys, node


def _names() -> list[str]:
    found: set[str] = set(masking.DECLARED_CLASSES)
    for value in (*vars(masking).values(), *vars(operators).values()):
        if isinstance(value, type) and issubclass(value, BaseModel):
            found.update(value.model_fields)
    return sorted(found)


def _hint(kind: str, keys: list[str]) -> str:
    if kind not in ("extra_forbidden", "literal_error", "enum") or not keys:
        return ""
    guess = nearest(keys[-1], _names())
    return f"did you mean `{guess}`?" if guess and guess != keys[-1] else ""
