"""Many gateways and one receiver that comes back: no storm. Simulated for a fleet, real for fifty.

FOREBAY_STORM_MIB: what waits at the fifty together (1024 in the long run).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from fleet import ACK_TIMEOUT_S, BLOB
from plant import kill
from results import record
from world import FakeClock

from forebay.clock import SystemClock
from forebay.errors import ForebayError, LinkError
from forebay.forward import Forwarder, LinkOptions, SpoolDoor
from forebay.forward.session import START_BYTES
from forebay.keys import enroll, generate, write_pair
from forebay.receive.server import Server, ServerOptions
from forebay.receive.sqlite import SqliteSink
from forebay.receive.zap import AllowList
from forebay.spool.claims import Claims
from forebay.wire.messages import PROTOCOL, Hello

NS = 1_000_000_000
MIB = 1024 * 1024
HERE = ".venv/bin/python -m pytest tests/system/test_storm.py"
GATEWAYS, PROCESSES = 50, 5
REFUSES_S = 2.0
WINDOW_BYTES = LinkOptions().window_bytes
STORM_MIB = int(os.environ.get("FOREBAY_STORM_MIB", "1024"))
KEYS = (generate("gateway"), generate("center").public)


def tries(seed: int, outage_s: float, options: LinkOptions) -> list[float]:
    """Return when one forwarder tries (s) from the cut until it meets the receiver again, without waiting."""
    clock = FakeClock()
    began = clock.mono
    door = SimpleNamespace(delivered=0, wake=lambda: None, close=lambda: None)
    forwarder = Forwarder(["tcp://127.0.0.1:1"], KEYS, options, door, clock, None, random.Random(seed))
    out: list[float] = []

    def fail(_context: object, _endpoint: str) -> None:
        out.append((clock.mono - began) / NS)
        if out[-1] >= outage_s:
            forwarder._stop.set()
        raise LinkError("nobody there")

    forwarder._connect_and_run = fail
    forwarder._stop.wait = lambda seconds: clock.advance(seconds)
    forwarder._run()
    return out[1:]  # the first is the cut itself


@pytest.mark.parametrize("outage_s", [20, 600])
def test_a_fleet_comes_back_over_time_and_not_at_once(outage_s):
    options = LinkOptions(backoff_min_ns=NS // 2, backoff_max_ns=60 * NS)  # the shipped values
    fleet = [tries(seed, outage_s, options) for seed in range(200)]
    back = sorted(times[-1] for times in fleet)
    spread = back[-1] - back[0]
    busiest = max(sum(1 for t in back if s <= t < s + 1) for s in range(int(back[0]), int(back[-1]) + 1))
    assert spread > 5
    assert busiest <= 40  # of 200 in the busiest second
    assert all(times[-1] - outage_s <= 60 for times in fleet)  # and none later than `retry_max`
    during = sum(len(times) - 1 for times in fleet) / len(fleet)
    assert during < 5 + outage_s / 30  # tries a gateway


class EmptySpool:
    """Nothing waits."""

    def pending(self, *_: object, **__: object) -> list[object]:
        return []

    batch = exists = lambda self, _id: None
    look_for_hidden = lambda self: None  # noqa: E731
    gaps = receipts = lambda self, _limit: []
    lost_by_center = lambda self, *_: []  # noqa: E731

    def close(self) -> None:
        """Nothing to close."""


class Listener:
    """A receiver whose gateways are counted as they come."""

    def __init__(self, folder, center, endpoint: str) -> None:
        sink = SqliteSink(folder / "center.db")
        self.server = Server(
            ServerOptions("dc-1", endpoint), center, AllowList(folder / "allowed"), [sink], SystemClock()
        )
        self.came: list[float] = []
        welcome = self.server.desk._welcome

        def count(gateway, hello):
            self.came.append(time.monotonic())
            return welcome(gateway, hello)

        self.server.desk._welcome = count
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(20)


def _await(count: int, listener: Listener) -> None:
    deadline = time.monotonic() + 240
    while len(listener.came) < count:
        assert time.monotonic() < deadline, f"{len(listener.came)} of {count} came"
        time.sleep(0.02)


def test_a_restarted_receiver_sees_fifty_gateways_once_each(tmp_path):
    center = generate("center")
    forwarders = []
    gateways = 50
    keys = [generate(f"gw-{n}") for n in range(gateways)]
    for n, key in enumerate(keys):
        enroll(f"gw-{n}", key.public, tmp_path / "allowed")
    listener = Listener(tmp_path, center, "tcp://127.0.0.1:*")
    endpoint = listener.server.endpoint
    options = LinkOptions(backoff_min_ns=NS // 2, backoff_max_ns=3 * NS, connect_timeout_ns=20 * NS)
    try:
        for n, key in enumerate(keys):
            door = SpoolDoor(EmptySpool(), Claims(), lambda **_: None)
            hello = Hello(PROTOCOL, f"gw-{n}", "boot", "0", {n: ("normal", 1)}, "")
            forwarders.append(
                Forwarder(
                    [endpoint], (key, center.public), options, door, SystemClock(), lambda _s, h=hello: h
                )
            )
            forwarders[-1].start()
        _await(gateways, listener)
        listener.stop()
        listener = Listener(tmp_path, center, endpoint)
        begun = time.monotonic()
        _await(gateways, listener)
        spread = max(listener.came) - min(listener.came)
        assert (
            len(listener.came) <= gateways * 1.2
        )  # a hello each; a few may have been cut while shaking hands
        record(
            "storm",
            "receiver restarted under 50 connected gateways",
            f"{HERE} -k fifty_gateways",
            1,
            recovery_s=time.monotonic() - begun,
            note=f"{len(listener.came)} hellos, spread over {spread:.1f} s with `retry_min: 500ms`",
            lost=None,
            doubled=None,
        )
        assert spread > 1.0  # of two seconds
    finally:
        listener.stop()
        for forwarder in forwarders:
            forwarder.stop(20)


class Busy(Listener):
    """A receiver with an empty store that refuses for a while, and notes what comes."""

    refuses_until = 0.0

    def __init__(self, folder, center, endpoint: str) -> None:
        super().__init__(folder, center, endpoint)
        self.arrived: list[tuple[float, int]] = []
        desk, take = self.server.desk, self.server.desk._take_batch
        store = desk._sinks[0].store

        def note(peer, gateway, head, frames, group):
            self.arrived.append((time.monotonic(), len(frames[1])))
            take(peer, gateway, head, frames, group)

        def refuse_at_first(work):
            if time.monotonic() < self.refuses_until:
                raise ForebayError("not now")
            store(work)

        desk._take_batch, desk._sinks[0].store = note, refuse_at_first

    def peak(self, width_s: float, until_s: float) -> int:
        """Return the most bytes that came in any stretch of time, up to a moment."""
        most, at, size = 0, 0, 0
        for when, more in self.arrived:
            if when > until_s:
                break
            size += more
            while self.arrived[at][0] < when - width_s:
                size -= self.arrived[at][1]
                at += 1
            most = max(most, size)
        return most


class Fleet:
    """Fifty gateways in five processes."""

    def __init__(self, folder: Path, endpoint: str, batches: int) -> None:
        self.children = []
        for first in range(0, GATEWAYS, GATEWAYS // PROCESSES):
            numbers = map(str, (first, GATEWAYS // PROCESSES, batches))
            command = [
                sys.executable,
                str(Path(__file__).with_name("fleet.py")),
                str(folder),
                endpoint,
                *numbers,
            ]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.children.append(subprocess.Popen(command, env=environment, **pipes))
            assert self.children[-1].stdout.readline() == "ready\n"  # one after the other: it is no race

    def tell(self) -> None:
        for child in self.children:
            child.stdin.write("\n")
            child.stdin.flush()

    def waits(self) -> list[float]:
        """Return how long batches waited for their answers, once all are delivered."""
        return sorted(wait for child in self.children for wait in json.loads(child.stdout.readline()))

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.tell()
        for child in self.children:
            try:
                child.communicate(timeout=60)
            finally:
                kill(child)


def storm(folder: Path, batches: int) -> Storm:
    """Let a receiver come back to fifty backlogs: it is started, refuses for two seconds, then takes."""
    center = generate("center")
    write_pair(center, folder)
    for n in range(GATEWAYS):
        key = generate(f"gw-{n}")
        write_pair(key, folder)
        enroll(key.name, key.public, folder / "allowed")
    first = Listener(folder, center, "tcp://127.0.0.1:*")
    endpoint, busy, fleet = first.server.endpoint, None, None
    try:
        fleet = Fleet(folder, endpoint, batches)
        first.server.desk._sinks[0].store = _refuse
        fleet.tell()
        _await(GATEWAYS, first)
        first.stop()
        before = rss_bytes()
        fleet.tell()
        busy = Busy(folder, center, endpoint)
        begun = time.monotonic()
        busy.refuses_until = begun + REFUSES_S
        watch = Memory()
        waits = fleet.waits()
        took = time.monotonic() - begun
        return Storm(
            took,
            waits,
            max(busy.came) - min(busy.came),
            busy.peak(0.25, begun + REFUSES_S + 1),
            sum(size for _, size in busy.arrived),
            watch.stop() - before,
        )
    finally:
        (busy or first).stop()
        if fleet is not None:
            fleet.close()


class Memory:
    """Looks how large this process, the receiver's, becomes."""

    def __init__(self) -> None:
        self._most, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self._most = max(self._most, rss_bytes())

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._most


def rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@dataclass
class Storm:
    """What was measured. `peak`: most bytes in 250 ms, up to a second after the receiver began to take."""

    took_s: float
    waits: list[float]
    spread_s: float
    peak: int
    sent: int
    grew: int


def check_storm(folder: Path, found: Storm, batches: int) -> None:
    """Assert that every batch is stored once, and that neither bytes nor waits peaked."""
    count = GATEWAYS * batches
    with sqlite3.connect(folder / "center.db") as db:
        stored = db.execute("SELECT count(*), count(DISTINCT gateway || '/' || seq) FROM batches").fetchone()
        assert stored == (count, count)
        assert db.execute("SELECT count(*) FROM shots").fetchone() == (count,)
        assert db.execute("SELECT count(*) FROM gaps").fetchone() == (0,)
    db.close()
    assert found.spread_s > 1.0
    assert found.peak < GATEWAYS * START_BYTES
    assert found.waits[-1] < ACK_TIMEOUT_S  # else sessions end and everything is sent again
    # What is on its way while the receiver refuses is sent again: a first window each, and what grew of it.
    assert found.sent < count * 65_700 + 3 * GATEWAYS * START_BYTES
    assert found.grew < GATEWAYS * WINDOW_BYTES


@pytest.mark.slow
def test_a_receiver_that_comes_back_to_fifty_gateways_is_not_overrun(tmp_path):
    check_storm(tmp_path, storm(tmp_path, 20), 20)


