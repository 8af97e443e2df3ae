"""Whether somebody listens at an endpoint. A module apart: in the package `socket` is the module of that name here."""

from __future__ import annotations

import socket
from pathlib import Path

from forebay.config.agent import tcp_address

PROBE_S = 1.0


def reachable(endpoint: str) -> bool:
    """Return whether something listens there. It need not be a receiver: the next session finds out."""
    return _probe(endpoint) is True


def refuses(endpoint: str) -> bool:
    """Return whether nobody listens there, for sure: no answer in time may be a slow network."""
    return _probe(endpoint) is False


def _probe(endpoint: str) -> bool | None:
    """Return whether a connection can be made, None if that did not show in time."""
    address = tcp_address(endpoint)
    if address is None:
        return Path(endpoint.removeprefix("ipc://")).exists()
    try:
        socket.create_connection(address, timeout=PROBE_S).close()
    except TimeoutError:
        return None
    except OSError:
        return False
    return True
