"""What a peer that is enrolled and hostile can make the receiver keep in memory."""

from __future__ import annotations

import numpy as np
import pytest
import zmq
from world import KEY, Enrolled, FakeClock

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.keys import generate
from forebay.receive import rows as rows_module
from forebay.receive import server as server_module
from forebay.receive.rows import cells, row_quality, sql_rows
from forebay.receive.server import Server, ServerOptions
from forebay.receive.sqlite import SqliteSink
from forebay.wire import messages as m
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer

ROWS, FIELDS = 65_536, 8
IN_MEMORY = ROWS * 8 * (FIELDS + 1)


class Frame:
    """A frame as pyzmq hands it out."""

    def __init__(self, data: bytes) -> None:
        self.bytes = self.buffer = data

    def get(self, _name: str) -> str:
        return "gw-1"


class Socket:
    """A socket on which messages wait."""

    def __init__(self, messages: list[list[bytes]]) -> None:
        self.waiting = messages
        self.replies: list[m.Message] = []

    def recv_multipart(self, _flags: int, *, copy: bool) -> list[Frame]:
        assert not copy
        if not self.waiting:
            raise zmq.Again
        return [Frame(b"peer"), *map(Frame, self.waiting.pop(0))]

    def send_multipart(self, frames: list[bytes], _flags: int) -> None:
        self.replies.append(m.decode(frames[1]))


class Counting:
    """A sink that keeps how many batches it was given at a time."""

    def __init__(self, sink) -> None:
        self._sink, self.groups = sink, []

    def __getattr__(self, name: str):
        return getattr(self._sink, name)

    def store(self, work) -> None:
        self.groups.append(len(work.batches))
        self._sink.store(work)


def constant_batches(count: int) -> list[list[bytes]]:
    """Return a hello, bodies and batches of a hundred bytes that are columns of 4.7 MB."""
    schema = Schema("wave", tuple(Field(f"f{i}", Type.F64) for i in range(FIELDS)))
    sealer = Sealer(Context("gw-1", "s/p", "boot", "0"), lambda: Stamp(1, 1, "synced"))
    time, column = np.arange(ROWS, dtype=np.int64), Column(np.zeros(ROWS))
    batch = sealer.seal(Block(schema, time, (column,) * FIELDS), None)
    assert len(batch.data) < 300, "or it is no bomb"
    messages = [m.Batch("normal", 1, seq, batch.tag) for seq in range(1, count + 1)]
    hello = m.Hello(m.PROTOCOL, "gw-1", "boot", "0", {1: ("normal", 1)}, "")
    first = [[m.encode(hello)], [m.encode(m.Bodies(list(sealer.bodies.values())))]]
    return first + [[m.encode(message), batch.data] for message in messages]


def test_batches_that_are_large_in_memory_close_a_group(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "DECODED_BYTES", 2 * IN_MEMORY)
    sink = Counting(SqliteSink(tmp_path / "center.db"))
    options = ServerOptions("dc-1", "tcp://127.0.0.1:*")
    server = Server(options, generate("center"), Enrolled("gw-1", KEY), [sink], FakeClock())  # type: ignore[arg-type]
    real, server._socket = server._socket, Socket(constant_batches(6))
    try:
        while server._socket.waiting:
            server._serve_group()
        acked = [n for reply in server._socket.replies if isinstance(reply, m.Ack) for n in reply.numbers]
    finally:
        server._socket = real
        server._context.destroy(0)
        sink.close()
    assert sorted(acked) == [(1, seq) for seq in range(1, 7)]
    assert sink.groups == [2, 2, 2]


@pytest.mark.parametrize("at_once", [1, 7, 12, 1_000])
def test_rows_are_the_same_however_many_are_made_at_a_time(monkeypatch, at_once):
    fields = (Field("a", Type.F64), Field("b", Type.STR), Field("c", Type.BOOL), Field("d", Type.BYTES))
    codes = np.array([0, q.NULL_FROM, 3, 0, 0, q.NULL_FROM, 0], dtype=np.uint8)
    columns = (
        Column.of(Type.F64, [1.5, None, 2.0, 3.0, 4.0, None, 5.0], codes),
        Column.of(Type.STR, ["eins", "", "水泵", "x", "yy", "zzz", ""]),
        Column.of(Type.BOOL, [True, False, True, False, True, False, True]),
        Column.of(Type.BYTES, [b"\x00", b"", b"ab", b"\xff", b"cd", b"e", b"f"]),
    )
    block = Block(Schema("s", fields), np.arange(7, dtype=np.int64), columns)
    levels, details = row_quality(block)
    whole = zip(block.time.tolist(), levels, details, ["g"] * 7, [9] * 7, *cells(block), strict=True)
    monkeypatch.setattr(rows_module, "_CELLS_AT_ONCE", at_once * len(fields))
    assert list(sql_rows(block, ("g", 9))) == list(whole)
