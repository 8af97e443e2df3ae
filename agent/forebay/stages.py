"""What stages hand to each other, and the interfaces that they meet. No logic, no IO.

    source --Chunk--> pipeline worker (steps, mask, guard, seal) --Commit--> spool writer --> forwarder

A Commit is atomic: batches, ledger counts, the source's position and the state of the steps it passed are
one transaction, so after any crash either all of it happened or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from forebay.blocks import Block, Lane


@dataclass(slots=True)
class Rejected:
    """A record that could not become a row: where and why, never what.

    `place` is e.g. `pump.csv:17`, `length` its size in bytes, `reason` a short name counted in the ledger
    (`line`, `type`, `size`, `utf8`, `time`), `detail` a sentence for the log.
    """

    reason: str
    place: str
    length: int
    detail: str
    readings: int = 1


@dataclass(slots=True)
class Chunk:
    """What a source read in one go, and the position after it.

    Attributes
    ----------
    blocks : in order of arrival; each within the row limits of forebay.blocks
    position : opaque bytes from which the source goes on after this chunk, stored in the same transaction
        as the readings. None: the source has none, or this chunk does not move it.
    rejected : broken records; at most a few carry detail, `rejected_counts` holds the full count
    rejected_counts : readings per reason, cells and whole records together
    done : called once with True when everything in the chunk is durable (or dropped on purpose and counted),
        with False when it could not be committed. From any thread; must not block. For sources whose sender
        waits for an answer.
    nbytes : what the bounded queue counts
    wants_reply : the sender waits, so the chunk does not linger
    """

    blocks: list[Block]
    position: bytes | None = None
    rejected: list[Rejected] = field(default_factory=list)
    rejected_counts: Counter[str] = field(default_factory=Counter)
    done: Callable[[bool], None] | None = None
    nbytes: int = 0
    wants_reply: bool = False


class Emit(Protocol):
    """How a source hands a chunk on. Blocks while the queue is full (back-pressure)."""

    def __call__(self, chunk: Chunk) -> bool:
        """Return False when the agent is stopping: the source then returns from `run`."""


class Source(Protocol):
    """A place that data comes from. Runs in a thread of its own."""

    replayable: bool  # True: each pipeline gets an instance of its own with its own position

    def run(self, emit: Emit, position: bytes | None) -> None:
        """Read until `stop` or, if finite, until the end. Raise ForebayError for what a restart may mend."""

    def stop(self) -> None:
        """Ask `run` to return soon. From any thread."""


@runtime_checkable
class Replayable(Protocol):
    """A source that can be read again from a position."""

    def at_end(self) -> bytes | None:
        """Return a position behind everything that is there now."""


class Step(Protocol):
    """One step of a pipeline. Used by one worker thread only."""

    name: str

    def process(self, block: Block) -> list[Block]:
        """Return what goes on: usually one block; none if all was dropped; alarms as blocks of their own."""

    def flush(self) -> list[Block]:
        """Return what is still held (an unfinished window) at the end of a finite source."""

    def state(self) -> bytes | None:
        """Return what `restore` needs to go on after a restart, None if the step keeps nothing."""

    def restore(self, state: bytes) -> None:
        """Take over a saved state. Raise ForebayError if it is of another configuration."""


@dataclass(slots=True, frozen=True)
class Sealed:
    """A batch as it will be stored and sent, but for its number.

    `data` is the envelope with its payload, `tag` the 16-byte content tag over it.
    """

    stream: str
    lane: Lane
    data: bytes
    tag: bytes
    rows: int
    readings: int
    first_time: int
    last_time: int
    bodies: tuple[bytes, ...] = ()  # ids of the schema and context it needs


Tally = Counter[tuple[str, str, str]]
"""Hits of masking by stream, field and rule (`class:operator`)."""

LedgerCounts = Counter[tuple[str, str, str]]
"""By stream, kind and reason: readings, but for the kind `model`, which counts what its reason says."""


@dataclass(frozen=True, slots=True)
class AuditNote:
    """What masking did to the rows of a commit, for the audit log: never a value.

    `facts` are gateway, agent, boot, policy, policy_hash and key_id.
    """

    facts: dict[str, str]
    hits: Tally
    wall_ns: int
    monotonic_ns: int


@dataclass(slots=True)
class Commit:
    """One atomic step forward of one pipeline.

    `ledger` counts as LedgerCounts says; `bodies` are schema and context bodies by id;
    `done` are called after the transaction (True) or when it failed for good (False); `audit_note` goes
    into the audit log in the same transaction.
    """

    owner: str  # `source/pipeline`: whose position and state
    batches: list[Sealed] = field(default_factory=list)
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    ledger: LedgerCounts = field(default_factory=Counter)
    position: bytes | None = None
    state: dict[str, bytes] = field(default_factory=dict)
    done: list[Callable[[bool], None]] = field(default_factory=list)
    audit_note: AuditNote | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the transaction will store."""
        return sum(len(b.data) for b in self.batches)
