"""Search of a column's cells that looks at equal cells once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forebay.blocks import Column, I64Array, U8Array, take
from forebay_core.grouping import factorize
from forebay_core.text import scan

if TYPE_CHECKING:
    from forebay.mask.ner import Tagger

_LEAST_ROWS = 64  # below, telling cells apart costs as much as searching them
_SAMPLE_ROWS = 128  # where no two of the first are equal, the rest is not tried
_REPEATS = 4  # equal cells on average that make it worth while


def search(
    column: Column, classes: int, context: int, tagger: Tagger | None = None
) -> tuple[I64Array, U8Array, U8Array]:
    """Return what `forebay_core.text.scan` returns for the cells of a text column.

    What is found in a cell depends on its bytes and nothing else. In a column of few distinct cells (names
    of devices, states) those are searched first, byte for byte different ones; only if there is a hit among
    them are all searched. With a tagger, names and addresses that it finds elsewhere are added.
    """
    found = _search(column, classes, context)
    if tagger is None:
        return found
    from forebay.mask.ner import joined  # its word lists are for those who use them

    return joined(found, tagger.find(column, classes))


def _search(column: Column, classes: int, context: int) -> tuple[I64Array, U8Array, U8Array]:
    assert column.offsets is not None
    distinct = _distinct(column, column.offsets)
    if distinct is not None:
        assert distinct.offsets is not None
        found = scan(distinct.values, distinct.offsets, classes, context)
        if not len(found[1]):
            return found
    return scan(column.values, column.offsets, classes, context)


def _distinct(column: Column, offsets: I64Array) -> Column | None:
    """Return the distinct cells, None where they are too many to gain by it."""
    if column.rows < _LEAST_ROWS:
        return None
    values, offsets = np.ascontiguousarray(column.values), np.ascontiguousarray(offsets)
    if column.rows > 2 * _SAMPLE_ROWS:
        _, first = factorize(values, offsets[: _SAMPLE_ROWS + 1])
        if len(first) == _SAMPLE_ROWS:
            return None
    _, first = factorize(values, offsets)
    if len(first) * _REPEATS > column.rows:
        return None
    return take(Column(values, offsets), first)
