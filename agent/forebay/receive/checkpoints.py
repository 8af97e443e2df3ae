"""Signed checkpoints against what is stored: who signed, whether one is missing, whether the batches are those."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from forebay.errors import WireError
from forebay.signing import verify
from forebay.wire.checkpoint import DOMAIN, Leaf, Statement, digest, root_of
from forebay.wire.messages import Checkpoint

log = logging.getLogger("forebay.receive")


class Findings(StrEnum):
    """How a checkpoint compares with what is stored here."""

    OK = "ok"
    UNKNOWN_KEY = "unknown_key"  # a relay speaks for a gateway whose key is not enrolled here
    FORGED = "forged"  # not signed by the key that is enrolled for this gateway
    MISMATCH = "mismatch"  # batches that the gateway delivered are missing here, or are others
    CHAIN_BROKEN = "chain_broken"  # a checkpoint before this one never arrived
    RESTARTED = "restarted"  # the gateway counts from 1 again: a new spool
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint as it is kept, whatever was found."""

    gateway: str
    number: int
    digest: bytes
    previous: bytes
    boot: str
    batches: int
    body: bytes
    signature: bytes
    verdict: Findings
    detail: str


class Shelf(Protocol):
    """What checking needs of a sink."""

    def tags(self, gateway: str, epoch: int, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and tag of the stored batches in a range, in order."""

    def checkpoint_digests(self, gateway: str, number: int) -> set[bytes]:
        """Return the digests of the verified checkpoints kept under a number."""

    def checkpoints_of(self, gateway: str) -> int:
        """Return the highest number of a verified checkpoint, 0 if there is none."""

    def keep_checkpoint(self, kept: Kept, received_at: int) -> None:
        """Keep it; one that is there already stays as it is. Raises ForebayError."""


def examine(gateway: str, signing_key: bytes | None, message: Checkpoint, shelf: Shelf) -> Kept:
    """Return what is to be kept of a checkpoint, with the verdict."""
    name = digest(message.body)

    def kept(verdict: Findings, detail: str, said: Statement | None = None) -> Kept:
        number, previous = (said.number, said.previous) if said else (0, b"")
        boot, batches = (said.boot, said.batches) if said else ("", 0)
        # What nobody has signed may be anything: its place and size are kept, its bytes are not.
        bodies = (message.body, message.signature) if said else (b"", b"")
        return Kept(gateway, number, name, previous, boot, batches, *bodies, verdict, detail)

    if signing_key is None:
        return kept(
            Findings.UNKNOWN_KEY, "the gateway's key is not enrolled here: enroll it to have this verified"
        )
    if not verify(signing_key, DOMAIN + message.body, message.signature):
        return kept(Findings.FORGED, "the signature is not that of the enrolled key")
    try:
        said = Statement.parse(message.body)
    except WireError as error:
        return kept(Findings.UNREADABLE, error.message)
    if said.gateway != gateway:
        return kept(Findings.FORGED, "it is signed for another gateway")
    return kept(*_compare(gateway, said, shelf), said)


def _compare(gateway: str, said: Statement, shelf: Shelf) -> tuple[Findings, str]:
    missing = _missing(gateway, said, shelf)
    if missing:
        return Findings.MISMATCH, f"{missing} batches that were acknowledged to the gateway are not stored"
    if root_of(_leaves(gateway, said, shelf)) != said.root:
        return Findings.MISMATCH, "stored batches are not those that the gateway signed"
    if said.number == 1 and not said.previous:
        last = shelf.checkpoints_of(gateway)
        return (Findings.RESTARTED, f"after number {last}") if last > 1 else (Findings.OK, "")
    if said.previous not in shelf.checkpoint_digests(gateway, said.number - 1):
        return Findings.CHAIN_BROKEN, f"number {said.number - 1} as the gateway signed it is not here"
    return Findings.OK, ""


def _leaves(gateway: str, said: Statement, shelf: Shelf) -> Iterator[Leaf]:
    for epoch, low, high in sorted(said.covered):
        for seq, tag in shelf.tags(gateway, epoch, low, high):
            yield epoch, seq, tag


def _missing(gateway: str, said: Statement, shelf: Shelf) -> int:
    return said.batches - sum(1 for _ in _leaves(gateway, said, shelf))


def tell(kept: Kept) -> None:
    """Write a verdict to the log: everything but a good one is an alarm."""
    if kept.verdict is Findings.OK:
        log.debug("checkpoint verified gateway=%s number=%d", kept.gateway, kept.number)
    elif kept.verdict is Findings.RESTARTED:
        log.warning("a gateway's checkpoints begin anew gateway=%s: %s", kept.gateway, kept.detail)
    elif kept.verdict is Findings.UNKNOWN_KEY:
        log.info("a checkpoint cannot be verified gateway=%s: %s", kept.gateway, kept.detail)
    else:
        log.error(
            "a signed checkpoint does not agree with what is stored gateway=%s number=%d verdict=%s: %s",
            kept.gateway,
            kept.number,
            kept.verdict,
            kept.detail,
        )
