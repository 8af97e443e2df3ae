"""YAML with a place for every key and value, read by the YAML 1.2 core schema.

PyYAML's parser gives events; what they mean is decided here, because its own constructor follows YAML 1.1,
where `no` is false, `12:30` is 750 and a second key of the same name silently wins.

Rules
-----
- Plain scalars: `null ~`, `true false`, integers (also `0o17`, `0x1f`) and decimals by the core schema; all
  else is text. Keys are always text, as written.
- Refused with their place: duplicate keys, tags, `<<`, keys that are not scalars, several documents,
  recursive aliases, nulls. All of them but syntax errors are reported together.
- Bounded: file size, depth, and the number of values after aliases are expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from forebay.config.findings import ConfigErrors, Finding, KeyPath, Severity, format_path
from forebay.config.slips import find_slip, full_width

MAX_FILE_BYTES = 1024 * 1024  # a configuration of 1,000 pipelines is about 300 KB
MAX_DEPTH = 64
MAX_VALUES = 100_000  # after expansion: bounds what nested aliases can multiply to

Mark = tuple[int, int]
"""1-based line and column."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {word: word[0] in "tT" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_MAX_DIGITS = 400  # beyond any number that a float can hold; int() of huge text is quadratic

# Characters that YAML does not allow in a file (c-printable), surrogates included.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")

_SYNTAX_HINTS = (
    ("mapping values are not allowed", "check the indentation; text with `: ` inside needs quotes"),
    ("could not find expected ':'", "a key needs `: ` behind it"),
    ("cannot start any token", "text that begins with @, ` or % needs quotes"),
    ("did not find expected '-' indicator", "the items of a list stand under each other"),
    ("did not find expected key", "keys of one mapping stand under each other"),
    ("did not find expected ',' or", "a `[` or `{` is not closed, or a comma is missing"),
    ("unexpected end of stream", "a quote is not closed"),
    ("found unknown escape character", "use 'single quotes' for text with backslashes"),
)


@dataclass(slots=True)
class Document:
    """A parsed file: plain values, and where each stands.

    `value` holds dict, list, str, int, float, bool (and None where `findings` says so).
    """

    file: str
    value: Any = None
    findings: list[Finding] = field(default_factory=list)
    _values: dict[KeyPath, Mark] = field(default_factory=dict)
    _keys: dict[KeyPath, Mark] = field(default_factory=dict)

    def position(self, path: KeyPath) -> Mark:
        """Return where the value of a path begins; where the path does not exist, its nearest parent."""
        while path and path not in self._values:
            path = path[:-1]
        return self._values.get(path, (1, 1))

    def key_position(self, path: KeyPath) -> Mark:
        """Return where the key of a path stands (a list item: its value), or its nearest parent's."""
        while path and path not in self._keys:
            path = path[:-1]
        return self._keys.get(path, (1, 1))

    def at(self, path: KeyPath) -> Any:
        """Return the value of a path. Raises LookupError or TypeError where there is none."""
        value = self.value
        for part in path:
            value = value[part]
        return value

    def leaves(self) -> Iterator[tuple[KeyPath, Any]]:
        """Yield path and value of every scalar."""
        stack: list[tuple[KeyPath, Any]] = [((), self.value)]
        while stack:
            path, value = stack.pop()
            if isinstance(value, dict):
                stack.extend(((*path, key), inner) for key, inner in value.items())
            elif isinstance(value, list):
                stack.extend(((*path, i), inner) for i, inner in enumerate(value))
            else:
                yield path, value

    def finding(
        self,
        message: str,
        path: KeyPath = (),
        *,
        hint: str = "",
        at_key: bool = False,
        severity: Severity = Severity.ERROR,
    ) -> Finding:
        """Return a finding located at a path's value, or at its key."""
        line, col = self.key_position(path) if at_key else self.position(path)
        return Finding(severity, message, self.file, line, col, format_path(path), hint)


@dataclass(slots=True)
class _Node:
    mark: Mark
    scalar: Any = None
    pairs: list[tuple[_Node, _Node]] | None = None
    items: list[_Node] | None = None
    text: str = ""  # of a scalar, as written
    open: bool = False  # still being read: an alias to it would be recursive


