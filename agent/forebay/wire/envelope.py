"""A sealed batch: what is stored in the spool, sent, and written by `forebay spool export`.

Invariants
----------
- Sealed bytes are one msgpack array (layout in docs/wire-format.md) that never changes once made; the number
  (epoch, seq) is given later, in the transaction that stores it, and travels beside it.
- The content tag is BLAKE2b-128 over the sealed bytes. Schema and context are named by the hash of their
  bodies, so the tag covers them as well: gateway, boot, policy and models cannot be exchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.errors import WireError
from forebay.wire.packing import pack, unpack

VERSION = 1
TAG_BYTES = 16
ID_BYTES = 8
MAX_BATCH_BYTES = 64 * 1024 * 1024
MAX_HITS = 256
MAX_POSITION_BYTES = 64 * 1024
_EXPORT_MAGIC = "forebay-batch"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Clock evidence of a batch: when it was sealed by both clocks, and how good the wall clock was."""

    wall_ns: int
    monotonic_ns: int
    state: str  # unsynced, synced, stepped


CLOCK_STATES = ("unsynced", "synced", "stepped")


@dataclass(frozen=True, slots=True)
class Context:
    """What many batches share: who made them, in which boot, masked under which policy, by which models."""

    gateway: str
    owner: str  # source/pipeline
    boot: str
    agent: str
    site: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""
    policy_hash: str = ""
    key_id: str = ""
    models: tuple[str, ...] = ()

    def body(self) -> bytes:
        """Return the deterministic bytes whose hash names this context."""
        return pack(
            {
                "kind": "context",
                "gateway": self.gateway,
                "owner": self.owner,
                "boot": self.boot,
                "agent": self.agent,
                "site": self.site,
                "labels": dict(sorted(self.labels.items())),
                "policy": self.policy,
                "policy_hash": self.policy_hash,
                "key_id": self.key_id,
                "models": list(self.models),
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> Context:
        """Read a body. Keys that this version does not know are left. Raises WireError."""
        raw = unpack(body, max_items=1024, max_bytes=64 * 1024)
        if not isinstance(raw, dict) or raw.get("kind") != "context":
            raise WireError("expected a context body")
        names = ("gateway", "owner", "boot", "agent", "site", "policy", "policy_hash", "key_id")
        texts = {name: raw.get(name, "") for name in names}
        labels, models = raw.get("labels", {}), raw.get("models", [])
        pairs = [*labels.keys(), *labels.values()] if isinstance(labels, dict) else [None]
        if not isinstance(models, list) or any(
            not isinstance(t, str) for t in (*texts.values(), *models, *pairs)
        ):
            raise WireError("expected texts in a context body")
        if not texts["gateway"]:
            raise WireError("expected a gateway id in a context body")
        return cls(**texts, labels=labels, models=tuple(models))


@dataclass(frozen=True, slots=True)
class Envelope:
    """Header and payload of a sealed batch. Times are ns since 1970 UTC."""

    schema_id: bytes
    context_id: bytes
    rows: int
    readings: int
    first_time: int
    last_time: int
    stamp: Stamp
    position: bytes | None
    hits: Mapping[str, int]
    payload: bytes

    def pack(self) -> bytes:
        """Return the sealed bytes."""
        return pack(
            [
                VERSION,
                self.schema_id,
                self.context_id,
                self.rows,
                self.readings,
                self.first_time,
                self.last_time,
                [self.stamp.wall_ns, self.stamp.monotonic_ns, CLOCK_STATES.index(self.stamp.state)],
                self.position,
                dict(self.hits),
                self.payload,
            ]
        )

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Envelope:
        """Read sealed bytes. Raises WireError for anything that is not one of a version known here."""
        raw = unpack(data, max_items=MAX_HITS, max_bytes=MAX_BATCH_BYTES)
        if not isinstance(raw, list) or not raw or raw[0] != VERSION:
            raise WireError(f"expected a batch of version {VERSION}")
        if len(raw) < 11:
            raise WireError(f"expected 11 envelope items, found {len(raw)}")
        _, schema_id, context_id, rows, readings, first, last, stamp, position, hits, payload = raw[:11]
        _expect_id(schema_id)
        _expect_id(context_id)
        for number in (rows, readings, first, last):
            _expect_int(number)
        if not isinstance(payload, bytes) or not (position is None or isinstance(position, bytes)):
            raise WireError("expected binary payload and position")
        if not isinstance(hits, dict) or any(not isinstance(k, str) for k in hits):
            raise WireError("expected hits as a map of texts")
        for count in hits.values():
            _expect_int(count)
        return cls(schema_id, context_id, rows, readings, first, last, _stamp(stamp), position, hits, payload)


def _expect_id(value: Any) -> None:
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise WireError(f"expected an id of {ID_BYTES} bytes")


def _expect_int(value: Any) -> None:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise WireError("expected a 64-bit integer in the envelope")


def _stamp(raw: Any) -> Stamp:
    if not isinstance(raw, list) or len(raw) < 3:
        raise WireError("expected a clock stamp of three items")
    for number in raw[:3]:
        _expect_int(number)
    if not 0 <= raw[2] < len(CLOCK_STATES):
        raise WireError("expected a known clock state")
    return Stamp(raw[0], raw[1], CLOCK_STATES[raw[2]])


def content_tag(data: bytes | memoryview) -> bytes:
    """Return the 16-byte content tag of sealed bytes (BLAKE2b, RFC 7693)."""
    return hashlib.blake2b(data, digest_size=TAG_BYTES).digest()


def body_id(body: bytes) -> bytes:
    """Return the 8-byte name of a schema or context body (BLAKE2b, RFC 7693)."""
    return hashlib.blake2b(body, digest_size=ID_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Exported:
    """A batch in a file of its own, with all that is needed to read it."""

    lane: str
    epoch: int
    seq: int
    tag: bytes
    data: bytes
    schema: bytes
    context: bytes

    def pack(self) -> bytes:
        """Return the file's bytes."""
        return pack(
            [
                _EXPORT_MAGIC,
                VERSION,
                self.lane,
                self.epoch,
                self.seq,
                self.tag,
                self.data,
                self.schema,
                self.context,
            ]
        )

    @classmethod
    def unpack(cls, data: bytes) -> Exported:
        """Read a file's bytes and verify tag and ids. Raises WireError."""
        raw = unpack(data, max_items=16, max_bytes=2 * MAX_BATCH_BYTES)
        if not isinstance(raw, list) or len(raw) != 9 or raw[0] != _EXPORT_MAGIC or raw[1] != VERSION:
            raise WireError(f"expected an exported batch of version {VERSION}")
        _, _, lane, epoch, seq, *blobs = raw
        if not isinstance(lane, str) or any(not isinstance(b, bytes) for b in blobs):
            raise WireError("expected a lane and four binaries in an exported batch")
        _expect_int(epoch)
        _expect_int(seq)
        exported = cls(lane, epoch, seq, *blobs)
        envelope = Envelope.unpack(exported.data)
        if content_tag(exported.data) != exported.tag:
            raise WireError("the content tag does not match: the file is damaged")
        if body_id(exported.schema) != envelope.schema_id or body_id(exported.context) != envelope.context_id:
            raise WireError("schema or context are not those of the batch")
        return exported
