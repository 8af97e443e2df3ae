"""What hostile bytes are thrown at, and what must hold: an answer or a named error, never anything else.

Each target takes any bytes. It returns when all is as it should be: the bytes were read, and what was made of
them keeps the promises of its type, or they were refused with the error that the code names. Anything else is
a find. `fuzz.py` mutates the bytes; `test_corpus.py` replays the kept ones in every test run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from forebay.blocks import MAX_ROWS, MAX_WAVEFORM_ROWS, Block, Field, Schema, Type
from forebay.config.findings import ConfigErrors
from forebay.config.loader import load, load_agent, load_receiver
from forebay.config.sources import TimeOptions
from forebay.errors import InputError, WireError
from forebay.receive.checks import Bodies, MissingBodies, read_batch
from forebay.sources.decoder import Decoder, Place
from forebay.sources.formats import CsvDecoder, JsonLinesDecoder
from forebay.sources.messages import csv_objects, facts_of, json_objects, msgpack_objects, raw_object
from forebay.wire import messages as m
from forebay.wire.columns import decode_columns, encode_columns
from forebay.wire.envelope import Context, Exported, content_tag
from forebay.wire.schema import parse_schema
from forebay_core import text
from forebay_core.reference import text as text_twin
from forebay_core.text_tables import ALL_CLASSES, CLASSES

DATA = Path(__file__).parent.parent / "data" / "wire"
MAX_BYTES = 32 << 20  # of a decoded block: hostile bytes may ask for more than a machine has
MOST_FOR_TWIN = 2_000  # bytes of text that the twin in Python scans as well

SCHEMAS = (
    Schema("s", ()),
    Schema("s", (Field("t", Type.F64),)),
    Schema("s", (Field("dev", Type.STR), Field("t", Type.F64), Field("n", Type.I64)), "dev"),
    Schema("s", tuple(Field(str(t), t) for t in Type)),
)


class Find(AssertionError):
    """A promise that did not hold."""


def expect(holds: bool, promise: str) -> None:
    """Raise Find if it does not hold; unlike `assert` also under `python -O`."""
    if not holds:
        raise Find(promise)


def sound(block: Block, most_rows: int = MAX_ROWS) -> None:
    """Check the invariants of forebay.blocks."""
    expect(block.rows <= most_rows, "no more rows than the limit")
    expect(len(block.columns) == len(block.schema.fields), "a column for each field")
    expect(len({f.name for f in block.schema.fields}) == len(block.columns), "names differ")
    for field, column in zip(block.schema.fields, block.columns, strict=True):
        expect(column.rows == block.rows, "as many cells as rows")
        expect((column.offsets is not None) == (field.type in (Type.STR, Type.BYTES)), "the type's layout")
        null = column.is_null()
        if column.offsets is None:
            expect(not column.values[null].any(), "nothing under a null")
            continue
        lengths = np.diff(column.offsets)
        expect(bool((lengths >= 0).all()) and int(column.offsets[-1]) == len(column.values), "offsets fit")
        expect(not lengths[null].any(), "nothing under a null")
        if field.type is Type.STR:
            for row in range(block.rows):
                column.cell_bytes(row).decode()


def alike(first: Block, second: Block) -> bool:
    """Whether two blocks hold the same, to the bit."""
    if first.schema != second.schema or not np.array_equal(first.time, second.time):
        return False
    for field, a, b in zip(first.schema.fields, first.columns, second.columns, strict=True):
        if a.to_list(field.type) != b.to_list(field.type) and field.type is not Type.F64:
            return False
        if field.type is Type.F64 and not np.array_equal(a.values.view(np.int64), b.values.view(np.int64)):
            return False
        codes = [np.zeros(first.rows, np.uint8) if c.quality is None else c.quality for c in (a, b)]
        if not np.array_equal(*codes):
            return False
    return True


def columns(data: bytes) -> None:
    """Decode a payload under a schema that the first byte chooses."""
    if not data:
        return
    schema = SCHEMAS[data[0] % len(SCHEMAS)]
    try:
        block = decode_columns(data[1:], schema, max_rows=MAX_WAVEFORM_ROWS, max_bytes=MAX_BYTES)
    except WireError:
        return
    _goes_round(block)


def _goes_round(block: Block) -> None:
    sound(block, MAX_WAVEFORM_ROWS)
    if block.rows * max(1, len(block.columns)) > 20_000:
        return  # all rows alike from a few bytes: true, but slow to write again
    payload = encode_columns(block, level=1, compress=block.rows % 2 == 0)
    again = decode_columns(payload, block.schema, max_rows=MAX_WAVEFORM_ROWS, max_bytes=1 << 30)
    expect(alike(block, again), "what was decoded can be encoded and decoded")


def export(data: bytes) -> None:
    """Read an exported batch as `forebay decode` does, and its data as the receiver does."""
    try:
        exported = Exported.unpack(data)
        parse_schema(exported.schema)
        Context.parse(exported.context)
        _receive(exported.data, (exported.schema, exported.context))
    except WireError:
        return


def batch(data: bytes) -> None:
    """Take a batch whose schema and context are known, as the receiver does."""
    known = Exported.unpack(_golden_batch())
    try:
        _receive(data, (known.schema, known.context))
    except WireError:
        return


@cache
def _golden_batch() -> bytes:
    return (DATA / "batch-v1.fbb").read_bytes()


def _receive(data: bytes, known: tuple[bytes, ...]) -> None:
    bodies = Bodies(lambda _: None)
    for body in known:
        bodies.add(body)
    try:
        incoming = read_batch(m.Batch("normal", 1, 1, content_tag(data)), data, len(data), bodies)
    except MissingBodies as missing:
        expect(0 < len(missing.ids) <= 2, "what is missing is named")
        return
    expect(incoming.block.rows == incoming.envelope.rows, "the rows that the envelope says")
    sound(incoming.block, MAX_WAVEFORM_ROWS)


def messages(data: bytes) -> None:
    """Read a message's head frame, at either end of the wire."""
    try:
        message = m.decode(data)
    except WireError:
        return
    expect(repr(m.decode(m.encode(message))) == repr(message), "a message that was read can be sent on")


