"""The zmq source with real sockets: rows in, an answer after the commit."""

import json
import stat
import threading
from collections import deque

import msgpack
import pytest
import zmq
from pydantic import ValidationError

from forebay import quality as q
from forebay.blocks import Type
from forebay.config.fields import FieldOptions
from forebay.config.sources_live import ZmqOptions
from forebay.errors import ConfigError
from forebay.sources import zmq_push
from forebay.sources.context import SourceContext

LONG_MS = 5_000


class Running:
    """A source in a thread; `settle` says what the spool answers, None: nothing yet."""

    def __init__(self, folder, settle=True, position=None, **options):
        self.endpoint = f"ipc://{folder}/push"
        made = ZmqOptions.model_validate({"endpoint": self.endpoint} | options)
        context = SourceContext("push", "s", fields={"t": FieldOptions(unit="°C")}, key="dev")
        self.source = zmq_push.ZmqSource(made, context)
        self.chunks, self.settle, self.error = deque(), settle, None
        self.came = threading.Semaphore(0)
        self._position = position
        self._thread = threading.Thread(target=self._run)
        self._sockets, self._context = [], zmq.Context()

    def _run(self):
        try:
            self.source.run(self._emit, self._position)
        except ConfigError as error:
            self.error = error

    def _emit(self, chunk):
        self.chunks.append(chunk)
        if self.settle is not None:
            chunk.done(self.settle)
        self.came.release()
        return True

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.source.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()

    def client(self, kind=zmq.REQ):
        socket = self._context.socket(kind)
        self._sockets.append(socket)
        socket.set(zmq.RCVTIMEO, LONG_MS)
        socket.set(zmq.SNDTIMEO, LONG_MS)
        socket.connect(self.endpoint)
        return socket

    def ask(self, message):
        socket = self.client()
        socket.send(message)
        return socket.recv()


def cells(block):
    return {f.name: c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)}


def test_json_rows_are_answered_in_json(tmp_path):
    with Running(tmp_path) as running:
        assert json.loads(running.ask(b'{"dev": "a", "t": 21.5}')) == {"ok": True, "rows": 1}
        assert json.loads(running.ask(b'\n[{"dev": "a", "t": 1},\n {"dev": "b", "t": 2}]')) == {
            "ok": True,
            "rows": 2,
        }
    first, second = running.chunks
    assert first.wants_reply
    assert cells(first.blocks[0]) == {"t": [21.5], "dev": ["a"]}
    assert cells(second.blocks[0]) == {"t": [1.0, 2.0], "dev": ["a", "b"]}
    assert first.blocks[0].schema.fields[0].unit == "°C"


def test_msgpack_rows_are_answered_in_msgpack(tmp_path):
    rows = [
        {"dev": "a", "t": 21.5, "raw": b"\x00\xff", "at": msgpack.Timestamp(1, 5), "big": 2**63 - 1},
        {"dev": "b", "t": float("nan"), "on": True, "none": None, "in": {"x": 1}},
    ]
    with Running(tmp_path) as running:
        assert msgpack.unpackb(running.ask(msgpack.packb(rows))) == {"ok": True, "rows": 2}
        assert msgpack.unpackb(running.ask(msgpack.packb({"t": 1}))) == {"ok": True, "rows": 1}
    block = running.chunks[0].blocks[0]
    got = cells(block)
    assert got["raw"] == ["AP8=", None]
    assert got["at"] == ["1970-01-01T00:00:01.000000005Z", None]
    assert got["big"] == [2**63 - 1, None]
    assert got["in.x"] == [None, 1]
    assert block.column("t").quality.tolist() == [q.GOOD, q.NAN]


def test_the_answer_waits_for_the_commit(tmp_path):
    with Running(tmp_path, settle=None) as running:
        socket = running.client()
        socket.send(b'{"t": 1}')
        assert running.came.acquire(timeout=30)
        assert not socket.poll(50)
        running.chunks[0].done(True)
        assert json.loads(socket.recv()) == {"ok": True, "rows": 1}


def test_a_failed_commit_is_said(tmp_path):
    with Running(tmp_path, settle=False) as running:
        answer = json.loads(running.ask(b'{"t": 1}'))
    assert (answer["ok"], answer["error"]) == (False, "not_stored")


