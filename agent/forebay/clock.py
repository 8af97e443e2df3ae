"""Time, handed in so that tests can replace it."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Protocol

_STEP_NS = 1_000_000_000  # wall and monotonic drifting apart by this much at once is a step
_STA_UNSYNC = 0x0040  # linux/timex.h
_TIMEX_BYTES = 208
_TIMEX_STATUS = 40  # offset of `status` in struct timex on 64-bit Linux


class Clock(Protocol):
    """Where a stage asks for the time."""

    def wall_ns(self) -> int:
        """Return ns since 1970 UTC. May jump: for stamping only, never for ordering or expiry."""

    def monotonic_ns(self) -> int:
        """Return ns since an arbitrary start of this boot; never goes back."""

    def state(self) -> str:
        """Return how good the wall clock is: `unsynced`, `synced` or `stepped` (jumped in this boot)."""


class SystemClock:
    """The machine's clocks. Monotonic is CLOCK_BOOTTIME, which counts suspended time as well."""

    def __init__(self) -> None:
        self._adjtimex = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
        self._offset = self.wall_ns() - self.monotonic_ns()
        self._stepped = False

    def wall_ns(self) -> int:
        """See Clock."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """See Clock."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def state(self) -> str:
        """See Clock. A step matters until the kernel says that the clock is synchronised again."""
        offset = self.wall_ns() - self.monotonic_ns()
        if abs(offset - self._offset) > _STEP_NS:
            self._stepped = True
        self._offset = offset
        if self._synchronised():
            self._stepped = False
            return "synced"
        return "stepped" if self._stepped else "unsynced"

    def _synchronised(self) -> bool:
        if self._adjtimex is None:
            return False
        timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: read only
        if self._adjtimex(timex) < 0:
            return False
        status = int.from_bytes(timex.raw[_TIMEX_STATUS : _TIMEX_STATUS + 4], "little")
        return not status & _STA_UNSYNC


def boot_id() -> str:
    """Return the kernel's random id of this boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
