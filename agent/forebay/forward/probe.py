"""Tries whether a receiver takes this gateway's key: the CURVE handshake alone, no message is sent."""

from __future__ import annotations

import sys
import time

import zmq

from forebay.forward.socket import HANDSHAKE_FAILURES
from forebay.keys import PublicKey, SecretKey
from forebay.wire.curve import set_client


def handshake(endpoint: str, keys: tuple[SecretKey, PublicKey], timeout_s: float) -> str:
    """Return why a receiver that can be reached does not let this gateway in, empty when it does.

    A running agent's session with the same key goes on: it is told apart by its connection.
    """
    events = int(sum(HANDSHAKE_FAILURES)) | int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        set_client(socket, *keys)
        monitor = socket.get_monitor_socket(events)
        try:
            socket.connect(endpoint)
            until = time.monotonic() + timeout_s
            while monitor.poll(max(0, int((until - time.monotonic()) * 1000))):
                event = zmq.Event(int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder))
                return HANDSHAKE_FAILURES.get(event, "")
        finally:
            socket.disable_monitor()
            monitor.close(0)
    return "nothing there speaks as a receiver does"
