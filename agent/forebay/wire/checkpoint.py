"""Signed checkpoints: what a gateway says, over its own signature, that it has delivered.

A relay between gateway and center can acknowledge what it drops, or send what the gateway never made; neither
passes the gateway's signature over the tags of the batches that it was told are stored.

Invariants
----------
- `number` rises by one a checkpoint, and each names the digest of the one before: one that is left out shows.
- `covered` are ranges of acknowledged numbers; `root` is BLAKE2b-256 over them in the order of (epoch, seq), each
  as epoch and seq (8 bytes each, big-endian) and its 16-byte content tag. Numbers closed by gaps are in none.
- What is signed (Ed25519, RFC 8032) is `DOMAIN` and the body.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from forebay.errors import WireError
from forebay.wire.envelope import CLOCK_STATES, Stamp
from forebay.wire.messages import MAX_CHECKPOINT_BYTES
from forebay.wire.packing import pack, unpack

VERSION = 1
DOMAIN = b"forebay checkpoint 1\x00"
MOST_BATCHES = 20_000  # covered by one checkpoint
MOST_RANGES = 4_000
MOST_LEDGER = 2_000  # entries; a longer ledger is signed by its hash alone
DIGEST_BYTES = 32

Leaf = tuple[int, int, bytes]  # epoch, seq, content tag
_NUMBER = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Statement:
    """The body of a checkpoint."""

    gateway: str
    boot: str
    number: int
    previous: bytes  # digest of the checkpoint before, empty for the first
    stamp: Stamp
    epochs: dict[int, tuple[str, int]]  # lane and next number of each epoch in use
    covered: list[tuple[int, int, int]]  # (epoch, from, to)
    batches: int
    root: bytes
    ledger: list[tuple[str, str, str, int]]  # (stream, kind, reason, readings)
    ledger_hash: bytes
    audit: bytes  # head and count of the audit log as its room gives them, empty if there is none

    def pack(self) -> bytes:
        """Return the bytes that are signed and sent."""
        return pack(
            {
                "kind": "checkpoint",
                "v": VERSION,
                "gateway": self.gateway,
                "boot": self.boot,
                "number": self.number,
                "previous": self.previous,
                "stamp": [
                    self.stamp.wall_ns,
                    self.stamp.monotonic_ns,
                    CLOCK_STATES.index(self.stamp.state),
                ],
                "epochs": [[epoch, lane, number] for epoch, (lane, number) in self.epochs.items()],
                "covered": [list(r) for r in self.covered],
                "batches": self.batches,
                "root": self.root,
                "ledger": [list(entry) for entry in self.ledger],
                "ledger_hash": self.ledger_hash,
                "audit": self.audit,
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> Statement:
        """Read a body. Raises WireError."""
        raw = unpack(body, max_items=MOST_RANGES, max_bytes=MAX_CHECKPOINT_BYTES)
        if not isinstance(raw, dict) or raw.get("kind") != "checkpoint" or raw.get("v") != VERSION:
            raise WireError(f"expected a checkpoint of version {VERSION}")
        try:
            wall, monotonic, state = _ints(raw["stamp"], 3)
            made = cls(
                _text(raw["gateway"]),
                _text(raw["boot"]),
                _int(raw["number"]),
                _binary(raw["previous"]),
                Stamp(wall, monotonic, CLOCK_STATES[_int(state)]),
                {_int(epoch): (_text(lane), _int(number)) for epoch, lane, number in raw["epochs"]},
                [_range(item) for item in raw["covered"]],
                _int(raw["batches"]),
                _binary(raw["root"]),
                [(_text(s), _text(k), _text(r), _int(n)) for s, k, r, n in raw["ledger"]],
                _binary(raw["ledger_hash"]),
                _binary(raw["audit"]),
            )
        except (KeyError, TypeError, ValueError, IndexError):
            raise WireError("expected the items of a checkpoint") from None
        if made.batches > MOST_BATCHES or made.batches != sum(b - a + 1 for _, a, b in made.covered):
            raise WireError("expected as many batches as the ranges name, within the limit")
        return made


def digest(body: bytes) -> bytes:
    """Return the digest that names a checkpoint."""
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()


def root_of(leaves: Iterable[Leaf]) -> bytes:
    """Return the root over leaves in the order of (epoch, seq)."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for epoch, seq, tag in leaves:
        state.update(_NUMBER.pack(epoch, seq) + tag)
    return state.digest()


def ranges_of(leaves: Iterable[Leaf]) -> list[tuple[int, int, int]]:
    """Return the ranges (epoch, from, to) of sorted leaves."""
    out: list[tuple[int, int, int]] = []
    for epoch, seq, _tag in leaves:
        if out and (out[-1][0], out[-1][2] + 1) == (epoch, seq):
            out[-1] = (epoch, out[-1][1], seq)
        else:
            out.append((epoch, seq, seq))
    return out


def ledger_hash(entries: Sequence[tuple[str, str, str, int]]) -> bytes:
    """Return the hash of a whole ledger."""
    return hashlib.blake2b(pack([list(e) for e in entries]), digest_size=DIGEST_BYTES).digest()


def _int(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError
    return value


def _ints(value: Any, count: int) -> list[int]:
    if not isinstance(value, list) or len(value) != count or any(type(v) is not int for v in value):
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 256:
        raise ValueError
    return value


def _binary(value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) > 1024:
        raise ValueError
    return value


def _range(value: Any) -> tuple[int, int, int]:
    epoch, low, high = (_int(v) for v in _ints(value, 3))
    if not 1 <= low <= high:
        raise ValueError
    return epoch, low, high
