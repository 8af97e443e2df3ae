"""Messages between agent and receiver: frame 0 is a msgpack array that begins with its kind.

    agent -> receiver   HELLO, BATCH (frame 1: sealed bytes), BODIES, GAPS, CHECKPOINT
    receiver -> agent   WELCOME, ACK, RETRY_LATER, PERMANENT, NEED_SCHEMA, CONFLICT, GAPS_ACK, REFUSED,
                        UPGRADE_NEEDED, CHECKPOINT_ACK

docs/wire-format.md gives every field. A kind that this version does not know is a WireError: the receiver
answers UPGRADE_NEEDED, the agent closes the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from enum import IntEnum
from itertools import tee
from typing import Any, ClassVar, TypeVar

from forebay.blocks import Lane
from forebay.errors import WireError
from forebay.wire.envelope import ID_BYTES, MAX_POSITION_BYTES, TAG_BYTES
from forebay.wire.packing import pack, unpack

PROTOCOL = 1
MAX_CONTROL_BYTES = 1024 * 1024
MAX_CHECKPOINT_BYTES = 512 * 1024
MAX_NUMBERS = 1024  # most batches named in one reply
MAX_OWNERS = 256  # most owners whose position a WELCOME gives
MAX_OWNER = 512  # characters of an owner
MAX_POSITIONS_BYTES = 512 * 1024  # all of them together
LANES = tuple(Lane)


class Kind(IntEnum):
    """First item of frame 0."""

    HELLO = 1
    BATCH = 2
    BODIES = 3
    GAPS = 4
    CHECKPOINT = 5
    WELCOME = 16
    ACK = 17
    RETRY_LATER = 18
    PERMANENT = 19
    NEED_SCHEMA = 20
    CONFLICT = 21
    UPGRADE_NEEDED = 22
    GAPS_ACK = 23
    REFUSED = 24
    CHECKPOINT_ACK = 25


Number = tuple[int, int]  # (epoch, seq)
Position = tuple[int, int, bytes]  # (epoch, seq, position)


@dataclass(frozen=True, slots=True)
class Hello:
    """Opens a session. `epochs` maps each epoch in use to its lane and the number given next.

    `asks`: the spool is new, was damaged or may be an older copy, and does not know how far its sources were read.
    """

    KIND: ClassVar = Kind.HELLO
    protocol: int
    gateway: str
    boot: str
    agent: str
    epochs: dict[int, tuple[str, int]]
    store: str  # the store id this agent is bound to, empty at first
    asks: bool = field(default=False, repr=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """Announces a batch; frame 1 holds its sealed bytes."""

    KIND: ClassVar = Kind.BATCH
    lane: str
    epoch: int
    seq: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class Bodies:
    """Schema and context bodies."""

    KIND: ClassVar = Kind.BODIES
    bodies: list[bytes]


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers that will never arrive, and why. Both ends are inside."""

    epoch: int
    seq_from: int
    seq_to: int
    stream: str
    rows: int
    readings: int
    first_time: int
    last_time: int
    cause: str


@dataclass(frozen=True, slots=True)
class Gaps:
    """Closes numbers."""

    KIND: ClassVar = Kind.GAPS
    gaps: list[Gap]


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answers HELLO. `marks` gives for each epoch asked for the number up to which all is stored.

    `above` gives the ranges above it that are stored as well; None: a receiver of before there were checkpoints.
    `positions` answers a hello that asks: by owner (`source/pipeline`) the newest batch stored that says where its
    source stands, and what it says; None where batches are stored and none says. None: nobody asked, or an older
    receiver.
    """

    KIND: ClassVar = Kind.WELCOME
    protocol: int
    center: str
    store: str
    window: int
    max_bytes: int
    marks: dict[int, int]
    above: dict[int, list[Number]] | None = None
    positions: dict[str, Position | None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Ack:
    """Stored by every required sink, now or before."""

    KIND: ClassVar = Kind.ACK
    numbers: list[Number]


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Not stored; send again after `delay_ms`."""

    KIND: ClassVar = Kind.RETRY_LATER
    numbers: list[Number]
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Permanent:
    """Will never be stored."""

    KIND: ClassVar = Kind.PERMANENT
    numbers: list[Number]
    reason: str


