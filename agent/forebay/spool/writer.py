"""The one thread that writes the spool: group commit, back-pressure, recovery from I/O errors.

Commits that arrive while a transaction runs share the next one: with many sources one fsync serves them
all, with one slow source each commit is durable as soon as the disk allows.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from forebay.errors import ForebayError
from forebay.spool.disk import Disk
from forebay.spool.older import DamagedSegment
from forebay.spool.recovery import Recovery, is_damage, write_copy
from forebay.spool.store import Answers, Store
from forebay.stages import Commit

log = logging.getLogger("forebay.spool")

GROUP_BYTES = 4 * 1024 * 1024  # most bytes in one transaction
LEAST_GROUP_BYTES = 64 * 1024
GROUP_ANSWERS = 4096  # most answers applied in one transaction
FEW_ANSWERS = 8  # applied at once on a full disk
ANSWER_DELAY_S = 0.05  # answers alone wait this long for a commit to ride on
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
PASSIVE_WAL_BYTES = 2 * 1024 * 1024
FORCED_WAL_BYTES = 32 * 1024 * 1024
LOOK_S = 1.0  # between looks at disk, ages and salvage


@dataclass(frozen=True, slots=True)
class Condition:
    """How the spool is: `ok`, `full` (waiting for room) or `failing` (waiting for the disk)."""

    state: str
    detail: str = ""


class Writer:
    """Owns the store; everything that changes the spool goes through here."""

    def __init__(
        self,
        store: Store,
        *,
        on_stored: Callable[[], None] = lambda: None,
        recovery: Recovery | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._store = store
        self._recovery = recovery or Recovery(store.folder, store.sync, store.claims, store.limits)
        self._disk = disk or Disk(store.folder, store.limits)
        self._suspects: set[int] = set()
        self._looked_s = 0.0
        self._group_bytes = GROUP_BYTES
        self._on_stored = on_stored
        lock = threading.RLock()
        # Two, so that neither wakes the other's: each needless wake-up is two switches of threads.
        self._lock = threading.Condition(lock)  # the writer waits here
        self._written = threading.Condition(lock)  # workers that are ahead of it wait here
        self._queue: deque[Commit] = deque()
        self._outstanding: Counter[str] = Counter()
        self._answers = Answers()
        self._closing = False
        self._hurry = False
        self.condition = Condition("ok")
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._checkpointer = Checkpointer(store)

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()
        self._checkpointer.start()

    # -- from other threads ---------------------------------------------------------------------------------

    def submit(self, commit: Commit) -> None:
        """Queue a commit; its `done` callbacks tell when it is durable."""
        with self._lock:
            self._queue.append(commit)
            self._outstanding[commit.owner] += 1
            self._lock.notify()

    def outstanding(self, owner: str) -> int:
        """Return how many commits of an owner are not durable yet."""
        return self._outstanding[owner]

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        """Wait until fewer than `limit` commits of an owner are outstanding. Return whether that is so."""
        with self._written:
            return self._written.wait_for(lambda: self._outstanding[owner] < limit, timeout)

    def answer(self, **said: Sequence[Any]) -> None:
        """Hand over what the receiver said: lists by the names of `Answers`."""
        with self._lock:
            is_first = not self._answers
            for name, items in said.items():
                getattr(self._answers, name).extend(items)
            if is_first or len(self._answers.acked) > GROUP_ANSWERS:  # else it knows of some already
                self._lock.notify()

    def suspect(self, number: int) -> None:
        """Tell that a segment turned out to be damaged. From any thread."""
        with self._lock:
            self._suspects.add(number)
            self._lock.notify_all()

    def close(self, timeout: float = 10.0) -> bool:
        """Write what is queued, then close the file. Return whether all of it is durable.

        A commit that cannot be written by then (disk full, link down) is given up: its sender was not told
        `accepted`, and a replayable source starts again before it.
        """
        if self._thread.ident is None:  # never started
            self._end()
            return True
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        if self._thread.ident is not None:  # not so when the agent could not be built
            self._thread.join(timeout)
            with self._lock:
                self._hurry = True
                self._lock.notify_all()
            self._thread.join(RETRY_S[-1] + 1)
        self._checkpointer.stop()
        left = list(self._queue)
        for commit in left:
            _tell(commit, durable=False)
        if not self._thread.is_alive():
            self._end()
        return not left

    def _end(self) -> None:
        self._recovery.close()
        self._store.close_audit()
        write_copy(self._store)
        self._store.close()

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            work = self._next()
            if work is None:
                return
            commits, answers = work
            written = self._write(commits, answers)
            if written is None:
                continue  # they are still queued
            if not written:
                return
            with self._lock:
                for commit in commits:
                    self._queue.popleft()
                    self._outstanding[commit.owner] -= 1
                self._written.notify_all()
            for commit in commits:
                _tell(commit, durable=True)
            if commits:
                self._on_stored()
            # A new segment costs several syncs: nobody waits for those to hear that his data is durable.
            self._store.room.tidy()
            self._look_after()
            self._checkpointer.look()

    def _next(self) -> tuple[list[Commit], Answers] | None:
        """Wait for work. Commits stay queued until they are durable. None: closing and nothing left."""
        with self._lock:
            while True:
                while not self._lock.wait_for(self._has_work, LOOK_S):
                    self._look_after()
                if not self._queue and self._answers and not self._closing:
                    # Answers alone are in no hurry: a lost one costs a resend, an fsync costs flash.
                    self._lock.wait_for(
                        lambda: self._queue or self._closing or len(self._answers.acked) > GROUP_ANSWERS,
                        ANSWER_DELAY_S,
                    )
                answers, self._answers = self._answers, Answers()
                if self._suspects:
                    self._look_after()
                commits = self._fitting()
                if commits or answers:
                    return commits, answers
                if self._hurry or (self._closing and not self._queue):
                    return None
                if self._queue:
                    self._lock.wait(0.5)  # full: an answer will make room
                    self._look_after()

    def _has_work(self) -> bool:
        return bool(self._queue or self._answers or self._closing or self._suspects)

    def _look_after(self) -> None:
        """Do what is not urgent, and seldom: the disk, limits of age and count, salvage, segments in doubt."""
        now = time.monotonic()
        if now - self._looked_s < LOOK_S and not self._suspects:
            return
        self._looked_s = now
        suspects, self._suspects = self._suspects, set()
        store = self._store
        try:
            for number in suspects:
                self._doubt(number)
            self._recovery.poll(store)
            store.room.low_disk = self._disk.look()
            if not store.room.low_disk:
                self._group_bytes = min(GROUP_BYTES, 2 * self._group_bytes)
            store.room.enforce()
        except DamagedSegment as error:
            self._suspects.add(error.number)
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            kind = getattr(error, "sqlite_errorname", type(error).__name__)
            log.warning("the spool cannot be looked after now error=%s", kind)
            self._took_place(error)

    def _doubt(self, number: int) -> None:
        if number == self._store.number:
            self._recovery.replace(self._store, "a row is not what it was")
        elif number in self._store.segments:
            self._recovery.set_aside(self._store, number)

    def _fitting(self) -> list[Commit]:
        """Return the queued commits that go into the next transaction: bounded, and within the quota."""
        group: list[Commit] = []
        size = weight = 0
        for commit in self._queue:
            if group and size + commit.nbytes > self._group_bytes:
                break
            room = self._store.room
            own = room.weigh(commit)
            weight += own
            if self._must_wait(own) and not self._room(weight):
                why = (
                    "the disk is nearly full" if room.low_disk or room.short_disk else "the quota is reached"
                )
                self._set_condition("full", f"{why}; sources wait until batches are delivered")
                break
            group.append(commit)
            size += commit.nbytes
        if group:
            self._set_condition("ok")
        return group

    def _must_wait(self, weight: int) -> bool:
        """Return whether a commit waits for room; with `drop_newest` it is dropped instead."""
        store = self._store
        return bool(weight) and store.limits.on_full != "drop_newest" and store.room.fits_ever(weight)

    def _room(self, size: int) -> bool:
        try:
            return self._store.room.make(size)
        except (
            sqlite3.Error,
            OSError,
            UnicodeDecodeError,
        ):  # of a disk that is away even asking what is free
            return True  # write() will meet the same error and recover

    def _write(self, commits: list[Commit], answers: Answers) -> bool | None:
        """Apply until it is durable. Return False when told to give up, None when commits must wait for room."""
        attempt = 0
        while True:
            try:
                self._store.write(commits, answers)
                self._set_condition("ok")
                return True
            except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
                kind = getattr(error, "sqlite_errorname", type(error).__name__)
                self._set_condition("failing", f"{kind} while writing {self._store.path}")
                if kind == "SQLITE_FULL":
                    self._disk.fill()
                    self._store.room.low_disk = True
                    return self._wait_for_disk(answers, error)
                delay = RETRY_S[min(attempt, len(RETRY_S) - 1)]
                attempt += 1
                with self._lock:
                    if self._lock.wait_for(lambda: self._hurry, delay):
                        return False
                if self._took_place(error):
                    self._set_condition("ok")
                    return True
                answers = self._answer_alone(answers)

    def _wait_for_disk(self, answers: Answers, error: Exception) -> bool | None:
        """The disk is full: give the ballast back, and use it for what frees space, not for more data."""
        self._group_bytes = max(
            LEAST_GROUP_BYTES, self._group_bytes // 4
        )  # a large one may be what does not fit
        if self._took_place(error):
            return True
        self._store.checkpoint("TRUNCATE")
        left = self._answer_alone(answers)
        with self._lock:
            left.add(self._answers)
            self._answers = left
            self._lock.wait_for(lambda: self._hurry, RETRY_S[0])
        return None

    def _answer_alone(self, answers: Answers) -> Answers:
        """Apply what the receiver said without the commits: that makes room for them. Return what is left."""
        with self._lock:
            more, self._answers = self._answers, Answers()
        answers.add(more)
        while answers:
            part = answers.take(FEW_ANSWERS)  # few at a time: on a full disk each page of log counts
            try:
                self._store.apply([], part)
                self._store.checkpoint("TRUNCATE")
            except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
                if not self._took_place(error):
                    answers.add(part)
                    return answers
        return answers

    def _took_place(self, error: Exception) -> bool:
        """Open the file again, or set it aside; return whether the last transaction took place after all."""
        try:
            if isinstance(error, DamagedSegment):
                self._recovery.set_aside(self._store, error.number)
                return False
            if is_damage(error):
                return self._recovery.replace(self._store, str(error))
            if self._recovery.is_half_done(self._store):
                return self._recovery.replace(self._store, "it was being set aside")
            return self._store.reopen()
        except (sqlite3.Error, ForebayError, OSError, UnicodeDecodeError) as again:
            log.warning("spool cannot be opened again yet error=%s", type(again).__name__)
            if is_damage(again):
                return self._recovery.replace(self._store, str(again))
            return False

    def _set_condition(self, state: str, detail: str = "") -> None:
        if state != self.condition.state:
            if state == "ok":
                log.info("spool works again after state=%s", self.condition.state)
            elif state == "full":
                log.warning("spool is full: %s", detail)
            else:
                log.error("spool cannot write, nothing is lost, trying again: %s", detail)
            self.condition = Condition(state, detail)


def _tell(commit: Commit, *, durable: bool) -> None:
    for done in commit.done:
        try:
            done(durable)
        except Exception:
            log.exception("a source failed to take the news that its data is durable owner=%s", commit.owner)


class Checkpointer:
    """Folds the WAL into the database in a thread of its own: p99 of a commit fell from 9 ms to 0.9 ms."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wake = threading.Event()
        self._stop = False
        self._folded = 0  # bytes of the log that the thread was last woken for
        self._thread = threading.Thread(target=self._run, name="spool-checkpoint", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def look(self) -> None:
        """Wake the thread if the WAL has grown. Called by the writer after each transaction."""
        size = self._store.extent.log_bytes
        self._folded = min(self._folded, size)  # less: the log has begun anew
        if size > FORCED_WAL_BYTES:
            # Under a constant stream of commits a passive checkpoint never meets a moment to start the WAL
            # from its beginning; this one makes the writer wait for it.
            self._store.checkpoint("TRUNCATE")
        elif size - self._folded > PASSIVE_WAL_BYTES:
            self._folded = size
            self._wake.set()

    def stop(self) -> None:
        """End the thread."""
        self._stop = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stop:
                return
            self._store.checkpoint_aside()
