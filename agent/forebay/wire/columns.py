"""Columnar payload, version 1: a block's time, columns and quality as compact bytes, and back.

Layout (docs/wire-format.md, "Columnar payload, version 1", has it byte by byte)
--------------------------------------------------------------------------------
version byte, varint rows, varint columns, varint group column + 1 (0: none), then one section each for the
group column, time, and the other columns in the schema's order: varint length and that many bytes.

Invariants
----------
- Cells that are null are not in the payload: only their quality code is, so nothing can hide under a null.
- Every length is checked against the bytes that are there, and everything to be allocated against
  `max_rows` and `max_bytes`, before it is read or allocated.
- Schema, lane and hits are not part of the payload.
"""

from __future__ import annotations

import numpy as np

from forebay.blocks import Block, Schema
from forebay.wire._decode import Decoder
from forebay.wire._encode import Encoder
from forebay.wire._habits import Habits
from forebay.wire._layout import VERSION

__all__ = ["VERSION", "decode_columns", "encode_columns"]


def encode_columns(block: Block, *, level: int, compress: bool = True, habits: Habits | None = None) -> bytes:
    """Code the time, columns and quality of a block.

    Parameters
    ----------
    block : arrays may be read-only; values under null cells are not looked at
    level : zstd's level for text
    compress : False: no zstd and no entropy coding, transforms and bit packing only
    habits : what earlier blocks of the schema taught; None: nothing

    Returns
    -------
    bytes : the payload that decode_columns reads

    Raises
    ------
    ValueError : columns that do not fit the schema or the rows (an error of the caller)
    """
    if len(block.columns) != len(block.schema.fields):
        raise ValueError(f"expected {len(block.schema.fields)} columns, found {len(block.columns)}")
    for field, column in zip(block.schema.fields, block.columns, strict=True):
        if column.rows != block.rows:
            raise ValueError(f"column {field.name}: expected {block.rows} rows, found {column.rows}")
        if column.quality is not None and len(column.quality) != block.rows:
            raise ValueError(f"column {field.name}: quality has another length than the block")
    return Encoder(block, level, compress, habits).payload()


def decode_columns(data: bytes | memoryview, schema: Schema, *, max_rows: int, max_bytes: int) -> Block:
    """Read a payload, which may be anything at all.

    Parameters
    ----------
    data : the payload, untrusted
    schema : of the stream; the payload holds none
    max_rows : limit of rows
    max_bytes : limit of the bytes that the block's arrays may take; beside them the decoder needs at most
        about 60 bytes a row at a time and the payload itself

    Returns
    -------
    Block : in lane normal, without hits; arrays may be read-only and shared between columns

    Raises
    ------
    WireError : bytes that are not a payload of this schema, or one beyond the limits
    """
    return Decoder(schema, max_rows, max_bytes).block(np.frombuffer(data, dtype=np.uint8))