@dataclass(frozen=True, slots=True)
class NeedSchema:
    """The bodies of these ids are missing for these batches; send them and the batches again."""

    KIND: ClassVar = Kind.NEED_SCHEMA
    ids: list[bytes]
    numbers: list[Number]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another batch with the same number is stored."""

    KIND: ClassVar = Kind.CONFLICT
    numbers: list[Number]


@dataclass(frozen=True, slots=True)
class UpgradeNeeded:
    """The receiver does not speak this version."""

    KIND: ClassVar = Kind.UPGRADE_NEEDED
    protocols: list[int]


@dataclass(frozen=True, slots=True)
class GapsAck:
    """The gaps that begin with these numbers are recorded."""

    KIND: ClassVar = Kind.GAPS_ACK
    numbers: list[Number]


@dataclass(frozen=True, slots=True)
class Refused:
    """The session is not accepted."""

    KIND: ClassVar = Kind.REFUSED
    reason: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of what this gateway has delivered; see forebay.wire.checkpoint."""

    KIND: ClassVar = Kind.CHECKPOINT
    body: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class CheckpointAck:
    """The checkpoint with this digest is kept; `verdict` says how it compares with what is stored."""

    KIND: ClassVar = Kind.CHECKPOINT_ACK
    digest: bytes
    verdict: str


Message = (
    Hello
    | Batch
    | Bodies
    | Gaps
    | Welcome
    | Ack
    | RetryLater
    | Permanent
    | NeedSchema
    | Conflict
    | UpgradeNeeded
    | GapsAck
    | Refused
    | Checkpoint
    | CheckpointAck
)


def encode(message: Message) -> bytes:
    """Return frame 0 of a message."""
    if isinstance(message, Gaps):
        return pack([message.KIND, [astuple(gap) for gap in message.gaps]])
    items = [getattr(message, name) for name in message.__slots__]
    for item in _LATER.get(message.KIND, ()):  # left out they are as older releases wrote it
        if item(message):
            items.pop()
    return pack([message.KIND, *items])


_LATER: dict[int, tuple[Callable[[Any], bool], ...]] = {
    Kind.HELLO: (lambda m: not m.asks,),
    Kind.WELCOME: (lambda m: m.positions is None, lambda m: m.positions is None and m.above is None),
}
"""Items that came later, the last one first: whether each is left out."""


def decode(frame: bytes | memoryview) -> Message:
    """Read frame 0. Raises WireError."""
    raw = unpack(frame, max_items=4 * MAX_NUMBERS, max_bytes=MAX_CONTROL_BYTES)
    if not isinstance(raw, list) or not raw or type(raw[0]) is not int:
        raise WireError("expected a message that begins with its kind")
    reader = _READERS.get(raw[0])
    if reader is None:
        raise WireError(f"unknown message kind {raw[0]}")
    return reader(_Items(raw))


T = TypeVar("T")


class _Items:
    """Takes the items of a message one by one, checking each."""

    def __init__(self, raw: list[Any]) -> None:
        self._raw = iter(raw[1:])

    def _next(self) -> Any:
        try:
            return next(self._raw)
        except StopIteration:
            raise WireError("the message has too few items") from None

    def integer(self, low: int = -(2**63), high: int = 2**63 - 1) -> int:
        return _as_int(self._next(), low, high)

    def text(self, most: int = 4096) -> str:
        return _as_text(self._next(), most)

    def binary(self, most: int) -> bytes:
        return _as_binary(self._next(), most)

    def items(self, read: Callable[[Any], T], most: int = MAX_NUMBERS) -> list[T]:
        raw = self._next()
        if not isinstance(raw, list) or len(raw) > most:
            raise WireError(f"expected a list of at most {most}")
        return [read(item) for item in raw]

    def ended(self) -> bool:
        """Return whether nothing follows: an item that an older release does not send."""
        self._raw, rest = tee(self._raw)
        return next(rest, None) is None

    def flag(self) -> bool:
        value = self._next()
        if not isinstance(value, bool):
            raise WireError("expected a truth value")
        return value

    def positions(self) -> dict[str, Position | None]:
        raw = self._next()
        if not isinstance(raw, dict) or len(raw) > MAX_OWNERS:
            raise WireError(f"expected a map of at most {MAX_OWNERS} positions")
        return {
            _as_text(owner, MAX_OWNER): None if value is None else _position(value)
            for owner, value in raw.items()
        }

    def mapping(self, read: Callable[[Any], T], most: int = MAX_NUMBERS) -> dict[int, T]:
        raw = self._next()
        if not isinstance(raw, dict) or len(raw) > most:
            raise WireError(f"expected a map of at most {most}")
        return {_as_int(key): read(value) for key, value in raw.items()}


