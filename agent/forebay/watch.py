"""Real progress for the service manager's watchdog: fed only while every pipeline and the spool's writer move.

The protocol is sd_notify(3): datagrams to the socket named in NOTIFY_SOCKET. Without it nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from forebay.clock import Clock
from forebay.drain import Stillness
from forebay.supervise import Unit

LONGEST_STEP_S = 60.0  # a model on a large picture takes seconds, a stalled card some ten
FEEDS_A_PERIOD = 3


class Notifier:
    """Tells the service manager how the service is. Never raises: a manager that is gone is no reason to stop."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        micros = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog_s = int(micros) / 1e6 if micros.isdigit() and mine else 0.0
        if self._address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    @property
    def pause_s(self) -> float:
        """Seconds between two looks."""
        return min(1.0, self.watchdog_s / FEEDS_A_PERIOD) if self.watchdog_s else 1.0

    def tell(self, *lines: str) -> None:
        """Send assignments such as `READY=1`."""
        if self._socket is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, address)
        except OSError:
            return

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


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
