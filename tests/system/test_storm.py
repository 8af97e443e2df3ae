"""Many gateways and one receiver that comes back: no storm. Simulated for a fleet, real for a few."""

from __future__ import annotations

import random
import threading
import time
from types import SimpleNamespace

import pytest
from results import record
from world import FakeClock

from forebay.clock import SystemClock
from forebay.errors import LinkError
from forebay.forward import Forwarder, LinkOptions, SpoolDoor
from forebay.keys import enroll, generate
from forebay.receive.server import Server, ServerOptions
from forebay.receive.sqlite import SqliteSink
from forebay.receive.zap import AllowList
from forebay.spool.claims import Claims
from forebay.wire.messages import PROTOCOL, Hello

NS = 1_000_000_000
HERE = ".venv/bin/python -m pytest tests/system/test_storm.py"
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
    deadline = time.monotonic() + 60
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
    finally:
        listener.stop()
        for forwarder in forwarders:
            forwarder.stop(20)
