"""What configuration files of older releases say otherwise, and how such a file is brought up to date.

A file has no version: a change applies where its old key or value still stands. A release that renames a key, or
gives a value another name, adds a line to `CHANGES` and so loses nobody: the old file is refused with the command
that mends it, and `forebay config migrate` edits it in place, at the positions that the parser tells. Comments, order,
quotes and everything else stay as they were.

Until now no key of any file has been renamed or removed: the list is empty, and a test compares the released keys with
those of now, so that this cannot change without a line here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from forebay.config.findings import ConfigErrors, Finding, KeyPath
from forebay.config.yaml_source import Document, Mark, parse

ANY = "*"
COMMAND = "forebay config migrate"


@dataclass(frozen=True, slots=True)
class Renamed:
    """A key that has another name since a release. `path` leads to its old name; `*` stands for any key or item."""

    since: str
    path: KeyPath
    to: str


@dataclass(frozen=True, slots=True)
class Revalued:
    """A value that is written otherwise since a release: `old` at `path` is now `to`."""

    since: str
    path: KeyPath
    old: str
    to: str


Change = Renamed | Revalued

CHANGES: tuple[Change, ...] = ()
"""Oldest first."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Some characters of a file that become others."""

    mark: Mark
    old: str
    new: str
    why: str


def hint_for(path: KeyPath, changes: Iterable[Change] | None = None) -> str:
    """Return how to mend a file in which this key stands, empty if no release knew it."""
    for change in CHANGES if changes is None else changes:
        if isinstance(change, Renamed) and _fits(change.path, path):
            return f"`{change.to}` since {change.since}: {COMMAND} FILE"
    return ""


def migrate(data: bytes, file: str, changes: Iterable[Change] | None = None) -> tuple[bytes, list[Edit]]:
    """Return a file's bytes brought up to date, and what was changed in them.

    Raises
    ------
    ConfigErrors
        The file is no YAML, has both an old and its new key, or writes one in a way that cannot be edited.
    """
    done: list[Edit] = []
    for change in CHANGES if changes is None else changes:
        document = parse(data, file)  # anew each time: a later change may rest on an earlier one
        edits = list(
            {edit.mark: edit for edit in _edits(document, change)}.values()
        )  # aliases: one place, many paths
        data = _apply(data, document, edits)
        done += edits
    return data, done


def _edits(document: Document, change: Change) -> Iterator[Edit]:
    for path in _found(document.value, change.path, ()):
        old = str(path[-1])
        if isinstance(change, Revalued):
            if document.at(path) == change.old:
                yield Edit(document.position(path), change.old, change.to, _why(change, path))
        else:
            siblings = document.at(path[:-1])
            if change.to in siblings:
                message = f"`{old}` is called `{change.to}` since {change.since}, and both are there"
                raise ConfigErrors([document.finding(message, path, hint="remove one of them", at_key=True)])
            yield Edit(document.key_position(path), old, change.to, _why(change, path))


def _why(change: Change, path: KeyPath) -> str:
    old = change.old if isinstance(change, Revalued) else path[-1]
    return f"`{old}` is `{change.to}` since {change.since}"


def _found(value: Any, pattern: KeyPath, at: KeyPath) -> Iterator[KeyPath]:
    """Yield the paths of a document that a pattern fits."""
    if not pattern:
        yield at
        return
    head, rest = pattern[0], pattern[1:]
    if isinstance(value, dict):
        names = list(value) if head == ANY else [head] if head in value else []
    elif isinstance(value, list):
        names = list(range(len(value))) if head == ANY else []
    else:
        return
    for name in names:
        yield from _found(value[name], rest, (*at, name))


def _fits(pattern: KeyPath, path: KeyPath) -> bool:
    return len(pattern) == len(path) and all(a in (ANY, b) for a, b in zip(pattern, path, strict=True))


def _apply(data: bytes, document: Document, edits: list[Edit]) -> bytes:
    bom = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
    lines = data[len(bom) :].decode("utf-8").splitlines(keepends=True)
    for edit in sorted(edits, key=lambda e: e.mark, reverse=True):  # from the end: earlier places stay right
        line, col = edit.mark[0] - 1, edit.mark[1] - 1
        text = lines[line] if line < len(lines) else ""
        quote = text[col : col + 1] if text[col : col + 1] in ("'", '"') else ""
        written = f"{quote}{edit.old}{quote}"
        if not text.startswith(written, col):
            finding = document.finding(f"{edit.why}, but it is written in a way that cannot be edited here")
            raise ConfigErrors([Finding(finding.severity, finding.message, document.file, *edit.mark)])
        lines[line] = text[:col] + f"{quote}{edit.new}{quote}" + text[col + len(written) :]
    return bom + "".join(lines).encode()
