"""Operations on batches: columns to bytes and back, envelope and tag."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import zstandard

from benchmarks import reference_series
from benchmarks.model import Budget, Case, Effort, Figure
from forebay.blocks import Block, Type
from forebay.stages import Sealed
from forebay.wire.columns import decode_columns, encode_columns
from forebay.wire.envelope import Context, Envelope, Stamp, content_tag
from forebay.wire.messages import Batch, encode
from forebay.wire.seal import Sealer

_ROWS = 1_000
SIZED_EVENTS = 50_000
SIZE_BUDGETS = {50: Budget(2.0), 200: None, 1_000: Budget(0.70)}


def _block(rows: int = _ROWS) -> Block:
    return next(reference_series.blocks(reference_series.generate(rows), rows))


def _rows(block: Block) -> list[dict[str, Any]]:
    names = block.schema.names()
    cells = [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]
    times = block.time.tolist()
    return [
        {"ts": t, **dict(zip(names, row, strict=True))}
        for t, row in zip(times, zip(*cells, strict=True), strict=True)
    ]


def encode_block() -> Case:
    """Columns of 1,000 rows to a payload."""
    block = _block()

    def check(payload: bytes) -> None:
        back = decode_columns(payload, block.schema, max_rows=_ROWS, max_bytes=1 << 24)
        assert np.array_equal(back.time, block.time)
        for f, a, b in zip(block.schema.fields, block.columns, back.columns, strict=True):
            assert a.to_list(f.type) == b.to_list(f.type)

    rows = _rows(block)
    squeeze = zstandard.ZstdCompressor(level=1)
    peers: dict[str, Callable[[], Any]] = {
        "JSON + gzip 6": lambda: gzip.compress(json.dumps(rows).encode(), 6),
        "msgpack rows + zstd 1": lambda: squeeze.compress(msgpack.packb(rows)),
    }
    return Case(lambda: encode_columns(block, level=1), check, lambda s: s * 1e6, peers)


def decode_block() -> Case:
    """And back, every length checked."""
    block = _block()
    payload = encode_columns(block, level=1)

    def check(back: Block) -> None:
        assert np.array_equal(back.column("vib").values, block.column("vib").values)
        assert back.column("dev").to_list(Type.STR) == block.column("dev").to_list(Type.STR)

    return Case(
        lambda: decode_columns(payload, block.schema, max_rows=_ROWS, max_bytes=1 << 24),
        check,
        lambda s: s * 1e6,
    )


def sealer() -> Sealer:
    """Return a sealer of the benchmarks' gateway."""
    return Sealer(Context("gw-1", "f/pump", "boot", "0"), lambda: Stamp(1, 2, "synced"))


def seal() -> Case:
    """Envelope and tag alone: what sealing costs beyond the columns."""
    block = _block()
    made = sealer().seal(block, b"x" * 300)
    envelope = Envelope.unpack(made.data)

    def run() -> tuple[bytes, bytes]:
        data = envelope.pack()
        return data, content_tag(data)

    def check(result: tuple[bytes, bytes]) -> None:
        assert result == (made.data, made.tag)

    return Case(run, check, lambda s: s * 1e6)


def size_per_reading(blocks: Iterable[Block], per_row: int) -> float:
    """Return bytes a reading on the wire, all frames of the batches counted, once-a-session bodies not.

    `per_row` is the number of readings that a row stands for: `seq` of the reference series is none.
    """
    one, total, readings = sealer(), 0, 0
    for number, block in enumerate(blocks):
        total += _frames(one.seal(replace(block), None), number)
        readings += block.rows * per_row
    return total / readings


def wire_bytes(_effort: Effort) -> list[Figure]:
    """Measure bytes a reading on the wire, all frames counted, at several block sizes."""
    series = reference_series.generate(SIZED_EVENTS)
    figures = []
    for rows, budget in SIZE_BUDGETS.items():
        blocks = list(reference_series.blocks(series, rows))
        readings = len(series.seq) * reference_series.READINGS
        listed = [_rows(b) for b in blocks]
        squeeze = zstandard.ZstdCompressor(level=1)
        peers = {
            "JSON + gzip 6": sum(len(gzip.compress(json.dumps(r).encode(), 6)) for r in listed) / readings,
            "msgpack rows + zstd 1": sum(len(squeeze.compress(msgpack.packb(r))) for r in listed) / readings,
            "entropy": reference_series.entropy_per_reading(series),
        }
        what = f"reference series, {rows} rows a block, all frames"
        size = size_per_reading(blocks, reference_series.READINGS)
        figures.append(Figure(f"bytes-{rows}", what, size, "B/reading", budget, peers))
    return figures


def _frames(sealed: Sealed, seq: int) -> int:
    head = encode(Batch(str(sealed.lane), (1 << 32) + 12345, seq + 1, sealed.tag))
    return len(head) + len(sealed.data)
