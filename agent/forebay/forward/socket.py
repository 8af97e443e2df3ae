"""The connection itself: a CURVE DEALER, its monitor, and the spool's wake-up in one poll."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import zmq

from forebay.errors import LinkError
from forebay.forward.link import Held, LinkOptions, SpoolDoor
from forebay.keys import PublicKey, SecretKey
from forebay.wire import messages as m
from forebay.wire.curve import set_client, set_heartbeat

HANDSHAKE_FAILURES = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the receiver does not accept this gateway's key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the key handshake failed: the server key is probably another one",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the key handshake failed: one of the two keys is probably wrong",
}


_HINT = "at the receiver: forebay keys enroll GATEWAY_ID PUBFILE --allow DIR"


class ZmqLink:
    """See link.Link. Use once."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        keys: tuple[SecretKey, PublicKey],
        options: LinkOptions,
        door: SpoolDoor,
    ) -> None:
        self.endpoint, self._door = endpoint, door
        socket = self._socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 2 * options.window + 16)
        socket.setsockopt(zmq.SNDTIMEO, 0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, m.MAX_CONTROL_BYTES)
        set_heartbeat(socket, options.heartbeat_ns // 1_000_000)
        set_client(socket, *keys)
        socket.connect(endpoint)
        self._monitor = socket.get_monitor_socket(int(sum(HANDSHAKE_FAILURES)) | int(zmq.EVENT_DISCONNECTED))
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(door.wake_fd, zmq.POLLIN)

    def send(self, frames: list[bytes]) -> bool:
        """See Link."""
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self, timeout_ms: int) -> Iterator[list[bytes]]:
        """See Link."""
        ready = dict(self._poller.poll(timeout_ms))
        if self._door.wake_fd in ready:
            self._door.take_wake()
        if self._monitor in ready:
            self._look_at_monitor()
        while int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            yield self._socket.recv_multipart(zmq.NOBLOCK)

    def close(self) -> None:
        """See Link."""
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

    def _look_at_monitor(self) -> None:
        # Frame 0 is event (16 bits) and value (32 bits), frame 1 the endpoint: zmq_socket_monitor(3). pyzmq's
        # own reader would do, but its module imports asyncio: 0.1 s and 10 MB.
        event = int.from_bytes(self._monitor.recv_multipart(zmq.NOBLOCK)[0][:2], sys.byteorder)
        # A client that was refused never tries again by itself, and one that was cut off would wait for
        # the acknowledgement to time out: both end the session.
        reason = HANDSHAKE_FAILURES.get(zmq.Event(event))
        if reason is not None:
            raise Held(reason, place=self.endpoint, hint=_HINT)
        raise LinkError("the connection was closed", place=self.endpoint)
