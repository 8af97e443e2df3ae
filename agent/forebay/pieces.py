"""How open blocks become batches: joined, and cut to the limits of rows and bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from forebay.blocks import MAX_ROWS, Block, concat

BATCH_BYTES = 4 * 1024 * 1024  # a block is sealed when it reaches this, whatever its rows


def pieces(blocks: list[Block]) -> Iterable[Block]:
    """Join blocks of one schema and cut them to the row limit; waveforms stay as they came."""
    small = [b for b in blocks if b.rows <= MAX_ROWS]
    if small:
        whole = concat(small)
        if whole.rows <= MAX_ROWS and whole.nbytes <= 2 * BATCH_BYTES:
            yield whole
        else:
            yield from _cut(whole)
    yield from (b for b in blocks if b.rows > MAX_ROWS)


def _cut(block: Block) -> Iterable[Block]:
    # By bytes as well as by rows: long texts weigh as much as pictures.
    rows = max(1, min(MAX_ROWS, block.rows * BATCH_BYTES // max(block.nbytes, 1)))
    hits = block.hits
    for start in range(0, block.rows, rows):
        piece = block.take(slice(start, start + rows))
        yield replace(piece, hits=hits)
        hits = Counter()  # the counts of the whole go with its first piece, once
