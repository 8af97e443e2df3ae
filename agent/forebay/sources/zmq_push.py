"""Local programs push rows over ZeroMQ and get an answer when these are durable.

One ROUTER socket serves REQ sockets (one question at a time) and DEALER sockets (many in flight). The last
frame of a request is the message: a JSON object, a msgpack map, or an array of them.

Answer, in the format of the request
------------------------------------
    {"ok": true, "rows": 3}                          all rows are durable
    {"ok": true, "rows": 2, "rejected": 1}           what was broken is counted, the rest durable
    {"ok": false, "error": "line", "detail": "..."}  nothing in it was a row: do not send it again
    {"ok": false, "error": "not_stored", ...}        the spool could not commit: send it again
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import zmq

from forebay.config.sources_live import ZmqOptions
from forebay.errors import ConfigError, InputError
from forebay.sources.context import SourceContext, Stopper
from forebay.sources.messages import NO_FACTS, MessageDecoder, Rows, json_objects, msgpack_objects
from forebay.stages import Chunk, Emit

log = logging.getLogger(__name__)

WAITING = 1_000  # requests that ZeroMQ holds for us per peer before the peer's own queue fills
DRAIN_MS = 3_000  # how long `stop` waits for commits, to answer those who wait
_SPACE = b" \t\r\n"


class ZmqSource:
    """Rows pushed by local programs. See the module."""

    replayable = False

    def __init__(self, options: ZmqOptions, context: SourceContext) -> None:
        self._options, self._context = options, context
        self._stop = Stopper()
        self._decoder = MessageDecoder(context, options.time, options.max_message)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._answers: deque[tuple[list[bytes], bytes]] = deque()
        self._asked = self._answered = 0
        self._facts = {"source": context.name}

    def run(self, emit: Emit, position: bytes | None) -> None:
        """See stages.Source."""
        if position is not None:
            try:
                self._decoder.restore(position)
            except InputError as error:
                log.warning("field types start anew", extra=self._facts | {"reason": error.message})
        context = zmq.Context()
        socket = context.socket(zmq.ROUTER)
        try:
            self._listen(socket)
            self._serve(socket, emit)
            self._drain(socket)
        finally:
            socket.close(linger=500)  # answers that are under way
            context.term()

    def __del__(self) -> None:
        # Not earlier: a commit may be told to `_settle` after `run` has ended.
        os.close(self._wake)

    def stop(self) -> None:
        """See stages.Source."""
        self._stop.set()
        os.eventfd_write(self._wake, 1)

    def _listen(self, socket: zmq.Socket[bytes]) -> None:
        socket.set(zmq.MAXMSGSIZE, self._options.max_message)
        socket.set(zmq.RCVHWM, WAITING)
        socket.set(zmq.SNDHWM, WAITING)
        if "[" in self._options.endpoint:
            socket.set(zmq.IPV6, 1)
        try:
            socket.bind(self._options.endpoint)
        except zmq.ZMQError as error:
            raise ConfigError(
                f"cannot listen: {error.strerror}",
                place=self._options.endpoint,
                hint="does the folder exist, and is no other program listening there?",
            ) from error
        if self._options.endpoint.startswith("ipc://"):
            Path(self._options.endpoint.removeprefix("ipc://")).chmod(0o660)

    def _serve(self, socket: zmq.Socket[bytes], emit: Emit) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not self._stop:
            ready = dict(poller.poll())
            self._send_answers(socket, self._wake in ready)
            if socket not in ready:
                continue
            *route, message = socket.recv_multipart()
            if route and not self._take(route, message, emit):
                return

    def _take(self, route: list[bytes], message: bytes, emit: Emit) -> bool:
        """Decode one request and hand its rows on. False: it is time to end."""
        packed = message.lstrip(_SPACE)[:1] not in (b"{", b"[")
        rows = Rows()
        try:
            objects = msgpack_objects(message) if packed else json_objects(message, NO_FACTS)
            self._decoder.decode(objects, rows)
        except InputError as error:
            rows.reject("line", self._context.name, len(message), error.message)
        if not rows.blocks and not rows.rejected_counts:
            rows.reject("line", self._context.name, len(message), "expected at least one row")
        self._asked += 1
        settle = partial(self._settle, route, packed, _answer(rows))
        chunk = Chunk(rows.blocks, self._decoder.state(), rows.rejected, rows.rejected_counts, settle)
        chunk.nbytes, chunk.wants_reply = rows.nbytes, True
        if emit(chunk):
            return True
        settle(False)  # it was not taken: nobody else will answer
        return False

    def _settle(self, route: list[bytes], packed: bool, answer: dict[str, Any], durable: bool) -> None:
        """Chunk.done: queue the answer and wake the socket's thread. Never blocks."""
        if not durable:
            answer = {"ok": False, "error": "not_stored", "detail": "the spool could not store it: try again"}
        data = msgpack.packb(answer) if packed else json.dumps(answer).encode()
        self._answers.append((route, data))
        os.eventfd_write(self._wake, 1)

    def _send_answers(self, socket: zmq.Socket[bytes], woken: bool) -> None:
        if woken:
            os.eventfd_read(self._wake)
        while self._answers:
            route, data = self._answers.popleft()
            self._answered += 1
            try:
                socket.send_multipart([*route, data], zmq.NOBLOCK)
            except zmq.ZMQError as error:  # who asked has gone, or does not read
                log.debug("an answer could not be sent", extra=self._facts | {"reason": error.strerror})

    def _drain(self, socket: zmq.Socket[bytes]) -> None:
        """Wait a little for commits, so that those who wait are answered."""
        poller = zmq.Poller()
        poller.register(self._wake, zmq.POLLIN)
        deadline = self._context.clock.monotonic_ns() + DRAIN_MS * 1_000_000
        while self._answered < self._asked:
            left = (deadline - self._context.clock.monotonic_ns()) // 1_000_000
            if left <= 0:
                return
            self._send_answers(socket, bool(poller.poll(left)))
        self._send_answers(socket, woken=False)


def _answer(rows: Rows) -> dict[str, Any]:
    """Return what is answered once the rows are durable."""
    broken = sum(rows.rejected_counts.values())
    if not rows.blocks:
        first = rows.rejected[0]
        return {"ok": False, "error": first.reason, "detail": first.detail}
    return {"ok": True, "rows": rows.rows} | ({"rejected": broken} if broken else {})
