"""Simulated gateways: many CURVE sessions in one process, each with a key of its own, that send batches in turn."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from pathlib import Path

import zmq

from benchmarks import reference_series
from benchmarks.gateway_site import Site, cpu_seconds_of, memory
from forebay import keys
from forebay.stages import Sealed
from forebay.wire import messages as m
from forebay.wire.curve import set_client, set_heartbeat
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer

_EPOCH = 1 << 32
_WAIT_S = 60.0
_ROWS = 1_000


class _Gateway:
    """One session: hello, bodies, batches one after the other, each after the answer to the one before."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], site: Site, name: str, batches: int) -> None:
        self.name = name
        sealer = Sealer(Context(name, "f/pump", "boot", "0"), lambda: Stamp(1, 2, "synced"))
        blocks = reference_series.blocks(reference_series.generate(batches * _ROWS), _ROWS)
        self.batches: list[Sealed] = [sealer.seal(block, None) for block in blocks]
        self.bodies = list(sealer.bodies.values())
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        set_heartbeat(self.socket)
        own = keys.read_secret(site.folder / "keys" / f"{name}.key")
        set_client(self.socket, own, keys.read_public(site.folder / "keys" / "center.pub"))
        self.socket.connect(site.endpoint)
        self._sent, self._at = 0, 0.0
        self.waits: list[float] = []

    def hello(self) -> None:
        epochs = {_EPOCH: ("normal", 1 + len(self.batches))}
        self.socket.send(m.encode(m.Hello(m.PROTOCOL, self.name, "boot", "0", epochs, "")))

    def send_next(self) -> bool:
        """Send the next batch. False: all are sent."""
        if self._sent == len(self.batches):
            return False
        batch = self.batches[self._sent]
        self._sent += 1
        head = m.Batch(str(batch.lane), _EPOCH, self._sent, batch.tag)
        self._at = time.perf_counter()
        self.socket.send_multipart([m.encode(head), batch.data])
        return True

    def acknowledged(self) -> None:
        self.waits.append(time.perf_counter() - self._at)


class Fleet:
    """So many gateways at one receiver, until the context ends."""

    def __init__(self, count: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.site = Site(Path(self._folder.name))
        self._names = [f"gw-{n:04d}" for n in range(1_000, 1_000 + count)]
        for name in self._names:
            keys.write_pair(keys.generate(name), self.site.folder / "keys")
            public = keys.read_public(self.site.folder / "keys" / f"{name}.pub")
            keys.enroll(name, public, self.site.folder / "keys" / "allowed")

    def run(self, batches: int) -> dict[str, float | list[float]]:
        """Let each gateway send `batches`. Return CPU seconds, readings, memory and waits of the receiver.

        Raises AssertionError if anything but an acknowledgement comes back.
        """
        with self._folder, self.site as site, contextlib.ExitStack() as stack:
            context = stack.enter_context(zmq.Context())
            context.set(zmq.MAX_SOCKETS, 4_096)
            gateways = [_Gateway(context, site, name, batches) for name in self._names]
            for gateway in gateways:
                stack.callback(gateway.socket.close)
            poller = zmq.Poller()
            by_socket = {gateway.socket: gateway for gateway in gateways}
            for gateway in gateways:
                poller.register(gateway.socket, zmq.POLLIN)
                gateway.hello()
            self._until(poller, by_socket, m.Welcome, len(gateways))
            before, begin = cpu_seconds_of(site.receiver_pid), time.monotonic()
            for gateway in gateways:
                gateway.socket.send(m.encode(m.Bodies(gateway.bodies)))
                gateway.send_next()
            self._until(poller, by_socket, m.Ack, len(gateways) * batches)
            took, cpu = time.monotonic() - begin, cpu_seconds_of(site.receiver_pid) - before
            rss = memory(site.receiver_pid)
            ((readings,),) = site.query("SELECT sum(readings) FROM batches")
        sent = sum(batch.readings for gateway in gateways for batch in gateway.batches)
        assert readings == sent, f"expected {sent} readings at the receiver, found {readings}"
        waits = [wait for gateway in gateways for wait in gateway.waits]
        return {"cpu_s": cpu, "wall_s": took, "readings": readings, "rss": rss, "waits": waits}

    @staticmethod
    def _until(
        poller: zmq.Poller, by_socket: dict[zmq.Socket[bytes], _Gateway], kind: type, count: int
    ) -> None:
        """Take answers until `count` of a kind have come."""
        seen: Counter[str] = Counter()
        deadline = time.monotonic() + _WAIT_S
        while seen[kind.__name__] < count:
            assert time.monotonic() < deadline, (
                f"expected {count} {kind.__name__} in {_WAIT_S:g} s, got {dict(seen)}"
            )
            for socket, _ in poller.poll(200):
                message = m.decode(socket.recv_multipart()[0])
                assert isinstance(message, kind), f"the receiver answered {type(message).__name__}"
                seen[kind.__name__] += len(message.numbers) if isinstance(message, m.Ack) else 1
                if isinstance(message, m.Ack):
                    by_socket[socket].acknowledged()
                    by_socket[socket].send_next()
