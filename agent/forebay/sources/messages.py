"""Messages of brokers and local programs to rows: JSON, CSV, raw values and msgpack, all through one decoder.

Each message becomes JSON objects, one a line, to which the broker's facts (parts of the topic) are appended;
then all that queued is decoded in one go. Keys of the payload that equal a fact's name are set apart, so that
no payload displaces what the broker says of it.
"""

from __future__ import annotations

import base64
import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from forebay.blocks import Block
from forebay.config.sources import TimeOptions
from forebay.errors import InputError
from forebay.redact import holds_identifier
from forebay.sources.context import SourceContext
from forebay.sources.decoder import MAX_DETAILS, Place
from forebay.sources.fields import SET_APART
from forebay.sources.formats import JsonLinesDecoder
from forebay.stages import Rejected
from forebay_core.records import split_array

_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")  # in JSON both are white space, or an error
_SPACE = re.compile(r"[ \t\n\r]*")
_LOST = re.compile("[\0\ud800-\udfff]")  # the decoder's keys have U+FFFD for them
_VALUES = json.JSONDecoder(parse_int=len, parse_float=len)  # of numbers only the end is asked for
_MAX_ITEMS = 100_000  # of a msgpack array or map: 1 MiB of empty arrays would be 86 MiB of objects


@dataclass(slots=True)
class Rows:
    """What came out of some messages; as in stages.Chunk."""

    blocks: list[Block] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    rejected_counts: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(b.rows for b in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(b.nbytes for b in self.blocks)

    def reject(self, reason: str, place: str, length: int, detail: str) -> None:
        """Count a message that is no row."""
        self.rejected_counts[reason] += 1
        if len(self.rejected) < MAX_DETAILS:
            self.rejected.append(Rejected(reason, place, length, detail))


def json_string(text: str) -> bytes:
    """Return text as a JSON string."""
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a broker says of a message.

    Attributes
    ----------
    suffix : the facts as the tail of a JSON object, to be put before its closing brace
    names : their names, case-folded
    quoted : these as they would stand in an object
    """

    suffix: bytes
    names: frozenset[str]
    quoted: tuple[bytes, ...]


def facts_of(facts: Mapping[str, str]) -> Facts:
    """Return facts, text by name."""
    suffix = b",".join(json_string(name) + b":" + json_string(text) for name, text in facts.items())
    names = frozenset(name.casefold() for name in facts)
    return Facts(suffix, names, tuple(json_string(name) for name in names))


NO_FACTS = facts_of({})


def _append(item: bytes, facts: Facts) -> bytes:
    """Put facts into a JSON object; what is no object stays, to be rejected by the decoder."""
    if not facts.suffix or not item.startswith(b"{") or not item.endswith(b"}"):
        return item
    body = _set_apart(item, facts)[:-1].rstrip()
    return body + (b"" if body == b"{" else b",") + facts.suffix + b"}"


def _set_apart(item: bytes, facts: Facts) -> bytes:
    """Mark the members of an object that are named like a fact: `StreamFields` gives them a name beside it."""
    if item.isascii() and b"\\" not in item:  # else a key may be spelt in ways that only its decoding tells
        lowered = item.lower()
        if not any(name in lowered for name in facts.quoted):
            return item
    parts, at = [], 0
    try:
        text = item.decode()
        place = _after_space(text, 1)
        while text.startswith('"', place):
            key, end = _VALUES.raw_decode(text, place)
            place = _after_space(text, end)
            if _LOST.sub("\ufffd", key).casefold() in facts.names:
                parts.append(text[at : end - 1])
                at = end - 1
            _, place = _VALUES.raw_decode(text, _after_space(text, place + 1))
            place = _after_space(text, _after_space(text, place) + 1)
    except (ValueError, IndexError, RecursionError):
        return item  # it is no object, and the decoder will say so
    return SET_APART.join([*parts, text[at:]]).encode()


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def json_objects(payload: bytes, facts: Facts) -> list[bytes]:
    """Return the objects of a JSON payload, an object or an array of objects, each on one line."""
    text = payload.translate(_LINE_ENDS).strip()
    if not text.startswith(b"["):
        return [_append(text, facts)] if text else []
    spans = np.empty((1_024, 4), np.int64)
    count = split_array(text, spans)
    if count > len(spans):
        spans = np.empty((count, 4), np.int64)
        split_array(text, spans)
    if count < 0:
        return [text]
    return [_append(text[start:end].strip(), facts) for start, end, _, _ in spans[:count].tolist()]


def _json_value(cell: bytes) -> bytes:
    if _NUMBER.fullmatch(cell):
        return cell
    return json_string(cell.decode("utf-8"))


def csv_objects(payload: bytes, columns: Sequence[str], facts: Facts) -> list[bytes]:
    """Return CSV rows as JSON objects. Raises UnicodeDecodeError or ValueError."""
    out = []
    names = [json_string(name) for name in columns]
    try:
        records = list(csv.reader(payload.decode("utf-8").splitlines(), strict=True))
    except csv.Error as error:  # which is no ValueError: an open quote, a cell beyond csv's 128 KiB
        raise ValueError("expected CSV after RFC 4180") from error
    for cells in records:
        if not cells:
            continue
        if len(cells) != len(names):
            raise ValueError(f"expected {len(names)} cells, found {len(cells)}")
        pairs = (
            name + b":" + (_json_value(cell.strip().encode()) if cell.strip() else b"null")
            for name, cell in zip(names, cells, strict=True)
        )
        out.append(_append(b"{" + b",".join(pairs) + b"}", facts))
    return out


def raw_object(payload: bytes, facts: Facts) -> bytes:
    """Return one number or text as a JSON object with the field `value`. Raises UnicodeDecodeError."""
    return _append(b'{"value":' + _json_value(payload.strip()) + b"}", facts)


def _plain(value: Any) -> Any:
    """Return what JSON lacks as text: bytes in base64, times in ISO 8601.

    Masking does not look into base64, so bytes that hold an identifier become the text in which it will find it.
    """
    if isinstance(value, bytes):
        if holds_identifier(value):
            return value.decode("utf-8", "replace")
        return base64.b64encode(value).decode()
    if isinstance(value, msgpack.Timestamp):
        whole = value.to_datetime().strftime("%Y-%m-%dT%H:%M:%S")
        return f"{whole}.{value.nanoseconds:09d}Z"
    raise TypeError("a type that is not data")


def _no_extension(_code: int, _data: bytes) -> Any:
    raise TypeError("an extension that is not data")


def msgpack_objects(payload: bytes) -> list[bytes]:
    """Return a msgpack map, or array of maps, as JSON objects.

    Raises
    ------
    InputError
        If it is not msgpack, or not made of maps with text keys.
    """
    try:
        value = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            ext_hook=_no_extension,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
        )
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, dict) for item in items):
            raise InputError("expected a map, or an array of maps")
        return [json.dumps(item, ensure_ascii=False, default=_plain).encode() for item in items]
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("expected msgpack of maps with text keys") from error


class MessageDecoder:
    """Turns JSON objects into blocks of one stream; remembers names and types of fields.

    Parameters
    ----------
    context : SourceContext
    time : TimeOptions or None
        Where a row's time comes from.
    max_message : int
        Bytes of the longest message.
    """

    def __init__(self, context: SourceContext, time: TimeOptions | None, max_message: int) -> None:
        # What is appended to an object must not push it over the limit that its payload keeps.
        limit = max_message + 128 * 1024
        self._decoder = JsonLinesDecoder(
            context.stream, context.clock, context.fields, context.key, time, limit
        )
        self._place = Place(context.name)

    def decode(self, objects: Sequence[bytes], rows: Rows) -> None:
        """Add the rows of JSON objects, each without a line end, to `rows`."""
        if not objects:
            return
        for found in self._decoder.decode(b"\n".join(objects), self._place, final=True):
            if found.block is not None and found.block.rows:
                rows.blocks.append(found.block)
            rows.rejected += found.rejected[: MAX_DETAILS - len(rows.rejected)]
            rows.rejected_counts += found.rejected_counts

    def state(self) -> bytes:
        """Return what keeps names and types of fields the same after a restart."""
        return self._decoder.state()

    def restore(self, state: bytes) -> None:
        """Take over a state. Raises InputError if it cannot be read."""
        self._decoder.restore(state)
