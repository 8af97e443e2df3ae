"""Time limits of runs: one watchdog thread for all sessions, and a rest for a model that keeps hanging."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REST_AFTER = 3  # timeouts in a row
REST_NS = 60 * 1_000_000_000


class Deadlines:
    """Calls back what is not done in time. Arming costs a few microseconds; the thread starts at first use.

    The thread is not woken for each run: while models run it looks every so often by itself, the shortest limit seen
    apart, so that a limit armed meanwhile is due after its next look.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int]] = []
        self._armed: dict[int, Callable[[], None]] = {}
        self._count = 0  # of runs so far
        self._thread: threading.Thread | None = None
        self._shortest = math.inf
        self._wakes = math.inf  # when the thread looks next

    @contextmanager
    def within(self, seconds: float, late: Callable[[], None]) -> Iterator[None]:
        """Call `late` from another thread if the block takes longer than `seconds`."""
        due = time.monotonic() + seconds
        with self._changed:
            self._count = number = self._count + 1
            self._armed[number] = late
            self._shortest = min(self._shortest, seconds)
            heapq.heappush(self._due, (due, number))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="model-watchdog", daemon=True)
                self._thread.start()
            elif due < self._wakes:
                self._wakes = due
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                # What is done stays in the heap until it is due or first: removing from its middle costs more.
                del self._armed[number]
                while self._due and self._due[0][1] not in self._armed:
                    heapq.heappop(self._due)

    def _run(self) -> None:
        seen = 0
        with self._changed:
            while True:
                now = time.monotonic()
                seen, ran = self._count, self._count != seen
                while self._due and self._due[0][0] <= now:
                    call = self._armed.get(heapq.heappop(self._due)[1])
                    if call is not None:
                        call()  # under the lock: a run that ends now must not be told afterwards
                self._wakes = self._due[0][0] if self._due else now + self._shortest if ran else math.inf
                self._changed.wait(None if self._wakes == math.inf else self._wakes - now)


DEADLINES = Deadlines()


class Rest:
    """After some timeouts in a row a model is left alone for a while: each of them has held its pipeline up."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._in_row, self._until_ns = 0, 0

    def is_due(self) -> bool:
        """Return whether the model rests now."""
        return self._clock_ns() < self._until_ns

    def note(self, *, timed_out: bool) -> None:
        """Take in how a run ended. One timeout after a rest begins the next one."""
        if not timed_out:
            self._in_row = 0
            return
        self._in_row += 1
        if self._in_row >= REST_AFTER:
            self._until_ns = self._clock_ns() + REST_NS
