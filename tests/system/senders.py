"""Batches of any schema as a gateway would send them, for the tests of the sinks."""

from __future__ import annotations

import numpy as np
from world import NS, Center

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.wire import messages as m
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer

INTEGER = Field("v", Type.I64)


class Sender:
    """Seals blocks of any schema and hands them over as messages with numbers of its own."""

    def __init__(self) -> None:
        self._seq = 0
        self.set_clock(5, 1, "unsynced")

    def set_clock(self, wall_s: int, monotonic_s: int, state: str) -> None:
        stamp = Stamp(wall_s * NS, monotonic_s * NS, state)
        self._sealer = Sealer(Context("gw-1", "s/p", "boot-1", "0"), lambda: stamp)

    def message(
        self, schema: Schema, *columns: list[object], seq: int = 0, start: int = 0
    ) -> list[list[bytes]]:
        self._seq += 1
        made = tuple(Column.of(f.type, c) for f, c in zip(schema.fields, columns, strict=True))
        times = np.arange(start, start + len(columns[0]), dtype=np.int64)
        sealed = self._sealer.seal(Block(schema, times, made), None)
        bodies = [m.encode(m.Bodies(list(self._sealer.bodies.values())))]
        return [bodies, [m.encode(m.Batch("normal", 1, seq or self._seq, sealed.tag)), sealed.data]]


def kinds(center: Center, frames: list[list[bytes]]) -> list[str]:
    return [type(reply).__name__ for _, reply in center.handle([(b"p", f) for f in frames])]


def of(*fields: Field, stream: str = "pump") -> Schema:
    return Schema(stream, fields, stamped_by="gateway")
