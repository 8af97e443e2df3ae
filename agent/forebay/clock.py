"""Time, handed in so that tests can replace it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a stage asks for the time."""

    def wall_ns(self) -> int:
        """Return ns since 1970 UTC. May jump: for stamping only, never for ordering or expiry."""

    def monotonic_ns(self) -> int:
        """Return ns since an arbitrary start of this boot; never goes back."""


class SystemClock:
    """The machine's clocks. Monotonic is CLOCK_BOOTTIME, which counts suspended time as well."""

    def wall_ns(self) -> int:
        """See Clock."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """See Clock."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
