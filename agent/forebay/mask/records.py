"""Mask lines of JSON, CSV or text and keep everything else of a line as it was.

Invariants
----------
- As many lines come out as went in, in the same order.
- A line whose masking changes nothing comes out byte for byte; in others only the masked values differ.
- Fails closed: a line that cannot be parsed is searched as plain text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from forebay.blocks import Block, Column, Field, I64Array, Schema, Type
from forebay.errors import ConfigError, MaskError
from forebay.mask.guard import Guard
from forebay.mask.masker import Masker
from forebay.mask.policy import Policy
from forebay_core import text_tables
from forebay_core.text import scan

_INT64 = 2**63
# Every scalar that json.loads reads, NaN and the infinities too: one that were not counted would shift all behind.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|NaN|-?Infinity', re.DOTALL)

# What may stand beside a line end within an identifier, and how far around it one reaches.
_GOES_ON = re.compile(r"[0-9A-Za-z０-９.:@_·-][ \t]*$")
_GOES_ON_TO = re.compile(r"[ \t]*[0-9A-Za-z０-９.:@_·-]")
_REACH = 120

Scalar = str | int | float | bool
LineTrace = Callable[[int, str, int, int, str, str], None]


class Leaf(NamedTuple):
    """A value of a record: which line, its place among the line's values, its path, whether it is a key."""

    line: int
    place: int
    path: str
    value: Scalar
    is_key: bool = False


class RecordMasker:
    """Masks values that are grouped by their path, so that field rules hold and a call does many at once.

    Parameters
    ----------
    policy : what to do
    stream : name that rules of the form `stream.field` know the input by
    trace : told of each hit: number of the line, field, first and last byte (0 and 0: the value as a whole),
        class, operator with its rule. Told by `tell`, in the order of the lines
    """

    def __init__(self, policy: Policy, stream: str, trace: LineTrace | None = None) -> None:
        if policy.adds_noise:
            raise ConfigError(
                f"fields.{policy.adds_noise} gets noise, and a file masked twice would tell what the noise hides",
                place=policy.where(("fields", policy.adds_noise)),
                hint="noise is for `forebay run`, which keeps what was spent with its data",
            )
        told = None if trace is None else self._tell
        self._policy, self._stream, self._trace = policy, stream, trace
        self._values = Masker(policy, trace=told, drop_rows=False), Guard(policy)
        # Names are no data, so no rule for data nulls them; an identifier in one is masked all the same.
        undeclared = policy.options.undeclared.model_copy(update={"text": "scan"})
        options = policy.options.model_copy(update={"undeclared": undeclared, "fields": {}, "streams": {}})
        names = Policy(options, policy.path, policy.places)
        self._names = Masker(names, trace=told, drop_rows=False), Guard(names)
        self.hits: Counter[str] = Counter()
        self.first_line = 1  # number of the first line of what is being masked
        self._lines: list[int] = []  # line of each row of the column being masked, from first_line
        self._line_of: list[int] = []  # of each place of a record that goes over several lines
        self._told: list[tuple[int, str, int, int, str, str]] = []

    def mask(self, leaves: Sequence[Leaf]) -> dict[tuple[int, int], Scalar | None]:
        """Return the new value of each leaf that masking changed, by (line, place). None: it became null."""
        groups: dict[tuple[str, Type, bool], list[Leaf]] = {}
        for leaf in leaves:
            groups.setdefault((leaf.path, _type(leaf.value), leaf.is_key), []).append(leaf)
        changed: dict[tuple[int, int], Scalar | None] = {}
        dropped: set[int] = set()
        for (path, type_, is_key), group in groups.items():
            column = Column.of(type_, [_as(type_, leaf.value) for leaf in group])
            schema = Schema(self._stream, (Field(path, type_),))
            block = Block(schema, np.zeros(len(group), np.int64), (column,))
            self._lines = [self._line(leaf) for leaf in group]
            masker, guard = self._names if is_key else self._values
            masked = masker.apply(block)
            out = guard.check(masked)
            if self._trace is not None:
                self._note_stopped(masked.schema.fields[0].name, masked.columns[0], out.columns[0])
            if masker.dropped is not None:
                dropped.update(leaf.line for leaf, gone in zip(group, masker.dropped, strict=True) if gone)
            self.hits.update(out.hits)
            for leaf, old, new in zip(
                group, column.to_list(type_), out.columns[0].to_list(type_), strict=True
            ):
                if old is not None and old != new:
                    changed[leaf.line, leaf.place] = "[suppressed]" if new is None and is_key else new
        if dropped:  # a record that is dropped keeps its line and its names, and no value
            self.hits["record:drop"] += len(dropped)
            changed.update(
                {(at.line, at.place): None for at in leaves if at.line in dropped and not at.is_key}
            )
        return changed

    def mask_text(self, lines: Sequence[str], numbers: Sequence[int], is_key: bool = False) -> list[str]:
        """Mask whole lines as text; a suppressed one becomes `null`. `numbers` are for the trace."""
        path = "(name)" if is_key else "line"
        leaves = [
            Leaf(n, i, path, text, is_key) for i, (n, text) in enumerate(zip(numbers, lines, strict=True))
        ]
        changed = {place: value for (_, place), value in self.mask(leaves).items()}
        return [
            text if i not in changed else "null" if changed[i] is None else str(changed[i])
            for i, text in enumerate(lines)
        ]

    def over_lines(self, document: str) -> None:
        """Number the lines of hits in the one record that comes next, which goes over several lines."""
        if self._trace is not None:
            starts = [match.start() for match in _TOKEN.finditer(document)]
            lines = [document.count("\n", a, b) for a, b in pairwise([0, *starts])]
            self._line_of = list(accumulate(lines))

    def breaks(self, lines: Sequence[str]) -> set[int]:
        """Return which lines of text end in the middle of an identifier that goes on in the next line."""
        ends = [
            i
            for i in range(len(lines) - 1)
            if _GOES_ON_TO.match(lines[i + 1]) and _GOES_ON.search(lines[i], max(0, len(lines[i]) - _REACH))
        ]
        if not ends:
            return set()
        heads = [lines[i][-_REACH:].encode() for i in ends]
        cells = [head + b"\n" + lines[i + 1][:_REACH].encode() for head, i in zip(heads, ends, strict=True)]
        offsets = np.zeros(len(cells) + 1, dtype=np.int64)
        np.cumsum([len(cell) for cell in cells], out=offsets[1:])
        classes = sum(1 << text_tables.CODES[name] for name in self._policy.scanned_classes)
        spans, _, _ = scan(np.frombuffer(b"".join(cells), dtype=np.uint8), offsets, classes, 0)
        return {ends[row] for row, start, end in spans.tolist() if start < len(heads[row]) < end - 1}

    def tell(self) -> None:
        """Tell the trace of the hits since the last call."""
        told, self._told, self._line_of = sorted(self._told, key=lambda hit: hit[0]), [], []
        for hit in told:
            assert self._trace is not None
            self._trace(*hit)

    def _line(self, leaf: Leaf) -> int:
        return self._line_of[leaf.place] if self._line_of else leaf.line

    def _tell(self, name: str, spans: I64Array, known: list[tuple[str, str, str]]) -> None:
        for (row, start, end), (class_name, operator, rule) in zip(spans.tolist(), known, strict=True):
            line = self.first_line + self._lines[row]
            self._told.append((line, name, start, end, class_name, f"{operator}, {rule}"))

    def _note_stopped(self, name: str, masked: Column, out: Column) -> None:
        """Note what the guard took away behind masking."""
        for row in np.flatnonzero(out.is_null() & ~masked.is_null()).tolist():
            line = self.first_line + self._lines[row]
            self._told.append((line, name, 0, 0, "guard", "suppress, the second look found an identifier"))