@pytest.mark.torture
def test_a_receiver_that_comes_back_to_fifty_backlogs_is_not_overrun(tmp_path):
    batches = STORM_MIB * MIB // BLOB // GATEWAYS
    found = storm(tmp_path, batches)
    print(found.took_s, found.spread_s, found.peak, found.sent, found.grew)
    check_storm(tmp_path, found, batches)
    size = GATEWAYS * batches * BLOB
    where = " --basetemp=/dev/shm/storm" if tmp_path.is_relative_to("/dev/shm") else ""
    record(
        "storm-backlog",
        f"receiver restarted under {GATEWAYS} gateways with {size / MIB:.0f} MiB together, refusing (RETRY_LATER)"
        f" for its first {REFUSES_S} s",
        f"FOREBAY_STORM_MIB={STORM_MIB} {HERE} -k fifty_backlogs -m torture{where}",
        GATEWAYS,
        recovery_s=found.took_s,
        note=f"hellos spread over {found.spread_s:.1f} s; {found.sent / MIB:.0f} MiB sent, at most"
        f" {found.peak / MIB:.0f} in 250 ms while they came back; receiver grew by {found.grew / MIB:.0f} MiB;"
        f" answer p50 {found.waits[len(found.waits) // 2]:.2f} s, most {found.waits[-1]:.2f} s; each batch stored once",
    )


def _refuse(_work: object) -> None:
    raise ForebayError("not now")
