"""Decoders: bytes of a stream in a text format to blocks.

They keep what they learned of the fields (and nothing of the bytes): whoever reads the bytes presents again
what was not consumed. The same decoders serve files, brokers and sockets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import MAX_ROWS, MAX_STR_BYTES, Block, I64Array
from forebay.clock import Clock
from forebay.config.fields import FieldOptions
from forebay.config.sources import TimeOptions
from forebay.errors import InputError
from forebay.sources.fields import StreamFields
from forebay.sources.states import pack, unpack
from forebay.sources.times import LocalTimes
from forebay.stages import Rejected
from forebay_core.row_codes import ISO, Kind, Reason, Status
from forebay_core.rows import RowParser

MAX_DETAILS = 16  # rejected records of a chunk that are told one by one; all are counted
_SPANS = 4_096  # records found in one go
_BOM = b"\xef\xbb\xbf"
_POWERS = {"s": 9, "ms": 6, "us": 3, "ns": 0, None: ISO}
_CELL_REASONS = {q.TYPE: "type", q.SIZE: "size", q.OVERFLOW: "overflow"}
_STATE_VERSION = 1

_DETAILS = {
    Reason.LINE: ("line", "expected one JSON object"),
    Reason.UTF8: ("utf8", "expected UTF-8"),
    Reason.SIZE: ("size", "longer than `max_line`"),
    Reason.TIME: ("time", "the time cannot be read"),
    Reason.TIME_NAIVE: ("time", "the time has no zone: add `zone:` to the source's `time:`"),
    Reason.TIME_NUMBER: ("time", "the time is a number: add `unit:` to the source's `time:`"),
    Reason.TIME_MISSING: ("time", "the time is missing"),
}


@dataclass(slots=True)
class Place:
    """Where bytes come from: a name (file, topic) and, in a file, the number of their first line from 1."""

    name: str
    line: int = 0

    def at(self, line: int) -> str:
        """Return e.g. `pump.csv:17`."""
        return f"{self.name}:{line}" if self.line else self.name


@dataclass(slots=True)
class Decoded:
    """What came out of some bytes.

    Attributes
    ----------
    block : the rows, None if there were none
    consumed : bytes of the data that are done with
    lines : line ends in them
    whole : every row of the consumed bytes has been handed out, so that a position may stand here
    rejected, rejected_counts : as in stages.Chunk
    """

    block: Block | None
    consumed: int
    lines: int
    whole: bool
    rejected: list[Rejected] = field(default_factory=list)
    rejected_counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Cursor:
    """Where decoding stands in the data at hand."""

    data: bytes
    place: Place
    final: bool
    offset: int = 0
    line: int = 0
    waiting: bool = False  # nothing more can be done until more bytes come


class Decoder(ABC):
    """What all row formats share.

    Parameters
    ----------
    stream : str
        Name of the stream.
    clock : Clock
        Stamps the rows if `time` is None.
    fields : mapping of name to FieldOptions
        A pipeline's `fields:`.
    key : str
        Name of the field that tells devices apart, or empty.
    time : TimeOptions or None
        Where a row's time comes from.
    max_line : int
        Bytes of the longest record.
    """

    def __init__(
        self,
        stream: str,
        clock: Clock,
        fields: Mapping[str, FieldOptions] | None = None,
        key: str = "",
        time: TimeOptions | None = None,
        max_line: int = 1 << 20,
    ) -> None:
        self._clock = clock
        self._max_line = max_line
        self._parser = RowParser(MAX_ROWS, max_line, MAX_STR_BYTES)
        self._stamped = time is None
        self._fields = StreamFields(self._parser, stream, fields or {}, key, time.field if time else "")
        self._local = LocalTimes(time.zone) if time and time.zone else None
        self._parser.set_time(time is not None, _POWERS[time.unit if time else None], self._local is not None)
        self._spans = np.empty((_SPANS, 4), np.int64)
        self._rejected: list[Rejected] = []
        self._counts: Counter[str] = Counter()
        self._skipped = 0  # bytes passed of a record that is too long
        self._at_start = True
        self._packed: tuple[Any, bytes] = (None, b"")

    # -- position ------------------------------------------------------------------------------------------

    @property
    def holds_rows(self) -> bool:
        """Whether rows wait for a block to fill."""
        return self._parser.rows > 0

    def enter_file(self, state: list[Any] | None = None) -> None:
        """Say that the next bytes begin a file, or that they go on where `file_state` was taken."""
        try:
            at_start, skipped, header = (True, 0, None) if state is None else state
        except (TypeError, ValueError) as error:
            raise InputError("the saved state of a file cannot be read") from error
        self._at_start, self._skipped = bool(at_start), int(skipped)
        self._enter_header(header)

    def file_state(self) -> list[Any]:
        """Return what `enter_file` needs to go on within this file (msgpack types only)."""
        return [self._at_start, self._skipped, self._header_state()]

    def state(self) -> bytes:
        """Return what `restore` needs so that no type changes. Cheap while nothing is learned."""
        local = (self._local.last, self._local.fold) if self._local else None
        mark = self._fields.version, local
        if self._packed[0] != mark:
            self._packed = (mark, pack([_STATE_VERSION, local, self._fields.state()]))
        return self._packed[1]

    def restore(self, state: bytes) -> None:
        """Take over a state in a fresh decoder. Raises InputError if it cannot be read."""
        try:
            version, local, learned = unpack(state, "the saved state of the source")
        except (TypeError, ValueError) as error:
            raise InputError("the saved state of the source cannot be read") from error
        if version != _STATE_VERSION:
            raise InputError(f"expected state version {_STATE_VERSION}, found another")
        if self._local is not None and local is not None:
            self._local.last, self._local.fold = local
        self._fields.restore(learned)

    def header_in(self, head: bytes) -> list[str] | None:
        """Return the names in the header of a file that begins so. None: this format has none."""
        return None

    def _header_state(self) -> list[str] | None:
        return None

    def _enter_header(self, header: list[str] | None) -> None:
        return  # only CSV has a header

    # -- decoding ------------------------------------------------------------------------------------------

    def decode(
        self, data: bytes, place: Place, *, final: bool = False, flush: bool = True
    ) -> Iterator[Decoded]:
        """Turn the complete records in `data` into blocks.

        Parameters
        ----------
        data : bytes
            First what the last call did not consume, then what came since.
        place : Place
            Of the first byte of `data`.
        final : bool
            Nothing comes after `data`: what stands behind the last line end is a record too.
        flush : bool
            Hand out the last rows although they do not fill a block.

        Yields
        ------
        Decoded
            At least one; `consumed` and `lines` count from the start of `data` and rise. State belongs to
            the moment: take it before asking for the next one.
        """
        at = Cursor(data, place, final, line=place.line)
        self._pass_long(at)
        self._open(at)
        while not at.waiting and at.offset < len(data):
            count = self._split(at)
            if count:
                yield from self._records(at, self._spans[:count])
            else:
                self._tail(at)
        if flush or final or not self._parser.rows:
            yield self._take(at, at.offset, at.line)
        else:
            yield Decoded(None, at.offset, at.line - place.line, whole=False)

    def _records(self, at: Cursor, spans: I64Array) -> Iterator[Decoded]:
        """Parse records; a full block is handed out, the cursor goes behind the last record."""
        spans[:, 3] += at.line
        end, count, first = int(spans[-1, 2]), len(spans), 0
        at.line = int(spans[-1, 3]) + at.data.count(b"\n", int(spans[-1, 0]), end)
        at.offset = end
        while first < count:
            status, first = self._parse(at.data, spans, first)
            self._note_rejects(spans, at.place)
            if status == Status.STOPPED:
                self._fields.resolve(self._parser.stop_node, Kind(self._parser.stop_kind))
            elif status == Status.FULL:
                yield self._take(at, int(spans[first, 0]), int(spans[first, 3]))
            elif status == Status.RESPLIT:
                # A quote that is never closed swallows what follows: only its own line is broken.
                at.offset, at.line = int(spans[first, 0]), int(spans[first, 3])
                self._drop_line(at)
                return

    def _drop_line(self, at: Cursor) -> None:
        end = at.data.index(b"\n", at.offset)
        self._reject("line", at.place.at(at.line), end - at.offset, self._line_detail)
        at.offset, at.line = end + 1, at.line + 1

    def _tail(self, at: Cursor) -> None:
        """Look at an incomplete record at the end: wait for the rest, unless it is too long already."""
        at.waiting = True
        if len(at.data) - at.offset > self._max_line:
            self._skipped = len(at.data) - at.offset
            at.offset = len(at.data)

    def _pass_long(self, at: Cursor) -> None:
        """Pass what belongs to a record that is too long."""
        if not self._skipped:
            return
        end = at.data.find(b"\n")
        if end < 0:
            self._skipped += len(at.data)
            at.offset, at.waiting = len(at.data), True
            if not at.final:
                return
        else:
            self._skipped += end
            at.offset = end + 1
        self._reject("size", at.place.at(at.line), self._skipped, _DETAILS[Reason.SIZE][1])
        at.line += end >= 0
        self._skipped = 0

    def _open(self, at: Cursor) -> None:
        """Pass the byte order mark at the start of a file."""
        if not self._at_start or at.waiting:
            return
        if len(at.data) < len(_BOM) and not at.final:
            at.waiting = True
            return
        self._at_start = False
        if at.data.startswith(_BOM):
            at.offset = len(_BOM)

    _line_detail = "expected one JSON object"

    @abstractmethod
    def _split(self, at: Cursor) -> int:
        """Find the records of a piece of the file."""

    @abstractmethod
    def _parse(self, data: bytes, spans: I64Array, first: int) -> tuple[int, int]:
        """Read records into the parser's columns."""

    def _cells_detail(self, found: int) -> str:
        return ""

    # -- what comes out ------------------------------------------------------------------------------------

    def _reject(self, reason: str, place: str, length: int, detail: str, readings: int = 1) -> None:
        self._counts[reason] += readings
        if len(self._rejected) < MAX_DETAILS:
            self._rejected.append(Rejected(reason, place, length, detail, readings))

    def _note_rejects(self, spans: I64Array, place: Place) -> None:
        raw = self._parser.take_rejects()
        if not raw:
            return
        for record, code, cells, found in np.frombuffer(raw, np.int64).reshape(-1, 4).tolist():
            start, end, _, line = spans[record].tolist()
            if code == Reason.CELLS:
                reason, detail = "line", self._cells_detail(found)
            else:
                reason, detail = _DETAILS[Reason(code)]
                if code == Reason.LINE:
                    detail = self._line_detail
            self._reject(reason, place.at(line), end - start, detail, max(1, cells))

    def _take(self, at: Cursor, consumed: int, line: int) -> Decoded:
        """Hand out the rows held and what was rejected since the last time."""
        block = None
        if self._parser.rows:
            block = self._block(at.place)
        out = Decoded(
            block, consumed, line - at.place.line, whole=True, rejected=self._rejected,
            rejected_counts=self._counts,
        )  # fmt: skip
        self._rejected, self._counts = [], Counter()
        return out

    def _block(self, place: Place) -> Block:
        ignored = self._parser.ignored
        raw_time, raw_local, raw_lines, taken = self._parser.take()
        time = np.frombuffer(raw_time, np.int64)
        if self._stamped:
            time = np.full(len(time), self._clock.wall_ns(), np.int64)
        elif self._local is not None:
            local = np.frombuffer(raw_local, np.bool_)
            if local.any():
                time = time.copy()
                time[local] = self._local.to_utc(time[local])
        block = self._fields.block(time, taken)
        if ignored:
            self._reject("fields", place.name, 0, "the stream has more fields than it may", ignored)
        self._note_cells(block, raw_lines, place)
        return block

    def _note_cells(self, block: Block, raw_lines: bytes, place: Place) -> None:
        """Count the values that became null because of what they are."""
        for spec, column in zip(block.schema.fields, block.columns, strict=True):
            if column.quality is None:
                continue
            for code, reason in _CELL_REASONS.items():
                rows = np.flatnonzero(column.quality == code)
                if not len(rows):
                    continue
                line = int(np.frombuffer(raw_lines, np.int64)[rows[0]])
                detail = f"field `{spec.name}`: the value does not fit its type or limit, {spec.type}"
                self._reject(reason, place.at(line), 0, detail, len(rows))