class _Refused(Exception):
    """Reading cannot go on."""

    def __init__(self, message: str, mark: Mark, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.mark, self.hint = message, mark, hint


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, at most one more than the limit. Raises ConfigErrors if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        hint = "is the path right?" if isinstance(error, FileNotFoundError) else ""
        reason = error.strerror or type(error).__name__
        finding = Finding(Severity.ERROR, f"cannot read: {reason}", str(path), hint=hint)
        raise ConfigErrors([finding]) from error


def parse(data: bytes, file: str) -> Document:
    """Parse the bytes of one file. Raises ConfigErrors where reading cannot go on."""
    document = Document(file)
    try:
        root = _compose(_decode(data), document)
        if root is None or (root.pairs is None and root.items is None and root.scalar is None):
            raise _Refused("expected keys and values, found an empty file", (1, 1))
        document.value = _Builder(document).build(root, ())
    except _Refused as error:
        finding = Finding(Severity.ERROR, error.message, file, *error.mark, "", error.hint)
        raise ConfigErrors([finding, *document.findings]) from None
    return document


def _decode(data: bytes) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise _Refused(f"expected at most {MAX_FILE_BYTES // 1024} KiB of configuration, found more", (1, 1))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _Refused("expected UTF-8 text, found UTF-16", (1, 1), "save the file as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        head = data[: error.start].decode("utf-8", "replace")
        raise _Refused(
            "expected UTF-8 text, found other bytes", _end(head), "save the file as UTF-8"
        ) from None
    bad = _UNPRINTABLE.search(text)
    if bad is not None:
        code = f"U+{ord(bad[0]):04X}"
        raise _Refused(f"expected text, found the control character {code}", _end(text[: bad.start()]))
    return text


def _end(text: str) -> Mark:
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


def _compose(text: str, document: Document) -> _Node | None:
    """Build the node tree without recursion, so that depth is bounded before the stack is."""
    opened: list[tuple[int, int]] = []  # where the last quoted text of several lines begins
    try:
        return _compose_events(_watched(yaml.parse(text, Loader=_LOADER), opened), document)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, opened[-1] if opened else None) from None
    except yaml.YAMLError as error:  # the reader's own errors carry no mark
        raise _Refused(f"YAML syntax: {str(error).splitlines()[0]}", (1, 1)) from None


def _watched(events: Iterator[Any], opened: list[tuple[int, int]]) -> Iterator[Any]:
    for event in events:
        if isinstance(event, yaml.ScalarEvent) and event.style in ('"', "'"):
            start, end = event.start_mark, event.end_mark
            several = start is not None and end is not None and end.line > start.line
            opened[:] = [(start.line, start.column)] if start is not None and several else []
        yield event


def _syntax_error(error: yaml.MarkedYAMLError, text: str, opened: tuple[int, int] | None) -> _Refused:
    mark = error.problem_mark or error.context_mark
    line, col = (mark.line, mark.column) if mark else (0, 0)
    slip = find_slip(text.splitlines(), line, opened)
    if slip is not None:
        return _Refused(slip.message, (slip.row + 1, slip.col + 1), slip.hint)
    problem = error.problem or error.context or "unreadable"
    hint = next((advice for words, advice in _SYNTAX_HINTS if words in problem), "")
    if not hint and error.context:
        hint = error.context
    return _Refused(f"YAML syntax: {problem}", (line + 1, col + 1), hint)


def _compose_events(events: Iterator[Any], document: Document) -> _Node | None:
    root: _Node | None = None
    anchors: dict[str, _Node] = {}
    stack: list[_Node] = []
    keys: list[_Node | None] = []  # beside `stack`: the key whose value comes next
    documents = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Refused("expected one document, found a second", _mark(event), "remove the `---`")
        elif isinstance(event, yaml.CollectionEndEvent):
            stack.pop().open = False
            keys.pop()
        elif isinstance(event, yaml.NodeEvent):
            node = _node(event, anchors, document)
            if stack:
                _attach(stack[-1], keys, node)
            else:
                root = node
            if isinstance(event, yaml.CollectionStartEvent):
                if len(stack) >= MAX_DEPTH:
                    raise _Refused(f"nested more than {MAX_DEPTH} levels deep", node.mark)
                node.open = True
                stack.append(node)
                keys.append(None)
    return root


def _attach(parent: _Node, keys: list[_Node | None], node: _Node) -> None:
    if parent.items is not None:
        parent.items.append(node)
        return
    key = keys[-1]
    if key is None:
        keys[-1] = node
    else:
        assert parent.pairs is not None
        parent.pairs.append((key, node))
        keys[-1] = None


def _mark(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _node(event: Any, anchors: dict[str, _Node], document: Document) -> _Node:
    mark = _mark(event)
    if isinstance(event, yaml.AliasEvent):
        target = anchors.get(str(event.anchor))
        if target is None:
            raise _Refused(f"alias `*{event.anchor}` has no anchor before it", mark)
        if target.open:
            raise _Refused(f"alias `*{event.anchor}` contains itself", mark)
        return target
    if event.tag is not None:
        message = f"tag `{event.tag}` is not allowed"
        document.findings.append(Finding(Severity.ERROR, message, document.file, *mark, "", "remove the tag"))
    if isinstance(event, yaml.MappingStartEvent):
        node = _Node(mark, pairs=[])
    elif isinstance(event, yaml.SequenceStartEvent):
        node = _Node(mark, items=[])
    else:
        plain = event.style in (None, "") and event.implicit[0]
        node = _Node(mark, scalar=_resolve(event.value, mark) if plain else event.value, text=event.value)
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


def _resolve(text: str, mark: Mark) -> Any:
    """Return what a plain scalar means in the YAML 1.2 core schema."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if text[0] not in "0123456789+-.":
        return text
    if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise _Refused(f"a number of {len(text)} digits", mark, "put it in quotes if it is text")
        return int(text) if _INT.fullmatch(text) else float(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _INFINITE.fullmatch(text):
        return float("-inf" if text[0] == "-" else "inf")
    return float("nan") if text in (".nan", ".NaN", ".NAN") else text


class _Builder:
    """Turns nodes into plain values, noting places and what is refused."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.values = 0

    def build(self, node: _Node, path: KeyPath, key_mark: Mark | None = None) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise _Refused(f"more than {MAX_VALUES} values after expanding aliases", node.mark)
        if len(path) > MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} levels deep after expanding aliases", node.mark)
        self.document._values[path] = node.mark
        self.document._keys[path] = key_mark or node.mark
        if node.pairs is not None:
            return self._mapping(node.pairs, path)
        if node.items is not None:
            return [self.build(item, (*path, i)) for i, item in enumerate(node.items)]
        if node.scalar is None and path:
            hint = full_width(str(path[-1])) or "write a value, or remove the key to get its default"
            self._note("expected a value, found nothing", path, hint)
        return node.scalar

    def _mapping(self, pairs: list[tuple[_Node, _Node]], path: KeyPath) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key.pairs is not None or key.items is not None:
                self.document._values[(*path, "?")] = self.document._keys[(*path, "?")] = key.mark
                self._note("expected a word as key, found a list or mapping", (*path, "?"))
                continue
            name = key.text
            here = (*path, name)
            if name in out:
                line = self.document.key_position(here)[0]
                mark = key.mark
                self.document.findings.append(
                    Finding(
                        Severity.ERROR,
                        f"the key is there twice, first in line {line}",
                        self.document.file,
                        *mark,
                        format_path(here),
                        "remove one of them",
                    )
                )
                continue
            out[name] = self.build(value, here, key.mark)
            if name == "<<":
                self._note("merge keys are not part of YAML 1.2", here, "repeat the keys", at_key=True)
        return out

    def _note(self, message: str, path: KeyPath, hint: str = "", *, at_key: bool = False) -> None:
        self.document.findings.append(self.document.finding(message, path, hint=hint, at_key=at_key))
