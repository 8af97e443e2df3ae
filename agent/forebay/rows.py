"""Rows of a block as plain objects, for JSON."""

from __future__ import annotations

import base64
import math
from typing import Any

from forebay import quality as q
from forebay.blocks import Block


def rows(block: Block) -> list[dict[str, Any]]:
    """Return the rows of a block as plain objects; nulls are left out, `quality` says why they are."""
    columns = [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]
    out = []
    for row, time in enumerate(block.time.tolist()):
        entry: dict[str, Any] = {"time": time}
        bad: dict[str, str] = {}
        for f, column, values in zip(block.schema.fields, block.columns, columns, strict=True):
            value = values[row]
            if value is not None:
                entry[f.name] = plain(value)
            code = 0 if column.quality is None else int(column.quality[row])
            if code:
                bad[f.name] = q.describe(code)
        if bad:
            entry["quality"] = bad
        out.append(entry)
    return out


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: bytes as base64, infinities as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
