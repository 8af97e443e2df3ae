"""Blocks to SQL rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column

LEVEL_NAMES = tuple(level.name.lower() for level in q.Level)
# A cell as a Python object takes up to ten times its room in a column; a batch of 65,536 rows and 500 fields, all of
# them bad, took 4 GB. No more cells than these are objects at one time.
_CELLS_AT_ONCE = 256 * 1024


def cells(block: Block) -> list[list[Any]]:
    """Return one list of Python values a field, None where null."""
    return [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]


def sql_rows(block: Block, same: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a block: time, worst quality, its detail, what is the `same` in all of them, the cells."""
    at_once = max(1, _CELLS_AT_ONCE // max(len(block.columns), 1))
    if block.rows <= at_once:
        return _rows(block, same)
    starts = range(0, block.rows, at_once)
    return chain.from_iterable(_rows(_part(block, start, start + at_once), same) for start in starts)


def _rows(block: Block, same: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    return zip(block.time.tolist(), *row_quality(block), *map(repeat, same), *cells(block))  # noqa: B905 (`same` has no end)


def _part(block: Block, start: int, end: int) -> Block:
    return Block(block.schema, block.time[start:end], tuple(_cut(c, start, end) for c in block.columns))


def _cut(column: Column, start: int, end: int) -> Column:
    """Return some cells of a column; what is long is not copied."""
    codes = None if column.quality is None else column.quality[start:end]
    if column.offsets is None:
        return Column(column.values[start:end], None, codes)
    offsets = column.offsets[start : end + 1]
    return Column(column.values[offsets[0] : offsets[-1]], offsets - offsets[0], codes)


def row_quality(block: Block) -> tuple[list[str], list[str | None]]:
    """Return each row's worst level by name, and a JSON object of field and reason where not good."""
    worst = np.zeros(block.rows, dtype=np.uint8)
    details: dict[int, dict[str, str]] = {}
    for f, column in zip(block.schema.fields, block.columns, strict=True):
        if column.quality is None:
            continue
        levels = q.LEVELS[column.quality]
        np.maximum(worst, levels, out=worst)
        for row in np.flatnonzero(levels).tolist():
            details.setdefault(row, {})[f.name] = q.describe(int(column.quality[row]))
    if not details:
        return [LEVEL_NAMES[0]] * block.rows, [None] * block.rows
    names = [LEVEL_NAMES[level] for level in worst.tolist()]
    texts = [_text(details[row]) if row in details else None for row in range(block.rows)]
    return names, texts


def _text(detail: dict[str, str]) -> str:
    return json.dumps(detail, ensure_ascii=False)
