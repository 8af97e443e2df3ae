"""Give a policy a new key: a fresh secret beside it, the old one kept to open what it closed.

The policy's text is changed in two places, `keys` and `version`; comments and order stay. The new text is
loaded before it takes the file's place, so a policy that cannot be used is never written.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from forebay.config.masking import Keys
from forebay.errors import ConfigError
from forebay.mask.loader import PolicyLoader
from forebay.mask.policy import Policy, load_policy

_SECRET_BYTES = 32
_MAX_PREVIOUS = 8


@dataclass(frozen=True, slots=True)
class Rotated:
    """What was written."""

    policy: Policy
    key_id: str
    old_id: str
    secret: Path


def rotate(path: Path, key_id: str = "", *, bridge: bool = False) -> Rotated:
    """Write a new secret and put it into the policy file.

    Parameters
    ----------
    path : the policy
    key_id : name of the new key; by default the old one's number is raised
    bridge : tokens of the old key are written behind the new ones, so that old rows still join

    Raises
    ------
    ConfigError
        The policy cannot be read, its keys stand in another file, the name is taken.
    """
    policy = load_policy(path.name, path.parent)
    old = policy.options.keys
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, PolicyLoader)
    assert isinstance(root, yaml.MappingNode)  # it was loaded
    nodes = {str(key.value): (key, value) for key, value in root.value}
    if old is not None and "keys" not in nodes:
        raise ConfigError(
            "its `keys` stand in a policy that it extends", place=str(path), hint="rotate that one"
        )
    new_id = key_id or _next(old.id if old else "k0")
    if old is not None and new_id in (old.id, *(key.id for key in old.previous)):
        raise ConfigError(f"there is a key `{new_id}` already", place=policy.where(("keys",)))
    secret = path.with_name(f"{policy.name}-{new_id}.key")
    changes = [_version(nodes["version"], policy.version + 1)]
    body = f"keys: {_flow(_keys(new_id, secret.name, old, bridge))}\n"
    changes.append(
        _block(nodes["keys"], text, body) if "keys" in nodes else (len(text), len(text), _end(text) + body)
    )
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    _write_secret(secret)
    try:
        _replace(path, text)
    except BaseException:
        secret.unlink()
        raise
    return Rotated(load_policy(path.name, path.parent), new_id, old.id if old else "", secret)


def _next(key_id: str) -> str:
    match = re.fullmatch(r"(.*?)([0-9]*)", key_id)
    assert match is not None
    return f"{match[1]}{int(match[2] or 1) + 1}"


def _keys(new_id: str, secret: str, old: Keys | None, bridge: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"id": new_id}
    if old is None:
        return body | {"secret": f"file:{secret}"}
    if old.tenant:
        body["tenant"] = old.tenant
    before: dict[str, Any] = {"id": old.id, "secret": old.secret}
    earlier = [{"id": key.id, "secret": key.secret} for key in old.previous]  # one bridge at a time
    if len(earlier) >= _MAX_PREVIOUS:
        raise ConfigError(f"{_MAX_PREVIOUS} previous keys are kept already", hint="remove the oldest by hand")
    return body | {
        "secret": f"file:{secret}",
        "previous": [before | ({"bridge": True} if bridge else {}), *earlier],
    }


def _flow(value: Any) -> str:
    """Return a value as YAML on one line; JSON's quotes are YAML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _version(node: tuple[yaml.Node, yaml.Node], number: int) -> tuple[int, int, str]:
    return node[1].start_mark.index, node[1].end_mark.index, str(number)


def _block(node: tuple[yaml.Node, yaml.Node], text: str, new: str) -> tuple[int, int, str]:
    start, end = node[0].start_mark.index, node[1].end_mark.index
    lines = text[start:end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        end -= len(lines.pop())  # a block reaches to the next key: blank lines and comments there stay
    return start, end, new if lines[-1].endswith("\n") else new.rstrip("\n")


def _end(text: str) -> str:
    return "" if text.endswith("\n") else "\n"


def _write_secret(path: Path) -> None:
    # The mode is set at creation: a later chmod leaves a moment in which anyone could read the secret.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write the secret: {error.strerror}", place=str(path)) from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(secrets.token_hex(_SECRET_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.new")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.chmod(path.stat().st_mode & 0o777)
        load_policy(partial.name, path.parent)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
