"""What came out of a pipeline's steps and is not sealed yet: protected now or when it is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from forebay.blocks import MAX_ROWS, Block, Lane, Schema, Type
from forebay.pieces import BATCH_BYTES, pieces


class Holding:
    """Blocks by schema and lane.

    Pictures are protected at once: a frame in memory is what a face is found in. All else was masked when it came in,
    and what steps have made of it is protected when the batch is made, so that many small blocks cost one look.

    Attributes
    ----------
    urgent : something of the urgent lane is among them
    """

    def __init__(self, protect: Callable[[Block], Block]) -> None:
        self.urgent = False
        self._protect = protect
        self._protected: dict[tuple[Schema, Lane], list[Block]] = {}
        # Columns with and without a policy's mark stay apart: joined they would be masked twice.
        self._made: dict[tuple[Schema, Lane, tuple[str, ...]], list[Block]] = {}
        self._rows: Counter[tuple[Schema, Lane]] = Counter()
        self._bytes = 0

    def add(self, block: Block) -> None:
        """Hold a block."""
        if not block.rows:
            return
        if any(field.type is Type.BYTES for field in block.schema.fields):
            self._keep(self._protect(block))
        else:
            marks = tuple(column.masked for column in block.columns)
            self._made.setdefault((block.schema, block.lane, marks), []).append(block)
        self._rows[block.schema, block.lane] += block.rows
        self._bytes += block.nbytes
        self.urgent = self.urgent or block.lane is Lane.URGENT

    def is_full(self) -> bool:
        """Return whether a batch has the rows or bytes that it may have."""
        return self._bytes >= BATCH_BYTES or any(rows >= MAX_ROWS for rows in self._rows.values())

    def take(self) -> list[Block]:
        """Return all of it as protected blocks of a batch's size, and hold nothing any more."""
        for blocks in self._made.values():
            for piece in pieces(blocks):
                self._keep(self._protect(piece))
        taken = [piece for blocks in self._protected.values() for piece in pieces(blocks)]
        self._protected, self._made, self._rows = {}, {}, Counter()
        self._bytes, self.urgent = 0, False
        return taken

    def _keep(self, block: Block) -> None:
        if block.rows:  # the policy may have dropped them all
            self._protected.setdefault((block.schema, block.lane), []).append(block)
