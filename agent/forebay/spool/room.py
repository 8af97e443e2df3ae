"""The quota: what fits, and what goes when nothing fits any more. Victims are never on the wire (claims).

Space comes back when an older segment as a whole has nothing left that waits: what still does is moved into the
newest one first. That takes room of its own, so eviction begins one segment before the quota.
"""

from __future__ import annotations

import heapq
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from forebay.spool import rolling
from forebay.spool.disk import free_bytes
from forebay.spool.rows import HEAD, LANE_SHIFT, LANES, RANK_BOUNDS, RUNNING, Head
from forebay.spool.txn import join_gaps
from forebay.stages import Commit

if TYPE_CHECKING:
    from forebay.spool.store import Store

log = logging.getLogger("forebay.spool")

_EMPTY_BYTES = 192 * 1024  # tables and the pages of a transaction in an empty spool
_COMMIT_BYTES = 96 * 1024  # pages of tables that a commit rewrites
_PAGE_HEAD_BYTES = 64  # of a page are not for rows, at most
_HEAD_BYTES = 192  # a batch's row without its data, at most but for the stream's name
_LOOK_NS = 50_000_000  # free space is looked at again after this, and when it is less than
_AMPLE_BYTES = 256 * 1024 * 1024  # what nobody fills in that time
_EVICT_SHARE = 32  # evict at least this part of the quota at once, so that a full spool does not thrash
_ROUNDS = 64  # most evictions and moves for one commit
# A segment with more than this part still waiting is not worth moving: for each byte that it frees, two are written.
_MOVE_SHARE = 2 / 3
_PAGE = 256
_LOST = -1  # among the sizes: files of damaged segments that were salvaged

Victim = tuple[int, Head, int]  # (segment, head, size)