def scan(data: bytes) -> None:
    """Scan text for identifiers, any bytes, cells cut at line ends; compiled and twin must agree."""
    cells = data.split(b"\n")
    offsets = np.zeros(len(cells) + 1, np.int64)
    np.cumsum([len(c) for c in cells], out=offsets[1:])
    raw = np.frombuffer(b"".join(cells), np.uint8)
    spans, codes, flags = text.scan(raw, offsets, ALL_CLASSES, 0)
    lengths = np.diff(offsets)
    for (row, start, end), code in zip(spans.tolist(), codes.tolist(), strict=True):
        expect(0 <= row < len(cells) and 0 <= start < end <= lengths[row], "a find lies in its cell")
        expect(code < len(CLASSES), "a find has a class")
    if len(data) <= MOST_FOR_TWIN:
        twin = text_twin.scan(raw, offsets, ALL_CLASSES, 0)
        for name, a, b in zip(("spans", "classes", "flags"), (spans, codes, flags), twin, strict=True):
            expect(np.array_equal(a, b), f"compiled and twin find the same {name}")


class _StillClock:
    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000

    def monotonic_ns(self) -> int:
        return 0


_TIMES = (None, TimeOptions(field="ts"), TimeOptions(field="ts", unit="ms"))


def _decode(make: Callable[[TimeOptions | None], Decoder], data: bytes) -> None:
    """Decode rows whole and in two parts; both must give the same rows."""
    time, cut = _TIMES[data[0] % len(_TIMES)], data[1]
    body = data[2:]
    try:
        whole = make(time)
        blocks = [part.block for part in whole.decode(body, Place("x", 1), final=True)]
    except InputError:
        return
    rows = 0
    for block in blocks:
        if block is not None:
            sound(block)
            _goes_round(block)
            rows += block.rows
    split, found, place = make(time), 0, len(body) * cut // 256
    try:
        consumed = 0
        for part in split.decode(body[:place], Place("x", 1), final=False):
            found += 0 if part.block is None else part.block.rows
            consumed = part.consumed
        expect(0 <= consumed <= place, "no more is consumed than was given")
        for part in split.decode(body[consumed:], Place("x", 1), final=True):
            found += 0 if part.block is None else part.block.rows
    except InputError:
        return
    expect(found == rows, "as many rows in two parts as in one")


def json_lines(data: bytes) -> None:
    """Parse JSON lines."""
    if len(data) > 2:
        _decode(lambda time: JsonLinesDecoder("s", _StillClock(), time=time, max_line=4096), data)


def json_message(data: bytes) -> None:
    """Parse one JSON document, as of a broker."""
    decoder = JsonLinesDecoder("s", _StillClock(), max_line=4096)
    try:
        for part in decoder.message_blocks(data, Place("x", 1)):
            if part.block is not None:
                sound(part.block)
    except InputError:
        return


def broker(data: bytes) -> None:
    """Turn a broker's payload into JSON objects, in the form that the first byte chooses, and parse them."""
    if not data:
        return
    form, payload, facts = data[0] % 4, data[1:], facts_of({"topic": "t"})
    try:
        if form == 0:
            objects = json_objects(payload, facts)
        elif form == 1:
            objects = csv_objects(payload, ("a", "b"), facts)
        elif form == 2:
            objects = [raw_object(payload, facts)]
        else:
            objects = msgpack_objects(payload)
    except (ValueError, InputError):
        return
    decoder = JsonLinesDecoder("s", _StillClock(), max_line=4096)
    lines = b"\n".join(objects)
    for part in decoder.decode(lines, Place("x", 1), final=True):
        if part.block is not None:
            sound(part.block)
            expect(form == 3 or _tells_the_topic(part.block), "every row tells the topic that it came by")


def _tells_the_topic(block: Block) -> bool:
    """Whether each row has the true topic in the field of that name."""
    return all(cell == "t" for cell in block.column("topic").to_list(Type.STR))


def csv(data: bytes) -> None:
    """Parse CSV."""
    if len(data) > 2:
        _decode(lambda time: CsvDecoder("s", _StillClock(), time=time, max_line=4096), data)


def config(data: bytes) -> None:
    """Load a file as a configuration; every error has a place and one line of text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.yaml"
        path.write_bytes(data)
        for read in (load, load_agent, load_receiver):
            try:
                read(path)
            except ConfigErrors as error:
                expect(bool(error.errors), "refused for a reason")
                for finding in error.errors:
                    expect(finding.line >= 1 and finding.col >= 1, "an error has a place")
                    expect(bool(finding.message) and "\n" not in finding.message, "an error is one line")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "columns": columns,
    "export": export,
    "batch": batch,
    "messages": messages,
    "scan": scan,
    "json_lines": json_lines,
    "json_message": json_message,
    "broker": broker,
    "csv": csv,
    "config": config,
}
