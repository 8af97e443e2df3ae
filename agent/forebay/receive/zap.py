"""ZAP (RFC 27): which client keys may connect, answered in the receiver's own loop.

CURVE fails open without a handler; the socket enforces the domain, so with no answer nobody gets in.
"""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase
from pathlib import Path

import zmq

from forebay.keys import RELAY, read_allowed, read_relays
from forebay.wire.curve import ZAP_DOMAIN, ZAP_ENDPOINT

log = logging.getLogger("forebay.receive")

LOOK_AGAIN_NS = 500_000_000


class AllowList:
    """The folder of enrolled public keys, read again when it changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_key: dict[bytes, str] = {}
        self._signing: dict[str, bytes] = {}
        self._relays: dict[str, tuple[str, ...]] = {}
        self._seen: object = None
        self._looked_ns = -LOOK_AGAIN_NS

    def refresh(self, now_ns: int) -> None:
        """Read the folder if it changed since the last look. A folder that cannot be read allows nobody."""
        if now_ns - self._looked_ns < LOOK_AGAIN_NS:
            return
        self._looked_ns = now_ns
        try:
            files = [p for p in self._folder.iterdir() if p.suffix in (".pub", RELAY)]
            seen = sorted((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in files)
            if seen == self._seen:
                return
            allowed, errors = read_allowed(self._folder)
            relays = read_relays(self._folder)
        except OSError as error:
            log.error(
                "allow-list cannot be read, nobody is let in folder=%s error=%s", self._folder, error.strerror
            )
            self._by_key, self._signing, self._relays, self._seen = {}, {}, {}, None
            return
        for problem in errors:
            log.error("an enrolled key cannot be used: %s", problem)
        self._by_key = {key.transport: gateway for gateway, key in allowed.items()}
        self._signing = {gateway: key.signing for gateway, key in allowed.items()}
        self._relays = relays
        self._seen = seen
        log.info("allow-list read gateways=%d", len(allowed))
        if not allowed:
            log.warning("allow-list is empty: nobody is let in folder=%s", self._folder)

    def gateway(self, transport_key: bytes) -> str | None:
        """Return whose key it is."""
        return self._by_key.get(transport_key)

    def has(self, gateway: str) -> bool:
        """Return whether a gateway is enrolled now."""
        return gateway in self._signing

    def signing_key(self, gateway: str) -> bytes | None:
        """Return the key that a gateway signs with."""
        return self._signing.get(gateway)

    def speaks_for(self, relay: str, gateway: str) -> bool:
        """Return whether a relay is enrolled to hand on a gateway's data."""
        return any(fnmatchcase(gateway, pattern) for pattern in self._relays.get(relay, ()))


class ZapHandler:
    """Answers libzmq's questions about clients."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: AllowList) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ENDPOINT)
        self._allowed = allowed

    def answer(self) -> None:
        """Answer one question."""
        frames = self.socket.recv_multipart()
        if len(frames) < 7 or frames[0] != b"1.0":
            # Not a ZAP 1.0 request with a CURVE key; libzmq takes a malformed answer for a refusal.
            self.socket.send_multipart(
                [b"1.0", frames[1] if len(frames) > 1 else b"", b"500", b"bad", b"", b""]
            )
            return
        request_id, domain, address, mechanism, key = frames[1], frames[2], frames[3], frames[5], frames[6]
        gateway = self._allowed.gateway(key) if (domain, mechanism) == (ZAP_DOMAIN, b"CURVE") else None
        if gateway is None:
            log.warning(
                "a client with a key that is not enrolled was refused address=%s",
                address.decode("ascii", "replace"),
            )
            self.socket.send_multipart([b"1.0", request_id, b"400", b"not enrolled", b"", b""])
        else:
            self.socket.send_multipart([b"1.0", request_id, b"200", b"OK", gateway.encode(), b""])
