"""`forebay decode`: an exported batch as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from forebay.blocks import MAX_WAVEFORM_ROWS
from forebay.errors import WireError
from forebay.rows import rows
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


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
