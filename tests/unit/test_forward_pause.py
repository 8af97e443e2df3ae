"""How long the forwarder waits between tries."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from forebay.clock import SystemClock
from forebay.errors import LinkError
from forebay.forward import HELD_NS, Forwarder, LinkOptions
from forebay.forward.session import Held
from forebay.keys import generate

DOWN, REFUSED = LinkError("the connection was closed"), Held("the key handshake failed")


def pauses(errors: list[LinkError], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses in ns after each of these errors, without waiting them."""
    keys = (generate("gateway"), generate("center").public)
    door = SimpleNamespace(delivered=0, wake=lambda: None, close=lambda: None)
    options = LinkOptions(backoff_min_ns=1_000_000, backoff_max_ns=8_000_000)
    forwarder = Forwarder(["tcp://127.0.0.1:1"], keys, options, door, SystemClock(), None, random.Random(1))
    left, waited = list(errors), []

    def fail(_context: object, _endpoint: str) -> None:
        raise left.pop(0)

    def wait(seconds: float) -> None:
        waited.append(seconds * 1e9)
        if not left:
            forwarder._stop.set()

    monkeypatch.setattr(forwarder, "_connect_and_run", fail)
    monkeypatch.setattr(forwarder._stop, "wait", wait)
    forwarder._run()
    return waited


def test_a_refusal_among_broken_connections_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # A receiver that is being restarted: most tries find nobody, one is cut off in mid-handshake.
    assert max(pauses([DOWN] * 20 + [REFUSED] + [DOWN] * 3 + [REFUSED] * 2, monkeypatch)) <= 8_000_000


def test_refusals_alone_are_believed_after_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pauses([REFUSED] * 5, monkeypatch)
    assert max(found[:3]) <= 8_000_000
    assert min(found[3:]) >= HELD_NS / 2