def _type(value: Scalar) -> Type:
    if isinstance(value, bool):
        return Type.BOOL
    if isinstance(value, str):
        return Type.STR
    if isinstance(value, int):
        return Type.I64 if -_INT64 <= value < _INT64 else Type.STR
    return Type.F64


def _as(type_: Type, value: Scalar) -> Scalar:
    if type_ is not Type.STR:
        return value
    return value if isinstance(value, str) else format(value, "d")


class _Pairs(list[tuple[str, Any]]):
    """Members of a JSON object in order; a dict would hide a key that stands there twice."""


def mask_json_lines(lines: Sequence[str], masker: RecordMasker, note_broken: Callable[[], None]) -> list[str]:
    """Return the lines masked, each without its line end."""
    leaves: list[Leaf] = []
    broken: list[int] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            leaves += _leaves(number, json.loads(line, object_pairs_hook=_Pairs))
        except (ValueError, RecursionError):  # also integers of more digits than Python reads
            broken.append(number)
            note_broken()
    changed = masker.mask(leaves)
    out = list(lines)
    by_line: dict[int, dict[int, Scalar | None]] = {}
    for (number, place), value in changed.items():
        by_line.setdefault(number, {})[place] = value
    for number, values in by_line.items():
        out[number] = _rewrite(lines[number], values)
    for number, text in zip(broken, masker.mask_text([lines[n] for n in broken], broken), strict=True):
        out[number] = text
    return out


def _leaves(line: int, document: Any) -> list[Leaf]:
    # Places count every scalar token of the text, keys too, in the order in which they stand.
    found: list[Leaf] = []
    place = 0

    def visit(value: Any, path: str) -> None:
        nonlocal place
        if isinstance(value, _Pairs):
            for key, member in value:
                found.append(Leaf(line, place, "(name)", key, True))
                place += 1
                visit(member, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for member in value:
                visit(member, path)
        else:
            if value is not None:
                found.append(Leaf(line, place, path or "value", value))
            place += 1

    visit(document, "")
    return found


def _rewrite(line: str, values: dict[int, Scalar | None]) -> str:
    place = -1

    def token(match: re.Match[str]) -> str:
        nonlocal place
        place += 1
        if place not in values:
            return match[0]
        # text that was written in ASCII with escapes stays so
        return json.dumps(values[place], ensure_ascii=match[0].isascii())

    out = _TOKEN.sub(token, line)
    if place < max(values):
        raise MaskError("the values of a record are not where they were expected")
    return out
