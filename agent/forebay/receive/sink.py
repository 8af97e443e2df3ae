"""What a receiver asks of a sink."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from forebay.blocks import Block, Schema
from forebay.receive.checkpoints import Kept
from forebay.receive.marks import Marks
from forebay.receive.positions import Place
from forebay.wire.envelope import Context, Envelope, Exported, content_tag
from forebay.wire.messages import Gap


class Verdict(StrEnum):
    """What became of a batch."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # stored before, with the same tag: acknowledged
    CONFLICT = "conflict"  # another batch has this number
    TOO_FAR = "too_far"  # beyond the 256 ranges above the mark that are remembered
    REFUSED = "refused"  # will never be stored; see `reason`


@dataclass(slots=True)
class Incoming:
    """A batch that was read and checked, ready to be stored.

    `gateway` is whose data it is; `block` is None when the payload could not be placed and is kept whole.
    """

    gateway: str
    lane: str
    epoch: int
    seq: int
    tag: bytes
    data: bytes
    wire_bytes: int
    envelope: Envelope
    schema: Schema
    schema_body: bytes
    context: Context
    context_body: bytes
    block: Block | None
    verdict: Verdict | None = None
    reason: str = ""

    def exported(self) -> bytes:
        """Return it as a file of its own. `tag` may be of bytes that were locked for the center; these are open."""
        tag = content_tag(self.data)
        bodies = self.schema_body, self.context_body
        return Exported(self.lane, self.epoch, self.seq, tag, self.data, *bodies).pack()


@dataclass(slots=True)
class Work:
    """One transaction's worth."""

    batches: list[Incoming] = field(default_factory=list)
    gaps: list[tuple[str, Gap]] = field(default_factory=list)  # (gateway, gap)
    received_at: int = 0


class Sink(Protocol):
    """A place where readings are kept. Used from the receiver's thread only."""

    store_id: str
    transactional: bool  # False: a crash between store and acknowledgement may store a batch twice

    def store(self, work: Work) -> None:
        """Store all of it in one transaction and set each batch's verdict; durable on return.

        Raises
        ------
        ForebayError
            Nothing was stored; the same work may be tried again.
        """

    def marks(self, gateway: str, epochs: Sequence[int]) -> dict[int, Marks]:
        """Return for each epoch which numbers are stored or closed by a gap."""

    def epochs(self, gateway: str) -> set[int]:
        """Return the epochs of a gateway that something is stored of."""

    def positions(self, gateway: str) -> dict[str, Place]:
        """Return, for each owner (`source/pipeline`) that batches are stored of, where its source stood."""

    def closed(self, gateway: str, gap: Gap) -> bool:
        """Return whether all numbers of a gap are marked, so that it may be confirmed."""

    def body(self, body_id: bytes) -> bytes | None:
        """Return a schema or context body stored before."""

    def tags(self, gateway: str, epoch: int, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and tag of the stored batches in a range, in order."""

    def checkpoint_digests(self, gateway: str, number: int) -> set[bytes]:
        """Return the digests of the verified checkpoints kept under a number."""

    def checkpoints_of(self, gateway: str) -> int:
        """Return the highest number of a verified checkpoint, 0 if there is none."""

    def keep_checkpoint(self, kept: Kept, received_at: int) -> None:
        """Keep a checkpoint; one that is there already stays as it is. Raises ForebayError."""

    def turn(self) -> None:
        """Do what is due beside storing; called several times a second. Raises nothing."""

    def close(self) -> None:
        """Close."""
