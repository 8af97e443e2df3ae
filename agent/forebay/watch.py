"""Real progress: what has stopped moving. The service manager's watchdog is fed only while nothing has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forebay.clock import Clock
from forebay.drain import Stillness
from forebay.supervise import Unit

LONGEST_STEP_S = 60.0  # a model on a large picture takes seconds, a stalled card some ten


@dataclass(frozen=True, slots=True)
class WriterPulse:
    """How the spool's writer is: waiting work, what changes when it moves, whether it can write."""

    waiting: bool
    progress: object
    can_write: bool


class Watch:
    """Finds what has stopped moving."""

    def __init__(
        self, units: Callable[[], Sequence[Unit]], pulse: Callable[[], WriterPulse], clock: Clock
    ) -> None:
        self._units, self._pulse, self._clock = units, pulse, clock
        self._writer = Stillness(lambda: clock.monotonic_ns() / 1e9)

    def stuck(self, limit_s: float) -> str:
        """Return what has not moved for `limit_s`, empty when all is well."""
        now = self._clock.monotonic_ns()
        for unit in self._units():
            idle_s = (now - unit.worker.last_progress_ns) / 1e9
            if unit.is_working() and idle_s > limit_s:
                return f"pipeline {unit.name} has not moved for {idle_s:.0f} s"
        pulse = self._pulse()
        # A disk that is full or failing is known and answered; a call that does not come back is not.
        busy = pulse.waiting and pulse.can_write
        still_s = self._writer.seconds((pulse.progress, busy))
        if busy and still_s > limit_s:
            return f"the spool's writer has not moved for {still_s:.0f} s"
        return ""

    @staticmethod
    def limit_s(watchdog_s: float) -> float:
        """Return how long a part may stand still: a stuck one must be seen before the manager's own limit."""
        return min(LONGEST_STEP_S, watchdog_s / 2) if watchdog_s else LONGEST_STEP_S
