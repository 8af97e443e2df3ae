"""Blocks to sealed batches: columns, codec, compression, envelope, tag. Runs in the pipeline worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from forebay.blocks import Block, Schema
from forebay.errors import WireError
from forebay.stages import Sealed
from forebay.wire._habits import Habits
from forebay.wire.atrest import Lock
from forebay.wire.columns import encode_columns
from forebay.wire.envelope import (
    MAX_HITS,
    MAX_POSITION_BYTES,
    Context,
    Envelope,
    Stamp,
    body_id,
    content_tag,
)
from forebay.wire.schema import schema_body


class Sealer:
    """Seals blocks of one pipeline. One thread only.

    Parameters
    ----------
    context : what all of its batches share
    stamp : returns the clock evidence of now
    compress : False stores the columns as packed, for processors too slow for zstd
    level : returns the zstd level of now
    lock : locks each batch for the time that it is stored, None: it stays readable
    """

    def __init__(
        self,
        context: Context,
        stamp: Callable[[], Stamp],
        *,
        compress: bool = True,
        level: Callable[[], int] = lambda: 1,
        lock: Lock | None = None,
    ) -> None:
        self._lock = lock
        body = context.body()
        self._context_id = body_id(body)
        self._stamp, self._compress, self._level = stamp, compress, level
        self._schemas: dict[Schema, tuple[bytes, Habits]] = {}
        self.bodies: dict[bytes, bytes] = {self._context_id: body}

    def seal(self, block: Block, position: bytes | None) -> Sealed:
        """Return the block as a batch; `position` is where its source stands after it."""
        known = self._schemas.get(block.schema)
        if known is None:
            body = schema_body(block.schema)
            known = self._schemas[block.schema] = body_id(body), Habits()
            self.bodies[known[0]] = body
        schema_id, habits = known
        readings = block.readings()
        first, last = int(block.time.min()), int(block.time.max())
        if position is not None and len(position) > MAX_POSITION_BYTES:
            position = None  # the spool keeps it; only a lost spool would have wanted it from here
        envelope = Envelope(
            schema_id,
            self._context_id,
            block.rows,
            readings,
            first,
            last,
            self._stamp(),
            position,
            dict(block.hits.most_common(MAX_HITS)) if block.hits else {},
            encode_columns(block, level=self._level(), compress=self._compress, habits=habits),
        )
        data = envelope.pack()
        ids = (schema_id, self._context_id)
        sealed = Sealed(
            block.stream, block.lane, data, content_tag(data), block.rows, readings, first, last, ids
        )
        if self._lock is None:
            return sealed
        locked = self._lock.lock(data)
        return replace(sealed, data=locked, tag=content_tag(locked))


def read_range(data: bytes, context_body: bytes) -> tuple[str, bytes] | None:
    """Return owner and position of a batch, None if it does not say or cannot be read here."""
    try:
        position = Envelope.unpack(data).position
        return None if position is None else (Context.parse(context_body).owner, position)
    except WireError:
        return None
