"""A TCP proxy that does to a connection what bad links do. Seeded; one thread with asyncio.

Faults of one connection, all changed while it runs: `latency` and `rate` delay bytes, `lossy`, `reorder` and
`flip` damage them (what a broken middlebox does: TCP itself mends lost packets), `half_open` swallows one
direction without closing, `cut` closes, `refuse` closes new connections at once.
"""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """What happens now. Probabilities are per piece of up to 4 KiB."""

    latency_s: float = 0.0
    rate: float = 0.0  # bytes a second, 0: as fast as it goes
    lossy: float = 0.0
    reorder: float = 0.0
    flip: float = 0.0
    half_open: str = ""  # `up` or `down`: swallowed
    refuse: bool = False


@dataclass(slots=True)
class Counts:
    """What happened."""

    connections: int = 0
    cuts: int = 0
    up: int = 0
    down: int = 0
    starts: list[float] = field(default_factory=list)


class Proxy:
    """Listens on a port of its own and forwards to `target`. Use as a context manager."""

    def __init__(self, target: tuple[str, int], seed: int = 0, port: int = 0) -> None:
        self.target, self.rng = target, random.Random(seed)
        self.faults, self.counts = Faults(), Counts()
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._wanted_port = port
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def cut(self) -> None:
        """Close every connection, both sides."""
        self.counts.cuts += 1
        self._loop.call_soon_threadsafe(self._close_all)

    def _close_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._wanted_port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._close_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.counts.connections += 1
        self.counts.starts.append(self._loop.time())
        other: asyncio.StreamWriter | None = None
        try:
            if self.faults.refuse:
                return
            far, other = await asyncio.open_connection(*self.target)
            self._writers.add(other)
            pipes = [self._pipe(reader, other, "up"), self._pipe(far, writer, "down")]
            tasks = [asyncio.ensure_future(pipe) for pipe in pipes]
            _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for left in pending:
                left.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, other):
                if end is not None:
                    end.transport.abort()
                    self._writers.discard(end)
            self._tasks.discard(task)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        held = b""
        while piece := await reader.read(4096):
            faults = self.faults
            if faults.half_open == way:
                continue
            if way == "up":
                self.counts.up += len(piece)
            else:
                self.counts.down += len(piece)
            if faults.latency_s:
                await asyncio.sleep(faults.latency_s * self.rng.uniform(0.5, 1.5))
            if faults.rate:
                await asyncio.sleep(len(piece) / faults.rate)
            if self.rng.random() < faults.lossy:
                continue
            if self.rng.random() < faults.flip:
                at = self.rng.randrange(len(piece))
                piece = piece[:at] + bytes([piece[at] ^ (1 << self.rng.randrange(8))]) + piece[at + 1 :]
            if self.rng.random() < faults.reorder and not held:
                held = piece
                continue
            writer.write(piece + held)
            held = b""
            await writer.drain()