def test_many_requests_may_be_in_flight_and_are_answered_in_order(tmp_path):
    with Running(tmp_path, settle=None) as running:
        dealer = running.client(zmq.DEALER)
        for number in range(50):
            dealer.send_multipart([b"", str(number).encode(), b'[{"t": 1}' + b', {"t": 2}' * number + b"]"])
        for _ in range(50):
            assert running.came.acquire(timeout=30)
        for chunk in running.chunks:
            chunk.done(True)
        for number in range(50):
            empty, tag, answer = dealer.recv_multipart()
            assert (empty, tag) == (b"", str(number).encode())
            assert json.loads(answer) == {"ok": True, "rows": number + 1}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"{broken", "line"),
        (b"[1, 2]", "line"),
        (b"[]", "line"),
        (b"   ", "line"),
        (b"", "line"),
        (b"[" * 100, "line"),
        (msgpack.packb([1, 2]), "line"),
        (msgpack.packb({1: 2}), "line"),
        (msgpack.packb("text"), "line"),
        (msgpack.packb({"a": msgpack.ExtType(5, b"x")}), "line"),
        (b"\xdf\xff\xff\xff\xff", "line"),
        (b"\xc1", "line"),
        (bytes([0x91]) * 5_000, "line"),
        (msgpack.packb({"a": "x"})[:-1] + b"\xff", "utf8"),
    ],
)
def test_what_is_no_row_is_named_and_counted(tmp_path, message, error):
    with Running(tmp_path) as running:
        raw = running.ask(message)
        answer = msgpack.unpackb(raw) if raw[:1] != b"{" else json.loads(raw)
        assert json.loads(running.ask(b'{"t": 1}'))["ok"], "the next one is served"
    assert answer["ok"] is False
    assert answer["error"] in (error, "line")
    assert sum(running.chunks[0].rejected_counts.values()) >= 1
    assert not running.chunks[0].blocks


def test_the_good_rows_of_a_message_are_kept(tmp_path):
    with Running(tmp_path) as running:
        answer = json.loads(running.ask(b'[{"t": 1}, 7, {"t": 3}]'))
    assert answer == {"ok": True, "rows": 2, "rejected": 1}
    assert cells(running.chunks[0].blocks[0])["t"] == [1.0, 3.0]


def test_who_sends_too_much_is_cut_off_and_the_others_are_served(tmp_path):
    with Running(tmp_path, max_message="1KiB") as running:
        greedy = running.client()
        greedy.send(b'{"t": "' + b"x" * 2_000 + b'"}')
        assert json.loads(running.ask(b'{"t": 1}'))["ok"]
        assert not greedy.poll(50)
    assert len(running.chunks) == 1


def test_types_outlive_a_restart(tmp_path):
    with Running(tmp_path) as first:
        first.ask(b'{"x": 1.5}')
    with Running(tmp_path, position=first.chunks[-1].position) as second:
        second.ask(b'{"x": 2}')
    assert second.chunks[0].blocks[0].schema.fields[-1].type is Type.F64


def test_a_broken_position_only_costs_the_types(tmp_path):
    with Running(tmp_path, position=b"\xc1garbage") as running:
        assert json.loads(running.ask(b'{"t": 1}'))["ok"]


def test_only_owner_and_group_may_push(tmp_path):
    with Running(tmp_path) as running:
        running.ask(b'{"t": 1}')
        assert stat.S_IMODE((tmp_path / "push").stat().st_mode) == 0o660


def test_an_endpoint_that_cannot_be_had_is_named(tmp_path):
    with Running(tmp_path / "missing") as running:
        running._thread.join(10)
    assert "cannot listen" in str(running.error)
    assert str(tmp_path) in running.error.place


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://*:1", "tcp://0.0.0.0:5", "tcp://192.168.1.1:5", "tcp://127.0.0.1:0", "inproc://x", "ipc://"],
)
def test_only_local_endpoints_are_taken(endpoint):
    with pytest.raises(ValidationError, match="anybody there may push"):
        ZmqOptions(endpoint=endpoint)
