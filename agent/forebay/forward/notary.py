"""Signed checkpoints on the agent's side: builds a statement now and then, has it signed, sees it kept.

The tags of acknowledged batches wait in the spool as receipts, written in the transaction that deletes the batch,
until a checkpoint that covers them is confirmed. So each batch is in one, whatever crashes in between.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from forebay.clock import Clock
from forebay.errors import ForebayError
from forebay.forward.link import SpoolDoor
from forebay.forward.memory import LinkMemory
from forebay.wire.checkpoint import (
    DOMAIN,
    MOST_BATCHES,
    MOST_LEDGER,
    MOST_RANGES,
    Statement,
    digest,
    ledger_hash,
    ranges_of,
    root_of,
)
from forebay.wire.envelope import Stamp
from forebay.wire.messages import Checkpoint

log = logging.getLogger("forebay.forward")

RESEND_NS = 60 * 1_000_000_000  # an answer that has not come by then is asked for again
SIGN_AGAIN_NS = 600 * 1_000_000_000  # after a failure to sign


class Checkpoints(Protocol):
    """Where a session takes checkpoints from: the gateway's notary, or a relay that carries those of others."""

    def look(self, door: SpoolDoor) -> Checkpoint | None:
        """Return a checkpoint that is to be sent now, if there is one."""

    def sent(self) -> None:
        """The checkpoint that `look` returned is on its way."""

    def resend(self) -> None:
        """A new session: what the last one sent may be lost."""

    def answered(self, name: bytes, verdict: str, door: SpoolDoor) -> None:
        """Take the receiver's answer: the checkpoint is kept there, whatever it found."""


@dataclass(slots=True)
class _Open:
    """A checkpoint on its way to be confirmed."""

    body: bytes
    number: int
    last_receipt: int
    signature: bytes = b""
    failed: str = ""
    sent_ns: int | None = None
    thread: threading.Thread | None = field(default=None, repr=False)


class Notary:
    """Used by the forwarder's thread; only signing runs in another.

    Parameters
    ----------
    identity : gateway and boot
    every_ns : time between checkpoints; there is none when nothing was acknowledged since
    sign : returns the signature of a message, may take a second
    epochs : returns lane and next number of each epoch in use
    audit : returns head and count of the audit log as bytes, empty if there is none
    """

    def __init__(
        self,
        identity: tuple[str, str],
        every_ns: int,
        sign: Callable[[bytes], bytes],
        memory: LinkMemory,
        clock: Clock,
        epochs: Callable[[], dict[int, tuple[str, int]]],
        audit: Callable[[], bytes] = bytes,
    ) -> None:
        self._identity, self._every_ns, self._sign = identity, every_ns, sign
        self._memory, self._clock, self._epochs, self._audit = memory, clock, epochs, audit
        self._open: _Open | None = None
        self._due_ns: int | None = None

    def look(self, door: SpoolDoor) -> Checkpoint | None:
        """Return a checkpoint that is to be sent now, if there is one. Starts one when it is time."""
        now = self._clock.monotonic_ns()
        if self._due_ns is None:  # what an earlier run left uncovered is covered at once
            self._due_ns = now if door.reader.receipts(1) else now + self._every_ns
        if self._open is None and now >= self._due_ns:
            self._due_ns = now + self._every_ns
            self._begin(door)
        if self._open is not None and self._open.failed:
            log.error("no checkpoint can be signed: %s", self._open.failed)
            self._open, self._due_ns = None, now + SIGN_AGAIN_NS
        waiting = self._open
        if waiting is None or not waiting.signature:
            return None
        if waiting.sent_ns is not None and now - waiting.sent_ns < RESEND_NS:
            return None
        return Checkpoint(waiting.body, waiting.signature)

    def sent(self) -> None:
        """The checkpoint that `look` returned is on its way."""
        if self._open is not None:
            self._open.sent_ns = self._clock.monotonic_ns()

    def resend(self) -> None:
        """A new session: what the last one sent may be lost."""
        if self._open is not None:
            self._open.sent_ns = None

    def answered(self, name: bytes, verdict: str, door: SpoolDoor) -> None:
        """Take the receiver's answer: the checkpoint is kept there, whatever it found."""
        waiting = self._open
        if waiting is None or digest(waiting.body) != name:
            return
        if verdict not in ("ok", "restarted"):
            log.error("the center does not have what this gateway delivered, it says: %s", verdict)
        self._memory.number, self._memory.digest = waiting.number, name
        self._memory.save()
        door.answer(receipts_covered=[waiting.last_receipt])
        self._open = None

    def _begin(self, door: SpoolDoor) -> None:
        body = self._statement(door)
        if body is None:
            return
        waiting = self._open = body

        def work() -> None:
            try:
                waiting.signature = self._sign(DOMAIN + waiting.body)
            except (ForebayError, OSError) as error:
                waiting.failed = str(error)
            door.wake()

        waiting.thread = threading.Thread(target=work, name="notary", daemon=True)
        waiting.thread.start()

    def _statement(self, door: SpoolDoor) -> _Open | None:
        receipts = list(door.reader.receipts(MOST_BATCHES))
        if not receipts:
            return None
        leaves = sorted((epoch, seq, tag) for _, epoch, seq, tag in receipts)
        covered = ranges_of(leaves)
        if len(covered) > MOST_RANGES:  # holes everywhere: as many as fit, in the order of acknowledgement
            receipts = receipts[:MOST_RANGES]
            leaves = sorted((epoch, seq, tag) for _, epoch, seq, tag in receipts)
            covered = ranges_of(leaves)
        entries = [(s, k, r, int(n)) for s, k, r, n in door.reader.ledger_entries()]
        number = self._memory.number + 1
        said = Statement(
            *self._identity,
            number,
            self._memory.digest,
            Stamp(self._clock.wall_ns(), self._clock.monotonic_ns(), self._clock.state()),
            self._epochs(),
            covered,
            len(leaves),
            root_of(leaves),
            entries if len(entries) <= MOST_LEDGER else [],
            ledger_hash(entries),
            self._audit(),
        )
        return _Open(said.pack(), number, receipts[-1][0])
