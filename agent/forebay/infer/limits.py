"""Time limits of runs: one watchdog thread for all sessions, and a rest for a model that keeps hanging."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REST_AFTER = 3  # timeouts in a row
REST_NS = 60 * 1_000_000_000


class Deadlines:
    """Calls back what is not done in time. Arming costs a few microseconds; the thread starts at first use."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int]] = []
        self._armed: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0  # when the thread looks by itself; before that only what is due earlier wakes it

    @contextmanager
    def within(self, seconds: float, late: Callable[[], None]) -> Iterator[None]:
        """Call `late` from another thread if the block takes longer than `seconds`."""
        due = time.monotonic() + seconds
        with self._changed:
            number = next(self._numbers)
            self._armed[number] = late
            heapq.heappush(self._due, (due, number))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="model-watchdog", daemon=True)
                self._thread.start()
            elif due < self._wakes_at:  # to wake it for each run cost more than the run
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
        while True:
            with self._changed:
                now = time.monotonic()
                late = []
                while self._due and self._due[0][0] <= now:
                    call = self._armed.get(heapq.heappop(self._due)[1])
                    if call is not None:
                        late.append(call)
                        call()  # under the lock: a run that ends now must not be told afterwards
                self._wakes_at = self._due[0][0] if self._due else math.inf
                self._changed.wait(self._wakes_at - now if self._due else None)


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
