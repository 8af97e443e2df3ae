"""Blocks to SQL rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import Block

LEVEL_NAMES = tuple(level.name.lower() for level in q.Level)


def cells(block: Block) -> list[list[Any]]:
    """Return one list of Python values a field, None where null."""
    return [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]


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
