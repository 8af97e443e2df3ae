"""The transactions on the newest segment. Used by the writer thread only; no threads, no waiting in here.

Invariants
----------
- A batch's number (epoch, seq) is given in the transaction that stores it; seq rises by one per lane.
- Ledger, positions and step states move in the same transaction as the batches they belong to.
- What leaves an older segment is written down here (`gone`), in the transaction that counts it. Older segments are
  never written.
- `txn` rises by one a transaction, so that after an I/O error, when nobody knows whether the commit took
  place, reopening and reading it decides.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from forebay.spool import audit, receipts, schema
from forebay.spool import control as control_part
from forebay.spool.claims import Claims
from forebay.spool.extent import Extent
from forebay.spool.limits import Limits
from forebay.spool.older import DamagedSegment, Older
from forebay.spool.renumber import renumber
from forebay.spool.rolling import create, fresh_control
from forebay.spool.room import Room
from forebay.spool.rows import (
    FIRST_ID,
    HEAD,
    LANES,
    RANK,
    REPLACE,
    RUNNING,
    Head,
    mark,
    marked,
    segment_number,
)
from forebay.spool.txn import Answers, Txn, join_gaps
from forebay.spool.waits import Waits
from forebay.stages import Commit, Sealed

__all__ = ["RANK", "Answers", "Store"]

log = logging.getLogger("forebay.spool")

_BATCH = ", ".join("?" * (len(Head._fields) + 2))
_INSERT = f"INSERT INTO batch VALUES ({_BATCH})"
_SCAN = "SELECT 1 FROM batch WHERE id + 0 = ?"  # row by row: a key of the tree that is damaged hides what is behind it
_EPOCH = {str(lane): f"{lane}.epoch" for lane in LANES}
_NEXT = {str(lane): f"{lane}.next" for lane in LANES}
_TOO_LARGE, _NEWEST = "too_large", "drop_newest"


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Store:
    """Transactions on one segment file and the older ones beside it."""

    def __init__(
        self,
        path: Path,
        *,
        sync: str,
        claims: Claims,
        limits: Limits | None = None,
        max_bytes: int = 0,
        on_full: str = "block",
        monotonic_ns: Callable[[], int] = _boottime_ns,
    ) -> None:
        self.path, self.folder = path, path.parent
        self.number = segment_number(path.name)
        self.sync, self.claims = sync, claims
        self.limits = limits or Limits(max_bytes, on_full)
        self.older = Older(self.folder)
        self._monotonic_ns = monotonic_ns
        if not path.exists():
            create(path, fresh_control(self.number))
        self.db = self._open()
        self.txn: int = self.counters["txn"]
        self._since_ns = monotonic_ns()
        self.room = Room(self)

    def _open(self) -> Any:
        db = schema.connect(self.path, sync=self.sync)
        try:
            version = schema.check_version(db, self.path)
            if version < schema.VERSION:
                from forebay.spool.migrate import migrate

                migrate(db, self.path, version)
            self.audit = audit.Log(db)
            control = control_part.from_db(db)
            if not control.complete:
                raise control_part.BooksDamaged(
                    f"rows of the control part are damaged: {sorted(control.broken)}"
                )
            self.counters = control.counters()
            self.ledger = control.ledger()
            self.waiting = Waits(control.waiting())
            self.segments: dict[int, tuple[int, int, str]] = {
                r[0]: (r[1], r[2], r[3]) for r in control.tables["segment"].values()
            }
            self._known_bodies = {row[0] for row in db.execute("SELECT id FROM body")}
            self._written: dict[tuple[str, str], bytes] = {}
            self.extent = Extent(self.path, db)
        except BaseException:
            db.close()
            raise
        return db

    def reopen(self) -> bool:
        """Close and open again after an error. Return whether the last transaction took place after all."""
        expected = self.txn
        self.close()
        self.db = self._open()
        self.txn = self.counters["txn"]
        return self.txn > expected

    def switch(self, path: Path) -> None:
        """Go on in another segment, which begins where this one stood."""
        self.close()
        self.path, self.number = path, segment_number(path.name)
        self.db = self._open()
        self.txn = self.counters["txn"]

    def close(self) -> None:
        """Close the file; SQLite folds the WAL in if this was the last connection."""
        self.older.close()
        with contextlib.suppress(sqlite3.Error):  # unreadable by now? what was committed is in its WAL
            self.db.close()

    # -- reading --------------------------------------------------------------------------------------------

    def epochs(self) -> dict[int, tuple[str, int]]:
        """Return lane and next number of each epoch in use."""
        return {self.counters[f"{lane}.epoch"]: (lane, self.counters[f"{lane}.next"]) for lane in LANES}

    def progress(self, owner: str) -> dict[str, bytes]:
        """Return the saved position (under '') and step states of an owner."""
        return dict(self.db.execute("SELECT step, data FROM progress WHERE owner = ?", (owner,)))

    def uptime_ns(self) -> int:
        """Return for how long this spool has been in use, over all restarts."""
        return self.counters["uptime_ns"] + max(0, self._monotonic_ns() - self._since_ns)

    def checkpoint(self, mode: str) -> bool:
        """Fold the WAL into the database on the writer's own connection; return whether all of it was."""
        try:
            busy, in_log, folded = self.db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            log.debug("checkpoint put off error=%s", error.sqlite_errorname)
            return False
        self.extent.look()
        return not busy and in_log == folded

    def checkpoint_aside(self) -> None:
        """Fold what can be folded without holding up the writer. From the checkpointer thread."""
        try:
            aside = schema.connect(self.path, sync=self.sync)
        except sqlite3.Error as error:
            log.debug("checkpoint put off error=%s", error.sqlite_errorname)
            return
        try:
            aside.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            log.debug("checkpoint put off error=%s", error.sqlite_errorname)
        finally:
            aside.close()

    # -- writing --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Any:
        """Run a block as one transaction, ledger and counters included; on leaving it is durable.

        Raises
        ------
        sqlite3.Error, OSError
            The outcome is unknown: call `reopen`, which tells.
        """
        txn = Txn(dict(self.counters))
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield txn
            written = self._count(txn)
            pages = self.extent.count(self.db)
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self.audit.forget()
            raise
        finally:
            self.claims.settle_doomed()
        self.extent.pages, self.extent.free_pages = pages
        if (
            not self.extent.look() and not self.path.exists()
        ):  # in files that have lost their names nothing is durable
            raise FileNotFoundError(errno.ENOENT, "the segment is gone", str(self.path))
        self._written.update(written)
        self._remember(txn)

    def _count(self, txn: Txn) -> dict[tuple[str, str], bytes]:
        """Write down what the transaction has counted. Return the marks of the positions and states written."""
        ledger = self.ledger
        self._put("ledger", [(*key, ledger.get(key, 0) + n) for key, n in txn.ledger.items() if n])
        self._put("waiting", [(*key, *sums) for key, sums in txn.waiting.items() if sums[0]])
        empty = [key for key, sums in txn.waiting.items() if not sums[0]]
        if empty:
            sql = "DELETE FROM waiting WHERE segment = ? AND stream = ? AND lane = ?"
            self.db.executemany(sql, empty)
        self._put("segment", [(number, *row) for number, row in txn.segments.items() if row[2]])
        for number, row in txn.segments.items():
            if not row[2]:
                self.db.execute("DELETE FROM segment WHERE number = ?", (number,))
        # A state that has its last mark still (64 bits of BLAKE2b) is on disk already.
        progress = marked("progress", [(*key, data) for key, data in txn.progress.items()])
        progress = [row for row in progress if self._written.get(row[:2]) != row[3]]
        self.db.executemany(REPLACE["progress"], progress)
        self.audit.write()
        txn.now_ns = self._monotonic_ns()
        txn.counters["uptime_ns"] += max(0, txn.now_ns - self._since_ns)
        txn.counters["txn"] += 1
        self._put("counter", [(k, v) for k, v in txn.counters.items() if self.counters.get(k) != v])
        return {row[:2]: row[3] for row in progress}

    def _put(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self.db.executemany(REPLACE[table], marked(table, rows))

    def _remember(self, txn: Txn) -> None:
        """Take over what has become true."""
        self.counters, self.txn = txn.counters, txn.counters["txn"]
        self._since_ns = txn.now_ns
        for key, n in txn.ledger.items():
            self.ledger[key] += n
        self.waiting.take(txn.waiting)
        self._known_bodies |= txn.bodies
        if txn.segments:
            self.segments = {n: s for n, s in (self.segments | txn.segments).items() if s[2]}

    def apply(self, commits: Sequence[Commit], answers: Answers) -> None:
        """Write, then tidy up. Raises sqlite3.Error, as `write` does."""
        self.write(commits, answers)
        self.room.tidy()

    def write(self, commits: Sequence[Commit], answers: Answers) -> None:
        """Do it all in one transaction; on return it is durable. What it leaves to be tidied up can wait.

        Raises
        ------
        sqlite3.Error
            The outcome is unknown: call `reopen`, which tells.
        """
        weights = [self.room.weigh(commit) for commit in commits]
        # Before the transaction: within one the WAL cannot be folded in, and would count against the quota.
        is_full = any(weights) and self.limits.can_evict and not self.room.make(sum(weights))
        with self.transaction() as txn:
            if answers:
                self._answer(answers, txn)
                renumber(self, answers, txn)
            for commit, weight in zip(commits, weights, strict=True):
                reason = _NEWEST if is_full and self.limits.on_full == _NEWEST else ""
                if not self.room.fits_ever(weight):
                    reason = _TOO_LARGE
                    log.error(
                        "a commit is larger than the whole spool may be: it is dropped and counted"
                        " owner=%s bytes=%d max_bytes=%d",
                        commit.owner,
                        commit.nbytes,
                        self.limits.max_bytes,
                    )
                self._store(commit, txn, dropped_as=reason)
        buried = (batch_id for batch_id, _, _ in answers.dead)
        self.claims.release([*answers.acked, *buried, *answers.conflicts])

    def close_audit(self) -> None:
        """Make entries of what the audit log holds open: at the end of a run, and of what a crash left so.

        Never raises: on a full or failing disk it stays open, and the next start closes it.
        """
        try:
            if self.audit.has_open():
                with self.transaction():
                    self.audit.close_open()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            kind = getattr(error, "sqlite_errorname", type(error).__name__)
            log.warning("the audit log's last minute cannot be closed now error=%s", kind)

    def _store(self, commit: Commit, txn: Txn, *, dropped_as: str) -> None:
        self._add_bodies(commit.bodies, txn)
        for key, n in commit.ledger.items():
            txn.ledger[key] += n
        heads = self._heads(commit.batches, txn)
        if dropped_as:
            self.drop(heads, dropped_as, txn)
        else:
            for head, batch in zip(heads, commit.batches, strict=True):
                self.insert(head, batch.data, txn)
        for step, data in commit.state.items():
            txn.progress[commit.owner, step] = data
        if commit.position is not None:
            txn.progress[commit.owner, ""] = commit.position
        if commit.audit_note is not None:
            self.audit.add(commit.audit_note, commit.owner, [(head.epoch, head.seq) for head in heads])

    def _heads(self, batches: Sequence[Sealed], txn: Txn) -> list[Head]:
        """Number the batches of a commit; the ledger counts it already."""
        counters, stored = txn.counters, self.uptime_ns()
        totals: dict[str, int] = {}
        for b in batches:
            totals[b.stream] = totals.get(b.stream, 0) - b.readings
        for stream in totals:
            key = (stream, "accepted", "")
            totals[stream] += self.ledger[key] + txn.ledger[key]
        heads = []
        for b in batches:
            totals[b.stream] += b.readings
            counters["running"] += 1
            lane = str(b.lane)
            epoch, seq = counters[_EPOCH[lane]], counters[_NEXT[lane]]
            counters[_NEXT[lane]] = seq + 1
            schema_id, context_id = b.bodies
            heads.append(Head(
                FIRST_ID[lane] | counters["running"], lane, epoch, seq, b.stream, b.rows, b.readings,
                b.first_time, b.last_time, schema_id, context_id, b.tag, totals[b.stream], stored,
            ))  # fmt: skip
        return heads

    def _add_bodies(self, bodies: dict[bytes, bytes], txn: Txn) -> None:
        if bodies.keys() - self._known_bodies:
            self.db.executemany("INSERT OR IGNORE INTO body VALUES (?, ?)", bodies.items())
            txn.bodies.update(bodies)

    def insert(self, head: Head, data: bytes, txn: Txn) -> None:
        """Insert a batch into the newest segment."""
        self.db.execute(_INSERT, (*head, mark("batch", head), data))
        self.wait(txn, self.number, head, len(data), 1)

    def wait(self, txn: Txn, segment: int, head: Head, size: int, sign: int) -> None:
        """Count a batch as waiting in a segment (`sign` 1), or no longer (-1)."""
        key = (segment, head.stream, head.lane)
        old = txn.waiting.get(key) or self.waiting.get(key, (0, 0, 0))
        txn.waiting[key] = (old[0] + sign, old[1] + sign * head.readings, old[2] + sign * size)

    def locate(self, batch_id: int) -> tuple[int, Head, int] | None:
        """Return segment, head and size of a waiting batch, None if it does not wait. Raises DamagedSegment."""
        sql = f"SELECT {HEAD}, length(data) FROM batch WHERE id = ?"
        row = self.db.execute(sql, (batch_id,)).fetchone()
        if row is not None:
            return self.number, Head(*row[:-1]), row[-1]
        running = batch_id & RUNNING
        for number, (first, last, state) in self.segments.items():
            if state != "sealed" or not first <= running <= last or self.is_gone(number, batch_id):
                continue
            rows = self.older.query(number, sql, (batch_id,))
            if rows:
                return number, Head(*rows[0][:-1]), rows[0][-1]
            if self.older.query(number, _SCAN, (batch_id,)):
                raise DamagedSegment(number)
        if self.db.execute(_SCAN, (batch_id,)).fetchone() is not None:
            raise control_part.BooksDamaged("a batch is not where its number leads")
        return None

    def is_gone(self, segment: int, batch_id: int) -> bool:
        """Return whether a batch of an older segment no longer waits there."""
        sql = "SELECT 1 FROM gone WHERE segment = ? AND id = ?"
        return self.db.execute(sql, (segment, batch_id)).fetchone() is not None

    def remove(self, segment: int, head: Head, size: int, txn: Txn) -> None:
        """Take a batch out of what waits."""
        if segment == self.number:
            self.db.execute("DELETE FROM batch WHERE id = ?", (head.id,))
        else:
            self.db.executemany("INSERT INTO gone VALUES (?, ?, ?)", marked("gone", [(segment, head.id)]))
        self.wait(txn, segment, head, size, -1)

    def data_of(self, segment: int, batch_id: int) -> bytes:
        """Return the stored bytes of a waiting batch. Raises DamagedSegment."""
        sql = "SELECT data FROM batch WHERE id = ?"
        if segment == self.number:
            return bytes(self.db.execute(sql, (batch_id,)).fetchone()[0])
        return bytes(self.older.query(segment, sql, (batch_id,))[0][0])

    # -- answers --------------------------------------------------------------------------------------------

    def _answer(self, answers: Answers, txn: Txn) -> None:
        for batch_id in answers.acked:
            found = self.locate(batch_id)
            if found is not None:
                self.remove(*found, txn)
                txn.ledger[found[1].stream, "delivered", ""] += found[1].readings
        for batch_id, kind, reason in answers.dead:
            self._bury(batch_id, kind, reason, txn)
        for batch_id in answers.thinned:
            found = self.locate(batch_id)
            if found is not None:
                self.remove(*found, txn)
                self.drop([found[1]], "byte_budget", txn)
        self.db.executemany("DELETE FROM gap WHERE id = ?", [(g,) for g in answers.gaps_confirmed])
        receipts.note(self.db, answers)

    def add_gaps(self, gaps: Iterable[Sequence[Any]], txn: Txn) -> None:
        """Write down numbers that will never arrive."""
        rows = []
        for gap in gaps:
            txn.counters["gap"] += 1
            rows.append((txn.counters["gap"], *gap))
        self.db.executemany("INSERT INTO gap VALUES (?,?,?,?,?,?,?,?,?,?,?)", marked("gap", rows))

    def _bury(self, batch_id: int, kind: str, reason: str, txn: Txn) -> None:
        found = self.locate(batch_id)
        if found is None:
            return
        segment, head, size = found
        data = self.data_of(segment, batch_id)
        row = (*head, mark("batch", head), data, reason)
        self.db.execute(f"REPLACE INTO dead_letter VALUES ({_BATCH}, ?)", row)
        self.remove(segment, head, size, txn)
        txn.ledger[head.stream, kind, reason] += head.readings
        self.add_gaps(join_gaps([head], reason), txn)
        self.room.bound_dead_letters()

    def drop(self, heads: Sequence[Head], reason: str, txn: Txn) -> None:
        """Count batches as evicted and close their numbers."""
        for head in heads:
            txn.ledger[head.stream, "evicted", reason] += head.readings
        self.add_gaps(join_gaps(heads, "evicted"), txn)
