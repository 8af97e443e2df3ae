"""Rows of a segment, each with a mark of its own: SQLite does not notice a flipped bit in a value, the mark does."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgpack

from forebay.blocks import Lane

MARK_BYTES = 8
TAG_BYTES = 16
LANE_SHIFT = 56
RUNNING = (1 << LANE_SHIFT) - 1
LANES = (Lane.URGENT, Lane.NORMAL, Lane.BULK)
RANK = {lane: rank for rank, lane in enumerate(LANES)}
FIRST_ID = {str(lane): rank << LANE_SHIFT for lane, rank in RANK.items()}
RANK_BOUNDS = {str(lane): (rank << LANE_SHIFT, (rank + 1) << LANE_SHIFT) for lane, rank in RANK.items()}

LedgerKey = tuple[str, str, str]  # (stream, kind, reason)
WaitingKey = tuple[int, str, str]  # (segment, stream, lane)

# Tables of the control part: small, copied whole into each new segment. Columns in order, the mark last.
CONTROL: dict[str, tuple[str, ...]] = {
    "counter": ("name", "value"),
    "ledger": ("stream", "kind", "reason", "readings"),
    "waiting": ("segment", "stream", "lane", "batches", "readings", "bytes"),
    "progress": ("owner", "step", "data"),
    "segment": ("number", "first", "last", "state"),
    "gone": ("segment", "id"),
    "gap": (
        "id", "epoch", "seq_from", "seq_to", "stream", "rows", "readings", "first_time", "last_time", "cause",
    ),
    "receipt": ("id", "epoch", "seq", "tag"),
}  # fmt: skip
REPLACE = {
    table: f"REPLACE INTO {table} VALUES ({', '.join('?' * (len(columns) + 1))})"
    for table, columns in CONTROL.items()
}


class Head(NamedTuple):
    """A batch row without its data. `total`: the stream's accepted readings so far, this batch included, so that
    what a lost neighbour held can be told; `stored`: ns of uptime of this spool when it was stored."""

    id: int
    lane: str
    epoch: int
    seq: int
    stream: str
    rows: int
    readings: int
    first_time: int
    last_time: int
    schema_id: bytes
    context_id: bytes
    tag: bytes
    total: int
    stored: int


HEAD = ", ".join(Head._fields)


class _Packer(threading.local):
    """A packer a thread, since making one costs more than packing a row."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_packer = _Packer()


def mark(table: str, values: Sequence[Any]) -> bytes:
    """Return the mark of a row: BLAKE2b over its table and values."""
    packed: bytes = _packer.pack([table, *values])
    return blake2b(packed, digest_size=MARK_BYTES).digest()


def marked(table: str, rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Return rows with their marks."""
    return [(*row, mark(table, row)) for row in rows]


def is_intact(head: Sequence[Any], row_mark: Any, data: bytes) -> bool:
    """Return whether a stored batch is what it was when it was stored."""
    tag: bytes = head[_TAG]
    return bool(row_mark == mark("batch", head)) and blake2b(data, digest_size=TAG_BYTES).digest() == tag


_TAG = Head._fields.index("tag")


def segment_number(name: str) -> int:
    """Return the number in `segment-000007.db` or `damaged-000007.db`."""
    return int(name.split("-")[1].split(".")[0])
