"""When a finite run (`--once`) is done: sources at their end, steps flushed, everything acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.supervise import Unit

LOOK_S = 0.02  # at first; a run that lasts is looked at more seldom, so that its end is told at most 2 % late
_SELDOM_S, _LATE = 0.5, 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `undelivered` counts readings that the receiver has not acknowledged."""

    complete: bool
    reason: str = ""
    undelivered: int = 0


class Road(Protocol):
    """What a finite run watches of the agent."""

    stopping: threading.Event
    failure: str

    def progress(self) -> object:
        """Return what changes while data moves."""

    def is_empty(self) -> bool:
        """Return whether nothing waits in the spool."""

    def has_link(self) -> bool:
        """Return whether there is a forwarder."""

    def can_write(self) -> bool:
        """Return whether the spool takes commits."""

    def why_stuck(self, still_s: float) -> str:
        """Return why nothing moves."""

    def undelivered(self) -> int:
        """Return readings accepted and not delivered."""


class Stillness:
    """Tells for how long a value has not changed."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last: object = None
        self._begun = self._since = now()

    def seconds(self, value: object) -> float:
        """Return how long `value` has been the same."""
        if value != self._last:
            self._last, self._since = value, self._now()
        return self._now() - self._since

    def pause_s(self) -> float:
        """Return how long to wait before the next look."""
        return min(_SELDOM_S, max(LOOK_S, _LATE * (self._now() - self._begun)))


def drain(road: Road, units: Sequence[Unit], give_up_s: float) -> Outcome:
    """Wait until every finite source has ended and all was acknowledged, or until it cannot be."""
    stuck = _finish(road, units, give_up_s)
    if stuck:
        return Outcome(False, stuck, road.undelivered())
    outcome = _await_delivery(road, units, give_up_s)
    failed = [u.runner for u in units if u.runner.failed is not None]
    if failed:
        return Outcome(False, "; ".join(f"source {r.name}: {r.failed}" for r in failed), outcome.undelivered)
    return outcome


def _finish(road: Road, units: Sequence[Unit], give_up_s: float) -> str:
    """Let each pipeline end when its source has. Return why that cannot be: told to stop, or no room."""
    since = Stillness()
    while any(unit.is_alive() for unit in units):
        for unit in units:
            if not unit.is_reading():
                unit.finish()
        if road.stopping.wait(since.pause_s()):
            return road.failure or "stopped before the end"
        # A slow source is no reason to give up; one that waits for a spool without room is.
        still = since.seconds(road.progress())
        if not road.can_write() and still > give_up_s:
            return road.why_stuck(give_up_s)
    return "; ".join(unit.failed for unit in units if unit.failed)


def _await_delivery(road: Road, units: Sequence[Unit], give_up_s: float) -> Outcome:
    """Watch the spool run empty. What was set aside, evicted or damaged is not delivered."""
    since = Stillness()
    while not road.stopping.is_set():
        idle = road.is_empty()
        durable = all(unit.worker.is_durable(0) for unit in units)
        if idle and durable:
            return _account(road)
        if not road.has_link() and durable:
            reason = "there is no `forward` section: data stays in the spool"
            return Outcome(False, reason, road.undelivered())
        if since.seconds(road.progress()) > give_up_s:
            return Outcome(False, road.why_stuck(give_up_s), road.undelivered())
        road.stopping.wait(since.pause_s())
    return Outcome(False, road.failure or "stopped before all was acknowledged", road.undelivered())


def _account(road: Road) -> Outcome:
    lost = road.undelivered()
    if lost:
        return Outcome(False, "some readings were evicted or set aside, see `forebay status`", lost)
    return Outcome(True)
