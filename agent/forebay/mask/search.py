"""Search of a column's cells that looks at equal cells once, and what was found clean the last time."""

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
_MAX_FIELDS = 1024  # whose clean cells are remembered
_MAX_KEY = 64 * 1024  # bytes of cells that are remembered of a field


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


class Clean:
    """Remembers for one who asks: masking has its own, the guard has its own, and neither trusts the other's.

    The devices of a stream and its states come again with every block. A field whose distinct cells are, byte for
    byte and in their order, those in which nothing was found the last time holds nothing now.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, int, int]] = {}

    def knows(self, name: str, column: Column, classes: int, context: int) -> bool:
        """Return whether the field `name` held just these cells when nothing was found in them."""
        known = self._known.get(name)
        return (
            known is not None and is_repetitive(column) and known == (column.distinct().key, classes, context)
        )

    def remember(self, name: str, column: Column, classes: int, context: int) -> None:
        """Note that nothing at all was found in the cells of the field `name`, in whatever way they were looked at."""
        if is_repetitive(column) and len(column.distinct().key) <= _MAX_KEY:
            if len(self._known) >= _MAX_FIELDS:
                self._known.clear()
            self._known[name] = column.distinct().key, classes, context


def is_repetitive(column: Column) -> bool:
    """Return whether a text column holds few different cells, so that looking at those is worth while."""
    if column.rows < _LEAST_ROWS or len(column.values) > _MOST_BYTES:
        return False
    return _REPEATS * len(column.distinct()) <= column.rows


def _search(column: Column, classes: int, context: int) -> tuple[I64Array, U8Array, U8Array]:
    assert column.offsets is not None
    if is_repetitive(column):
        distinct = column.distinct()
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
