"""Which batch goes next: those that are due again, then by lane, live data beside the backlog.

What waited when the session began is backlog, what came since is live. While both wait, the backlog gets its
share of the bytes; either may use all of the link while the other has nothing.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from forebay.blocks import Lane
from forebay.clock import Clock
from forebay.errors import SpoolError
from forebay.forward.budget import Budget, Rung
from forebay.forward.link import BatchRow, LinkOptions, SpoolDoor

log = logging.getLogger("forebay.forward")

LANES = (str(Lane.URGENT), str(Lane.NORMAL), str(Lane.BULK))
READ_AT_ONCE = 16
_ABOVE_ALL = 2**63 - 1


class _Queue:
    """One direction through one lane: reads ahead a little, ends when nothing is left."""

    def __init__(
        self, door: SpoolDoor, lane: str, at: int, *, until: int, newest_first: bool = False
    ) -> None:
        self._door, self._lane, self._at, self._until = door, lane, at, until
        self._newest_first = newest_first
        self._read: deque[BatchRow] = deque()
        self.dry = False

    def peek(self) -> BatchRow | None:
        """Return the next batch, None if there is none now."""
        while not self._read and not self.dry:
            rows = self._more()
            self.dry = not rows
            self._at = rows[-1].id if rows else self._at
            self._read.extend(row for row in rows if row.id not in self._door.given_up)
        return self._read[0] if self._read else None

    def pop(self) -> BatchRow:
        """Take what `peek` has returned."""
        return self._read.popleft()

    def _more(self) -> Sequence[BatchRow]:
        try:
            rows = self._door.reader.pending(
                self._lane, self._at, READ_AT_ONCE, newest_first=self._newest_first
            )
        except SpoolError as error:
            log.warning("spool cannot be read now: %s", error)
            return []
        return [row for row in rows if row.id <= self._until]


class _LaneQueue:
    """Live and backlog of a lane."""

    def __init__(self, door: SpoolDoor, lane: str, options: LinkOptions) -> None:
        newest = door.reader.pending(lane, _ABOVE_ALL, 1, newest_first=True)
        horizon = newest[0].id if newest else -1
        newest_first = options.newest_first
        start = horizon + 1 if newest_first else -1
        self._backlog = _Queue(door, lane, start, until=horizon, newest_first=newest_first)
        self._backlog.dry = horizon < 0
        self._live = _Queue(door, lane, horizon, until=_ABOVE_ALL)
        self._share = options.backfill_share
        self._credit = 0.0  # bytes that the backlog is ahead of its share
        self._next: _Queue | None = None

    def refresh(self) -> None:
        """There may be new batches. The backlog only shrinks: once dry, it stays so."""
        self._live.dry = False

    def peek(self) -> BatchRow | None:
        """Return the next batch of the lane."""
        old, new = self._backlog.peek(), self._live.peek()
        if old is None or new is None:
            self._credit = 0.0
            self._next = self._backlog if new is None else self._live
            return old or new
        self._next = self._backlog if self._credit <= 0 else self._live
        return old if self._next is self._backlog else new

    def pop(self) -> None:
        """Take what `peek` has returned."""
        assert self._next is not None
        size = len(self._next.pop().data)
        self._credit += size * (1 - self._share) if self._next is self._backlog else -size * self._share


class Outgoing:
    """All lanes of one session."""

    def __init__(
        self, door: SpoolDoor, options: LinkOptions, clock: Clock, budget: Budget, rng: random.Random
    ) -> None:
        self._door, self._options, self._clock, self._budget = door, options, clock, budget
        self._later: dict[bool, list[tuple[int, int]]] = {
            True: [],
            False: [],
        }  # by urgency: heaps of (due, id)
        self._lanes: dict[str, _LaneQueue] = {}
        self._seen: Counter[str] = Counter()  # batches of each stream that came to the thinning rung
        # A fleet that lost its receiver finds it again at one moment: its backlogs need not start at one.
        self._flush_ns = clock.monotonic_ns() + int(rng.random() * options.flush_jitter_ns)
        self._again: list[tuple[int, int]] | None = None  # the heap that `peek` looked into last
        self._from: _LaneQueue | None = None
        door.given_up = {n for n in door.given_up if door.reader.exists(n)}
        self.refresh()  # what waits by now is the backlog

    def refresh(self) -> None:
        """There may be new batches."""
        try:
            for name in LANES:
                if name not in self._lanes:
                    self._lanes[name] = _LaneQueue(self._door, name, self._options)
                self._lanes[name].refresh()
        except SpoolError as error:
            log.warning("spool cannot be read now: %s", error)

    def due_ns(self) -> int | None:
        """Return when something becomes due by time alone."""
        now = self._clock.monotonic_ns()
        times = [heap[0][0] for heap in self._later.values() if heap]
        times += [self._flush_ns] if self._flush_ns > now else []
        return min(times, default=None)

    def later(self, batches: Iterable[tuple[str, int]], due_ns: int) -> None:
        """Send these (lane, id) again, not before `due_ns`."""
        for lane, batch_id in batches:
            heapq.heappush(self._later[lane == LANES[0]], (due_ns, batch_id))

    def peek(self) -> BatchRow | None:
        """Return the next batch, None if nothing may go now. Then `pop` it, once it was sent."""
        self._again, urgent = None, LANES[0]
        batch = self._due_again(self._later[True]) or self._of_lane(urgent)
        if batch is not None or not self._open():
            return batch
        batch = self._due_again(self._later[False])
        for name in LANES[1:]:
            batch = batch or self._of_lane(name)
        return batch

    def pop(self) -> None:
        """Take what `peek` has returned."""
        if self._again is not None:
            heapq.heappop(self._again)
            self._again = None
        elif self._from is not None:
            self._from.pop()

    def _due_again(self, heap: list[tuple[int, int]]) -> BatchRow | None:
        while heap and heap[0][0] <= self._clock.monotonic_ns():
            batch = self._door.reader.batch(heap[0][1])
            if batch is not None:
                self._again = heap
                return batch
            heapq.heappop(heap)
        return None

    def _open(self) -> bool:
        """Return whether anything but urgent batches may go."""
        return self._budget.rung is not Rung.URGENT and self._clock.monotonic_ns() >= self._flush_ns

    def _of_lane(self, name: str) -> BatchRow | None:
        lane = self._lanes.get(name)
        if lane is None:
            return None
        self._from = lane
        while (batch := lane.peek()) is not None:
            if not self._thinned(name, batch):
                return batch
        return None

    def _thinned(self, name: str, batch: BatchRow) -> bool:
        """Give a batch up, with a gap record, if it is not the n-th: only where the configuration says so."""
        keep = self._options.thin_keep
        if name == LANES[0] or keep <= 1 or self._budget.rung is not Rung.THIN:
            return False
        self._seen[batch.stream] += 1
        if self._seen[batch.stream] % keep == 0:
            return False
        if self._from is not None:
            self._from.pop()
        self._door.given_up.add(batch.id)
        self._door.answer(thinned=[batch.id])
        return True
