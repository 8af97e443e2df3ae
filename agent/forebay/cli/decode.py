"""`forebay decode`: an exported batch as JSON lines."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import click

from forebay import quality as q
from forebay.blocks import MAX_WAVEFORM_ROWS, Block
from forebay.errors import WireError
from forebay.wire.columns import decode_columns
from forebay.wire.envelope import Context, Envelope, Exported
from forebay.wire.schema import parse_schema

MAX_DECODED_BYTES = 1024 * 1024 * 1024


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--head", is_flag=True, help="Print only who made the batch, under which policy and numbers.")
def decode_command(file: Path, head: bool) -> int:
    """Print the exported batch FILE: its head on one line, then a JSON object for each row.

    Times are ns since 1970 UTC; `quality` names what is not good; bytes are base64.
    """
    try:
        exported = Exported.unpack(file.read_bytes())
        envelope, context = Envelope.unpack(exported.data), Context.parse(exported.context)
        schema = parse_schema(exported.schema)
        click.echo(_json(describe(exported, envelope, context, schema.stream)))
        if not head:
            block = decode_columns(
                envelope.payload, schema, max_rows=MAX_WAVEFORM_ROWS, max_bytes=MAX_DECODED_BYTES
            )
            for row in rows(block):
                click.echo(_json(row))
    except WireError as error:
        error.place = error.place or str(file)
        raise
    return 0


def describe(exported: Exported, envelope: Envelope, context: Context, stream: str) -> dict[str, Any]:
    """Return the facts of a batch."""
    return {
        "gateway": context.gateway,
        "stream": stream,
        "lane": exported.lane,
        "epoch": exported.epoch,
        "seq": exported.seq,
        "rows": envelope.rows,
        "readings": envelope.readings,
        "first_time": envelope.first_time,
        "last_time": envelope.last_time,
        "policy": context.policy,
        "policy_hash": context.policy_hash,
        "key_id": context.key_id,
        "hits": dict(envelope.hits),
        "models": list(context.models),
        "agent": context.agent,
        "boot": context.boot,
        "clock": envelope.stamp.state,
        "bytes": len(exported.data),
    }


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


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
