"""The receiver's loop: one thread takes what has come, stores it in one transaction and answers.

A reply goes out only after every required sink has committed. All state that matters is in the sinks; a
restart forgets nothing but caches.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import zmq

from forebay.clock import Clock
from forebay.errors import ForebayError
from forebay.keys import SecretKey
from forebay.receive.caps import Limits
from forebay.receive.desk import Desk, Group
from forebay.receive.sink import Sink
from forebay.receive.zap import AllowList, ZapHandler
from forebay.wire import messages as m
from forebay.wire.curve import HEARTBEAT_MS, set_heartbeat, set_server
from forebay.wire.envelope import MAX_BATCH_BYTES

log = logging.getLogger("forebay.receive")

GROUP_MESSAGES = 256
GROUP_BYTES = 16 * 1024 * 1024
DECODED_BYTES = (
    64 * 1024 * 1024
)  # beyond it a group is closed: more than this and one batch are never in memory


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Settings of the listener."""

    center: str
    endpoint: str
    window: int = 64
    require_policy: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    heartbeat_ms: int = HEARTBEAT_MS


class Server:
    """Listens on one endpoint and stores into the sinks. `run` in the calling thread until `stop`."""

    def __init__(
        self,
        options: ServerOptions,
        key: SecretKey,
        allowed: AllowList,
        sinks: Sequence[Sink],
        clock: Clock,
        stopping: threading.Event | None = None,
    ) -> None:
        self._allowed, self._sinks, self._clock = allowed, sinks, clock
        self._stop = stopping or threading.Event()
        self.desk = Desk(
            options.center, options.window, allowed, sinks, clock, options.limits, key, options.require_policy
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = ZapHandler(self._context, allowed)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.SNDTIMEO, 0)
        self._socket.setsockopt(zmq.RCVHWM, 2 * options.window)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BATCH_BYTES)
        self._socket.setsockopt(zmq.IPV6, int("[" in options.endpoint))
        set_heartbeat(self._socket, options.heartbeat_ms)
        set_server(self._socket, key)
        try:
            self._socket.bind(options.endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(0)
            raise ForebayError(
                f"cannot listen: {error.strerror}",
                place=options.endpoint,
                hint="is another receiver running, and is the address this machine's?",
            ) from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def stored_batches(self) -> int:
        """Batches stored since start."""
        return self.desk.stored_batches

    def stop(self) -> None:
        """Ask `run` to return soon. From any thread or a signal handler."""
        self._stop.set()

    def run(self, on_turn: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`. `on_turn` is called in each turn of the loop, at least ten times a second."""
        poller = zmq.Poller()
        poller.register(self._zap.socket, zmq.POLLIN)
        poller.register(self._socket, zmq.POLLIN)
        try:
            while not self._stop.is_set():
                self._allowed.refresh(self._clock.monotonic_ns())
                ready = dict(poller.poll(100))
                if self._zap.socket in ready:
                    self._zap.answer()
                if self._socket in ready:
                    self._serve_group()
                for sink in self._sinks:
                    sink.turn()
                on_turn()
        finally:
            for sink in self._sinks:
                sink.close()
            self._context.destroy(200)

    # -- one group ------------------------------------------------------------------------------------------

    def _serve_group(self) -> None:
        """Take what has come, store it in one transaction, answer."""
        group, size = Group(), 0
        for _ in range(GROUP_MESSAGES):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            size += sum(len(f.buffer) for f in frames)
            gateway = str(frames[-1].get("User-Id"))  # set by ZAP from the enrolled key, not by the sender
            self.desk.take(frames[0].bytes, gateway, [partial(_bytes, f) for f in frames[1:]], group)
            if size >= GROUP_BYTES or group.nbytes >= DECODED_BYTES:
                break
        self.desk.settle(group)
        for peer, replies in group.replies.items():
            self._send(peer, replies.messages())

    def _send(self, peer: bytes, messages: list[m.Message]) -> None:
        for message in messages:
            try:
                self._socket.send_multipart([peer, m.encode(message)], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                # Gone or not reading: it will ask again, and what was stored is then a duplicate.
                log.debug("a reply could not be sent error=%s", error.strerror)
                return


def _bytes(frame: zmq.Frame) -> bytes:
    return frame.bytes
