"""What a session needs of the rest of the agent: its settings and the door to the spool."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from forebay.errors import LinkError

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Settings of the forwarder. Times in ns."""

    window: int = 64
    window_bytes: int = 16 * 1024 * 1024
    connect_timeout_ns: int = 5 * NS
    ack_timeout_ns: int = 15 * NS
    backoff_min_ns: int = NS // 5
    backoff_max_ns: int = 30 * NS
    heartbeat_ns: int = NS // 2
    rate: int = 0  # bytes a second, 0: no limit
    newest_first: bool = False  # order of the backlog
    backfill_share: float = 0.5  # of the bytes while live data waits as well
    flush_jitter_ns: int = 0
    thin_keep: int = 1
    store: str = ""  # the only store that is accepted; empty: the first one met


class BatchRow(Protocol):
    """A batch as the spool's reader returns it."""

    @property
    def id(self) -> int:
        """Row id."""

    @property
    def lane(self) -> str:
        """Lane."""

    @property
    def epoch(self) -> int:
        """Epoch."""

    @property
    def seq(self) -> int:
        """Number within the epoch."""

    @property
    def stream(self) -> str:
        """Stream."""

    @property
    def schema_id(self) -> bytes:
        """Id of its schema body."""

    @property
    def context_id(self) -> bytes:
        """Id of its context body."""

    @property
    def tag(self) -> bytes:
        """Content tag."""

    @property
    def data(self) -> bytes:
        """Sealed bytes."""


class SpoolReader(Protocol):
    """What is read of the spool."""

    def pending(self, lane: str, after: int, limit: int, *, newest_first: bool = False) -> Sequence[BatchRow]:
        """Return waiting batches of a lane above an id, oldest first; or below it, newest first."""

    def batch(self, batch_id: int) -> BatchRow | None:
        """Return one batch."""

    def exists(self, batch_id: int) -> bool:
        """Return whether a batch still waits."""

    def bodies(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return bodies by id."""

    def gaps(self, limit: int) -> Sequence[Any]:
        """Return unconfirmed gaps: tuples of id and the fields of messages.Gap."""

    def look_for_hidden(self) -> None:
        """See whether something waits that `pending` does not find, and have it salvaged."""

    def lost_by_center(self, epoch: int, next_seq: int, mark: int) -> Sequence[tuple[int, int]]:
        """Return ranges that the center acknowledged once and has no more."""

    def receipts(self, limit: int) -> Sequence[tuple[int, int, int, bytes]]:
        """Return id, epoch, seq and tag of batches that were acknowledged and are in no checkpoint yet."""

    def ledger_entries(self) -> Sequence[tuple[str, str, str, int]]:
        """Return (stream, kind, reason, readings)."""

    def close(self) -> None:
        """Close."""


class SpoolClaims(Protocol):
    """Which batches are on the wire."""

    def claim(self, batch_id: int, exists: Callable[[int], bool]) -> bool:
        """Mark as sent, unless it is gone or being evicted."""

    def release(self, ids: Any) -> None:
        """Mark as off the wire and to be sent again."""


class Link(Protocol):
    """A connection to one receiver. `forward.socket.ZmqLink` is the real one."""

    endpoint: str

    def send(self, frames: list[bytes]) -> bool:
        """Send a message. Return False when the queue is full."""

    def receive(self, timeout_ms: int) -> Iterable[list[bytes]]:
        """Wait for messages, a wake-up of the door or the time, and return what has come. Raises LinkError."""

    def close(self) -> None:
        """Drop the connection."""


class Held(LinkError):
    """The receiver refuses for a reason that will not pass by itself: try seldom."""


class Unanswered(LinkError):
    """Something was sent and nothing has come back for too long."""


class SpoolDoor:
    """The forwarder's side of the spool. `wake` is called by the writer after each commit."""

    def __init__(self, reader: SpoolReader, claims: SpoolClaims, answer: Callable[..., None]) -> None:
        self.reader, self.claims, self.answer = reader, claims, answer
        self.delivered = 0  # batches acknowledged since start
        self.given_up: set[int] = set()  # thinned, and perhaps still there until the writer has deleted them
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(self) -> None:
        """Tell the session that there is more. From any thread."""
        if self.wake_fd >= 0:
            os.eventfd_write(self.wake_fd, 1)

    def take_wake(self) -> None:
        """Take the wake-up back."""
        try:
            os.eventfd_read(self.wake_fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close reader and wake-up."""
        descriptor, self.wake_fd = self.wake_fd, -1  # a number may be another file's once it is closed
        if descriptor >= 0:
            self.reader.close()
            os.close(descriptor)
