"""Search of a column's cells that looks at equal cells once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forebay.blocks import Column, Distinct, I64Array, U8Array
from forebay_core.text import scan

if TYPE_CHECKING:
    from forebay.mask.ner import Tagger

_LEAST_ROWS = 64  # below, telling cells apart costs as much as searching them
_MOST_BYTES = 1024 * 1024  # longer cells are seldom equal
_REPEATS = 2  # equal cells on average that make it worth while


def search(
    column: Column, classes: int, context: int, tagger: Tagger | None = None
) -> tuple[I64Array, U8Array, U8Array]:
    """Return what `forebay_core.text.scan` returns for the cells of a text column.

    What is found in a cell depends on its bytes and nothing else. In a column of few distinct cells (names
    of devices, states, stock phrases) those are searched, byte for byte different ones, and what is found in
    one is found in each row that holds it. With a tagger, names and addresses that it finds elsewhere are added.
    """
    found = _search(column, classes, context)
    if tagger is None:
        return found
    from forebay.mask.ner import joined  # its word lists are for those who use them

    return joined(found, tagger.find(column, classes))


def _search(column: Column, classes: int, context: int) -> tuple[I64Array, U8Array, U8Array]:
    assert column.offsets is not None
    if column.rows >= _LEAST_ROWS and len(column.values) <= _MOST_BYTES:
        distinct = column.distinct()
        if _REPEATS * len(distinct) <= column.rows:
            spans, codes, confidence = scan(distinct.values, distinct.offsets, classes, context)
            if not len(codes):
                return spans, codes, confidence
            hits = _hits_of_rows(distinct, spans)
            if hits is not None:
                rows = np.flatnonzero(hits >= 0)
                hits = hits[rows]
                spans = spans[hits]
                spans[:, 0] = rows
                return spans, codes[hits], confidence[hits]
    return scan(column.values, column.offsets, classes, context)


def count_codes(codes: U8Array) -> list[tuple[int, int]]:
    """Return each class code that is there with how often."""
    return [(code, count) for code, count in enumerate(np.bincount(codes).tolist()) if count]


def _hits_of_rows(distinct: Distinct, spans: I64Array) -> I64Array | None:
    """Return the hit of each row, -1 where it has none; None where a cell has several."""
    cells = spans[:, 0]
    if (cells[1:] == cells[:-1]).any():
        return None
    of_cell = np.full(len(distinct), -1, dtype=np.int64)
    of_cell[cells] = np.arange(len(cells))
    return of_cell[distinct.codes]
