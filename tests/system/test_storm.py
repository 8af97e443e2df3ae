"""Many gateways and one receiver that comes back: no storm. Simulated for a fleet, real for a few."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from results import record
from world import FakeClock

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.clock import SystemClock
from forebay.errors import ForebayError, LinkError
from forebay.forward import Forwarder, LinkOptions, SpoolDoor
from forebay.forward.session import START_BYTES, Session
from forebay.keys import enroll, generate
from forebay.receive.server import Server, ServerOptions
from forebay.receive.sqlite import SqliteSink
from forebay.receive.zap import AllowList
from forebay.spool import Spool
from forebay.spool.claims import Claims
from forebay.spool.store import Answers
from forebay.stages import Commit
from forebay.wire.envelope import Context, Stamp
from forebay.wire.messages import PROTOCOL, Hello
from forebay.wire.seal import Sealer

NS = 1_000_000_000
HERE = ".venv/bin/python -m pytest tests/system/test_storm.py"
BLOBS = Schema("shots", (Field("shot", Type.BYTES),))
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
        )
        assert spread > 1.0  # of two seconds
    finally:
        listener.stop()
        for forwarder in forwarders:
            forwarder.stop(20)


class Loaded:
    """A gateway with a backlog: a real spool with its writer, and a forwarder."""

    def __init__(self, folder: Path, name: str, batches: list[bytes]) -> None:
        self.name = name
        self.spool = Spool.open(folder / name, sync="normal", max_bytes=1 << 28, on_stored=lambda: None)
        context = Context(name, "s/p", "boot-1", "0")
        sealer = Sealer(context, lambda: Stamp(1, time.monotonic_ns(), "synced"))
        for blob in batches:
            block = Block(BLOBS, np.array([1], dtype=np.int64), (Column.of(Type.BYTES, [blob]),))
            sealed = sealer.seal(block, None)
            commit = Commit("s/p", [sealed], dict(sealer.bodies))
            commit.ledger["shots", "read", ""] += 1
            commit.ledger["shots", "accepted", ""] += 1
            self.spool.store.apply([commit], Answers())
        self.spool.writer.start()
        self.door = SpoolDoor(self.spool.reader(), self.spool.claims, self.spool.writer.answer)
        self.forwarder: Forwarder | None = None

    def start(self, endpoint: str, keys, options: LinkOptions) -> None:
        store = self.spool.store
        epochs = {epoch: (str(lane), number) for epoch, (lane, number) in store.epochs().items()}
        hello = Hello(PROTOCOL, self.name, "boot", "0", epochs, "")
        self.forwarder = Forwarder(
            [endpoint], keys, options, self.door, SystemClock(), lambda _s: hello, random.Random(self.name)
        )
        self.forwarder.start()

    def close(self) -> None:
        if self.forwarder is not None:
            self.forwarder.stop(20)
        self.spool.close(5)


class Busy(Listener):
    """A receiver with an empty store that refuses for a while, and notes what comes."""

    refuses_until = 0.0

    def __init__(self, folder, center, endpoint: str) -> None:
        super().__init__(folder, center, endpoint)
        self.arrived: list[tuple[float, int]] = []
        self.turns_s: list[float] = []
        desk, take, settle = self.server.desk, self.server.desk._take_batch, self.server.desk.settle
        store = desk._sinks[0].store

        def note(peer, gateway, head, frames, group):
            self.arrived.append((time.monotonic(), len(frames[1])))
            take(peer, gateway, head, frames, group)

        def timed(group):
            begun = time.monotonic()
            settle(group)
            self.turns_s.append(time.monotonic() - begun)

        def refuse_at_first(work):
            if time.monotonic() < self.refuses_until:
                raise ForebayError("not now")
            store(work)

        desk._take_batch, desk.settle, desk._sinks[0].store = note, timed, refuse_at_first

    def peak(self, width_s: float) -> int:
        """Return the most bytes that came in any stretch of time."""
        most, at, size = 0, 0, 0
        for when, more in self.arrived:
            size += more
            while self.arrived[at][0] < when - width_s:
                size -= self.arrived[at][1]
                at += 1
            most = max(most, size)
        return most


ACK_TIMEOUT_S = 60  # twice the default: a disk that others use as well may take its time


@pytest.mark.torture  # fifty agents and the receiver share one interpreter: minutes on a busy machine
def test_a_receiver_that_comes_back_to_fifty_backlogs_is_not_overrun(tmp_path, monkeypatch):
    """128 MB wait; it is started, refuses for two seconds, then takes: answers stay quick and resends come apart."""
    waits: list[float] = []
    _watch_answers(monkeypatch, waits)
    center, rng = generate("center"), random.Random(1)
    names = [f"gw-{n}" for n in range(50)]
    keys = {name: generate(name) for name in names}
    for name in names:
        enroll(name, keys[name].public, tmp_path / "allowed")
    blobs = [rng.randbytes(64 * 1024) for _ in range(40)]
    fleet = [Loaded(tmp_path, name, blobs) for name in names]
    first = Listener(tmp_path, center, "tcp://127.0.0.1:*")
    endpoint, busy = first.server.endpoint, None
    options = LinkOptions(
        backoff_min_ns=NS // 2,
        backoff_max_ns=3 * NS,
        connect_timeout_ns=20 * NS,
        ack_timeout_ns=ACK_TIMEOUT_S * NS,
    )
    try:
        first.server.desk._sinks[0].store = _refuse
        for gateway in fleet:
            gateway.start(endpoint, (keys[gateway.name], center.public), options)
        _await(50, first)
        first.stop()
        waits.clear()
        busy = Busy(tmp_path, center, endpoint)
        begun = time.monotonic()
        busy.refuses_until = begun + 2.0
        deadline = begun + 300
        while any(not gateway.door.reader.is_empty() for gateway in fleet):
            assert time.monotonic() < deadline, sum(not g.door.reader.is_empty() for g in fleet)
            time.sleep(0.1)
        took = time.monotonic() - begun
        check_storm(tmp_path, busy, waits, took)
    finally:
        (busy or first).stop()
        for gateway in fleet:
            gateway.close()


def check_storm(folder: Path, busy: Busy, waits: list[float], took: float) -> None:
    """Assert that every batch is stored once, and that neither bytes nor waits peaked; keep what was measured."""
    with sqlite3.connect(folder / "center.db") as db:
        stored = db.execute("SELECT count(*), count(DISTINCT gateway || '/' || seq) FROM batches").fetchone()
        assert stored == (2_000, 2_000)
        assert db.execute("SELECT count(*) FROM shots").fetchone() == (2_000,)
    db.close()
    spread = max(busy.came) - min(busy.came)
    peak, total = busy.peak(0.25), sum(size for _, size in busy.arrived)
    waits.sort()
    assert spread > 1.0
    assert peak < 50 * START_BYTES  # all windows at once would be 128 MB
    assert max(waits) < ACK_TIMEOUT_S  # else sessions end and everything is sent again
    assert total < 2 * 2_000 * 65_700
    record(
        "storm-backlog",
        "receiver restarted under 50 gateways with 2.6 MB each, refusing (RETRY_LATER) for its first 2 s",
        f"{HERE} -k fifty_backlogs -m torture",
        50,
        recovery_s=took,
        note=f"hellos spread over {spread:.1f} s; most in 250 ms {peak / 1e6:.0f} of {total / 1e6:.0f} MB sent;"
        f" answer p50 {waits[len(waits) // 2]:.2f} s, most {waits[-1]:.2f} s",
    )


def _refuse(_work: object) -> None:
    raise ForebayError("not now")


def _watch_answers(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    """Note how long each batch waited for its answer, whatever it was."""
    send, settle = Session._send, Session._settle

    def sending(self, batch):
        done = send(self, batch)
        self.__dict__.setdefault("sent_at", {})[batch.epoch, batch.seq] = time.monotonic()
        return done

    def settling(self, numbers):
        now = time.monotonic()
        numbers = list(numbers)
        waits.extend(now - self.sent_at[n] for n in numbers if n in self.sent_at)
        return settle(self, numbers)

    monkeypatch.setattr(Session, "_send", sending)
    monkeypatch.setattr(Session, "_settle", settling)