def _as_int(value: Any, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    if type(value) is not int or not low <= value <= high:
        raise WireError("expected a 64-bit integer")
    return value


def _as_text(value: Any, most: int = 4096) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise WireError(f"expected a text of at most {most} characters")
    return value


def _as_binary(value: Any, most: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > most:
        raise WireError(f"expected at most {most} bytes")
    return value


def _number(raw: Any) -> Number:
    if not isinstance(raw, list) or len(raw) != 2:
        raise WireError("expected (epoch, seq)")
    return _as_int(raw[0], 0), _as_int(raw[1], 0)


def _position(raw: Any) -> Position:
    if not isinstance(raw, list) or len(raw) != 3:
        raise WireError("expected (epoch, seq, position)")
    return _as_int(raw[0], 0), _as_int(raw[1], 0), _as_binary(raw[2], MAX_POSITION_BYTES)


def _epoch_entry(raw: Any) -> tuple[str, int]:
    if not isinstance(raw, list) or len(raw) != 2:
        raise WireError("expected (lane, next number)")
    return _as_lane(raw[0]), _as_int(raw[1], 0)


def _as_lane(value: Any) -> str:
    if value not in LANES:
        raise WireError("expected a lane")
    return str(value)


def _gap(raw: Any) -> Gap:
    if not isinstance(raw, list) or len(raw) != 9:
        raise WireError("expected a gap of nine items")
    numbers = [_as_int(raw[i]) for i in (0, 1, 2, 4, 5, 6, 7)]
    epoch, low, high, rows, readings, first, last = numbers
    if min(epoch, low, rows, readings) < 0 or high < low:
        raise WireError("expected a gap that begins before it ends")
    return Gap(epoch, low, high, _as_text(raw[3], 256), rows, readings, first, last, _as_text(raw[8], 64))


def _hello(i: _Items) -> Message:
    names = (i.integer(0), i.text(128), i.text(128), i.text(64))
    return Hello(*names, i.mapping(_epoch_entry, 64), i.text(128), not i.ended() and i.flag())


def _welcome(i: _Items) -> Message:
    head = (i.integer(0), i.text(128), i.text(128), i.integer(1), i.integer(1), i.mapping(_as_int, 64))
    above = None if i.ended() else i.mapping(_ranges, 64)
    return Welcome(*head, above, None if i.ended() else i.positions())


def _ranges(raw: Any) -> list[Number]:
    if not isinstance(raw, list) or len(raw) > MAX_NUMBERS:
        raise WireError(f"expected at most {MAX_NUMBERS} ranges")
    return [_number(item) for item in raw]


_READERS: dict[int, Callable[[_Items], Message]] = {
    Kind.HELLO: _hello,
    Kind.BATCH: lambda i: Batch(i.text(16), i.integer(0), i.integer(0), i.binary(TAG_BYTES)),
    Kind.BODIES: lambda i: Bodies(i.items(lambda b: _as_binary(b, MAX_CONTROL_BYTES), 256)),
    Kind.GAPS: lambda i: Gaps(i.items(_gap, 256)),
    Kind.WELCOME: _welcome,
    Kind.ACK: lambda i: Ack(i.items(_number)),
    Kind.RETRY_LATER: lambda i: RetryLater(i.items(_number), i.integer(0, 3_600_000)),
    Kind.PERMANENT: lambda i: Permanent(i.items(_number), i.text(256)),
    Kind.NEED_SCHEMA: lambda i: NeedSchema(i.items(lambda b: _as_binary(b, ID_BYTES), 256), i.items(_number)),
    Kind.CONFLICT: lambda i: Conflict(i.items(_number)),
    Kind.UPGRADE_NEEDED: lambda i: UpgradeNeeded(i.items(_as_int, 16)),
    Kind.GAPS_ACK: lambda i: GapsAck(i.items(_number)),
    Kind.REFUSED: lambda i: Refused(i.text(256)),
    Kind.CHECKPOINT: lambda i: Checkpoint(i.binary(MAX_CHECKPOINT_BYTES), i.binary(64)),
    Kind.CHECKPOINT_ACK: lambda i: CheckpointAck(i.binary(32), i.text(32)),
}
