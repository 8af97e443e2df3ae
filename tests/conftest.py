"""Fixtures shared by all tests: keys, a receiver on a random port, blocks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from databases import postgres_server
from hypothesis import HealthCheck, settings

from forebay import keys as key_files
from forebay.clock import SystemClock
from forebay.keys import SecretKey

# A busy machine may stop for longer than any deadline, of one example or of making them. CI judges a commit, so that
# the same commit gets the same answer; everywhere else each run looks for new examples.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("here", patient)
settings.register_profile("ci", patient, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@dataclass
class Keys:
    """A gateway and a center that know each other."""

    folder: Path
    gateway: SecretKey
    center: SecretKey

    @property
    def allow(self) -> Path:
        return self.folder / "allowed"


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """The connection string of a real PostgreSQL that is there for all tests of this process."""
    with postgres_server() as server:
        yield server.uri


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    folder = tmp_path / "keys"
    gateway, center = key_files.generate("gateway"), key_files.generate("center")
    key_files.write_pair(gateway, folder)
    key_files.write_pair(center, folder)
    key_files.enroll("gw-1", gateway.public, folder / "allowed")
    return Keys(folder, gateway, center)


@dataclass
class Receiver:
    """A receiver in a thread of this process."""

    endpoint: str
    database: Path
    stop: Callable[[], None]
    server: object = field(repr=False, default=None)


@pytest.fixture
def start_receiver(keys: Keys, tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Return a function that starts a receiver, on the same port again if asked."""
    from forebay.receive.server import Server, ServerOptions
    from forebay.receive.sqlite import SqliteSink
    from forebay.receive.zap import AllowList

    running: list[Receiver] = []

    def start(endpoint: str = "tcp://127.0.0.1:*", name: str = "center.db") -> Receiver:
        database = tmp_path / name
        server = Server(
            ServerOptions("dc-1", endpoint),
            keys.center,
            AllowList(keys.allow),
            [SqliteSink(database)],
            SystemClock(),
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()

        def stop() -> None:
            server.stop()
            thread.join(10)
            assert not thread.is_alive()

        receiver = Receiver(server.endpoint, database, stop, server)
        running.append(receiver)
        return receiver

    yield start
    for receiver in running:
        receiver.stop()