class Room:
    """Keeps a store within its limits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.low_disk = False  # free space is short: the spool may not grow
        self.short_disk = False  # the disk itself had no room when last asked
        self._sizes: dict[int, int] = {}
        self._older_total = 0  # all of them, of the segments `_added_up`
        self._added_up: object = None
        self._free = 0  # on the disk, when last asked
        self._looked_ns = 0

    # -- what is there --------------------------------------------------------------------------------------

    def older_bytes(self) -> int:
        """Return the size of all files of older segments, damaged ones and their logs included."""
        segments = self._store.segments
        if segments is self._added_up:  # the store makes a new one when something changes
            return self._older_total
        for number in segments:
            if number not in self._sizes:
                self._sizes[number] = rolling.file_bytes(self._store.folder, number)
        if _LOST not in self._sizes:
            self._sizes[_LOST] = sum(p.stat().st_size for p in self._store.folder.glob("lost-*"))
        self._older_total = sum(n for key, n in self._sizes.items() if key == _LOST or key in segments)
        self._added_up = segments
        return self._older_total

    def forget_sizes(self) -> None:
        """Look at the files again when next asked."""
        self._sizes.clear()
        self._added_up = None

    def used_bytes(self) -> int:
        """Return what the spool takes on disk."""
        extent = self._store.extent
        return self.older_bytes() + extent.pages * extent.page_bytes + extent.log_bytes

    def waiting_bytes(self, segment: int | None = None, *, stream: str = "", lane: str = "") -> int:
        """Return the bytes of batches that wait, of one segment, stream or lane."""
        if segment is not None and not stream and not lane:
            return self._store.waiting.held.get(segment, (0, 0))[1]
        return sum(
            sums[2]
            for key, sums in self._store.waiting.items()
            if segment in (None, key[0]) and stream in ("", key[1]) and lane in ("", key[2])
        )

    # -- what fits ------------------------------------------------------------------------------------------

    def weigh(self, commit: Commit) -> int:
        """Return the bytes that a commit's batches take at most, 0 if it has none."""
        page = self._store.extent.page_bytes
        weight = 0
        for batch in commit.batches:
            row = len(batch.data) + len(batch.stream) + _HEAD_BYTES
            weight += row + min(row, page)  # rows do not share pages well
        return weight + sum(map(len, commit.state.values())) if weight else 0

    def fits_ever(self, size: int) -> bool:
        """Return whether `size` bytes in one commit would fit an empty spool."""
        return 2 * size + _EMPTY_BYTES <= self._store.limits.max_bytes

    def fits(self, size: int, reserve: int = 0) -> bool:
        """Return whether `size` more bytes fit the quota, after folding the log in if need be."""
        if self._fits_now(size, reserve):
            return True
        self._store.checkpoint("TRUNCATE")  # the WAL's own size counts, and this gives it back
        return self._fits_now(size, reserve)

    def _fits_now(self, size: int, reserve: int) -> bool:
        extent = self._store.extent
        page = extent.page_bytes
        # A stored byte passes through the WAL before its page is folded in: it counts there and in the file.
        cost = size + size // 64 + _COMMIT_BYTES
        grows = max(0, cost - extent.free_pages * page)
        if self.low_disk and grows:
            return False
        self.short_disk = self._is_short(cost + grows)
        if self.short_disk:
            return False
        return self.used_bytes() + grows + cost + reserve <= self._store.limits.max_bytes

    def _is_short(self, wanted: int) -> bool:
        """Return whether the disk lacks room. It is not asked each time while it has plenty."""
        now = time.monotonic_ns()
        if self._free < wanted + _AMPLE_BYTES or now > self._looked_ns + _LOOK_NS:
            self._free, self._looked_ns = free_bytes(self._store.folder), now
        if self._free >= wanted + _AMPLE_BYTES:
            return False
        # What the log holds is still to be written to the file; what does not fit there could never be folded in.
        # Deleting what is delivered writes as well.
        return wanted + self._store.extent.unfolded_bytes() + _EMPTY_BYTES > self._free

    def _reserve(self) -> int:
        """Return the room that moving needs: there may be a segment to be moved once there is more than one."""
        limits = self._store.limits
        return limits.roll_bytes if limits.can_evict and limits.roll_bytes < limits.max_bytes else 0

    # -- making room ----------------------------------------------------------------------------------------

    def make(self, size: int) -> bool:
        """Make room for `size` bytes as the policy says. Return whether there is."""
        limits = self._store.limits
        reserve = self._reserve()
        for _ in range(_ROUNDS):
            if self.fits(size, reserve):
                return True
            if self._shrink():
                continue
            if not limits.can_evict or limits.on_full == "drop_newest" or not self.fits_ever(size):
                break
            if not self.evict(max(2 * size, limits.max_bytes // _EVICT_SHARE)):
                break
            rolling.drain(self._store)
        return self.fits(size)

    def _shrink(self) -> bool:
        """Give back space that no batch needs. Return whether there was any."""
        store = self._store
        if rolling.drain(store):
            return True
        if self._sizes.get(_LOST):  # evidence of damage: kept only while there is room
            for path in store.folder.glob("lost-*"):
                path.unlink()
            self.forget_sizes()
            return True
        extent = store.extent
        is_loose = (
            extent.free_pages * extent.page_bytes > _EMPTY_BYTES and extent.free_pages * 2 > extent.pages
        )
        if is_loose and rolling.roll(store):
            rolling.drain(store)  # a file does not shrink by itself: begin a new one
            return True
        candidates = []
        for number, (_, _, state) in store.segments.items():
            size = self._sizes.get(number) or 1
            live = self.waiting_bytes(number)
            if state == "sealed" and live < _MOVE_SHARE * size:
                candidates.append((live / size, number, live))
        if not candidates:
            return False
        _, number, live = min(candidates)
        if self.waiting_bytes(store.number) > store.limits.roll_bytes and self._fits_now(_EMPTY_BYTES, 0):
            rolling.roll(store)  # else it would grow with every move
        if not self._can_move(live):
            return False
        return rolling.move(store, number)

    def _can_move(self, live: int) -> bool:
        """Return whether there is likely room for `live` bytes twice: the old file goes when all of it is moved."""
        part = min(live, rolling.move_bytes(self._store.limits))  # is in the log at one time
        return self._fits_now(part, live - part)

    def may_move(self, batches: Sequence[tuple[Head, int]]) -> bool:
        """Return whether batches of an older segment, with their sizes, surely fit the newest one."""
        page, space = self._store.extent.page_bytes, 0
        for head, size in batches:
            row = size + len(head.stream) + _HEAD_BYTES
            # What is longer than a page ends in one that it may have for itself.
            space += (
                row + page if row > page - _PAGE_HEAD_BYTES else page // ((page - _PAGE_HEAD_BYTES) // row)
            )
        return self._fits_now(space, 0)

    def evict(self, wanted: int) -> int:
        """Delete what is worth least until `wanted` bytes no longer wait. Return how many do not."""
        store = self._store
        taken: dict[int, Victim] = {}
        left = wanted
        for victim in self._by_value():
            if left <= 0:
                break
            if victim[1].id not in taken and self._may_take(victim):
                taken[victim[1].id] = victim
                left -= victim[2]
        return self._give_up(list(taken.values()), store.limits.on_full)

    def _may_take(self, victim: Victim) -> bool:
        return self._store.claims.doom(victim[1].id)

    def _give_up(self, victims: list[Victim], reason: str) -> int:
        store = self._store
        if not victims:
            return 0
        with store.transaction() as txn:
            for segment, head, size in victims:
                store.remove(segment, head, size, txn)
                txn.ledger[head.stream, "evicted", reason] += head.readings
            store.add_gaps(join_gaps([v[1] for v in victims], "evicted"), txn)
        return sum(v[2] for v in victims)

    def _by_value(self) -> Iterator[Victim]:
        """Yield batches in the order in which they may go: urgent ones last, else as the policy says."""
        limits = self._store.limits
        lanes = [str(lane) for lane in reversed(LANES)]
        urgent = lanes[-1]
        if limits.on_full == "drop_oldest":  # of normal and bulk whatever is older
            merged = heapq.merge(*(self._lane(x) for x in lanes[:-1]), key=lambda v: v[1].id & RUNNING)
            return chain(merged, self._lane(urgent))
        if limits.on_full == "thin":
            keep = max(2, limits.thin_keep)
            return chain.from_iterable(
                chain((v for v in self._lane(x) if not _is_nth(v[1], keep)), self._lane(x)) for x in lanes
            )
        return chain(*(self._above_share(x) for x in lanes), *(self._lane(x) for x in lanes))

    def _above_share(self, lane: str) -> Iterator[Victim]:
        share = int(self._store.limits.reserve.get(lane, 0) * self._store.limits.max_bytes)
        left = self.waiting_bytes(lane=lane) - share
        for victim in self._lane(lane):
            left -= victim[2]
            if left < 0:
                return
            yield victim

    def _lane(self, lane: str, stream: str = "") -> Iterator[Victim]:
        """Yield a lane's waiting batches, oldest first, over all segments."""
        low, high = RANK_BOUNDS[lane]
        store = self._store
        parts = [self._newest(low, high)]
        for number, (_, _, state) in store.segments.items():
            if state == "sealed" and self.waiting_bytes(number, stream=stream, lane=lane):
                parts.append(self._older(number, low, high))
        merged = heapq.merge(*parts, key=lambda v: v[1].id)
        return (v for v in merged if stream in ("", v[1].stream))

    def _newest(self, low: int, high: int) -> Iterator[Victim]:
        sql = f"SELECT {HEAD}, length(data) FROM batch WHERE id >= ? AND id < ? ORDER BY id LIMIT {_PAGE}"
        while True:
            rows = self._store.db.execute(sql, (low, high)).fetchall()
            yield from ((self._store.number, Head(*row[:-1]), row[-1]) for row in rows)
            if len(rows) < _PAGE:
                return
            low = rows[-1][0] + 1

    def _older(self, number: int, low: int, high: int) -> Iterator[Victim]:
        for row in self._store.older.heads(number, low, high):
            if not self._store.is_gone(number, row[0]):
                yield number, Head(*row[:-1]), row[-1]

    # -- limits other than the quota ------------------------------------------------------------------------

    def enforce(self) -> None:
        """Give up what is too old, and what is too much of a stream or of all."""
        limits, now = self._store.limits, self._store.uptime_ns()
        if limits.max_age_ns:
            self._expire("", now - limits.max_age_ns)
        if limits.max_batches:
            self._cut("", self._count("") - limits.max_batches, 0, "count")
        for stream, own in limits.streams.items():
            if own.max_age_ns:
                self._expire(stream, now - own.max_age_ns)
            over = self._count(stream) - own.max_batches if own.max_batches else 0
            above = self.waiting_bytes(stream=stream) - own.max_bytes if own.max_bytes else 0
            self._cut(stream, over, above, "stream_quota")

    def _count(self, stream: str) -> int:
        return sum(s[0] for key, s in self._store.waiting.items() if stream in ("", key[1]))

    def _expire(self, stream: str, before_ns: int) -> None:
        victims: list[Victim] = []
        for lane in RANK_BOUNDS:
            for victim in self._lane(lane, stream):
                if victim[1].stored >= before_ns:
                    break
                if self._may_take(victim):
                    victims.append(victim)
        self._give_up(victims, "expired")

    def _cut(self, stream: str, batches: int, size: int, reason: str) -> None:
        victims: list[Victim] = []
        if batches <= 0 and size <= 0:
            return
        for lane in reversed(RANK_BOUNDS):
            for victim in self._lane(lane, stream):
                if batches <= 0 and size <= 0:
                    break
                if self._may_take(victim):
                    victims.append(victim)
                    batches -= 1
                    size -= victim[2]
        self._give_up(victims, reason)

    def bound_dead_letters(self) -> None:
        """Delete the oldest dead letters beyond their quota; they stay counted. Within a transaction."""
        db = self._store.db
        total = int(db.execute("SELECT total(length(data)) FROM dead_letter").fetchone()[0])
        while total > self._store.limits.dead_bytes:
            sql = f"SELECT id, length(data) FROM dead_letter ORDER BY id & {(1 << LANE_SHIFT) - 1} LIMIT 1"
            oldest, size = db.execute(sql).fetchone()
            db.execute("DELETE FROM dead_letter WHERE id = ?", (oldest,))
            total -= size

    def tidy(self) -> None:
        """After a transaction: begin a new segment when this one is full, delete those that are empty.

        Whatever fails here fails again, and is handled, when a transaction needs the room: to take it for a failure
        of the transaction before would have that one repeated.
        """
        store = self._store
        try:
            held = store.waiting.held
            if len(held) != len(store.segments) + (store.number in held):  # something waits in each of them
                rolling.drain(store)
            is_full = self.waiting_bytes(store.number) > store.limits.roll_bytes
            if is_full and self._fits_now(_EMPTY_BYTES, 0):
                rolling.roll(store)
        except (sqlite3.Error, OSError) as error:
            log.warning("segments cannot be tidied now error=%s", type(error).__name__)


def _is_nth(head: Head, n: int) -> bool:
    """Return whether a batch is the n-th of its stream, for any size alike: the same whenever it is asked.

    The lane's numbers would not do. Where n streams take turns, every n-th of all is always of the same one.
    """
    readings = max(head.readings, 1)
    return head.total % (n * readings) < readings
