"""One spool segment: the transactions. Used by the writer thread only; no threads, no waiting in here.

Invariants
----------
- A batch's number (epoch, seq) is given in the transaction that stores it; seq rises by one per lane.
- Ledger, positions and step states move in the same transaction as the batches they belong to.
- `txn` rises by one a transaction, so that after an I/O error, when nobody knows whether the commit took
  place, reopening and reading it decides.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from forebay.blocks import Lane
from forebay.spool import audit
from forebay.spool.claims import Claims
from forebay.spool.schema import LANE_SHIFT, connect, prepare
from forebay.stages import Commit, Sealed

log = logging.getLogger("forebay.spool")

LANES = (Lane.URGENT, Lane.NORMAL, Lane.BULK)
RANK = {lane: rank for rank, lane in enumerate(LANES)}
_EPOCH_RANDOM_BITS = 32
_EMPTY_PAGES = 32  # tables, indexes and the pages of a transaction in an empty spool
_COMMIT_PAGES = 16  # pages of tables and indexes that a commit rewrites
_EVICT_SHARE = 32  # evict at least this part of the quota at once, so that a full spool does not thrash

LedgerKey = tuple[str, str, str]  # (stream, kind, reason)


class Head(NamedTuple):
    """A batch row without its data."""

    id: int
    lane: str
    epoch: int
    seq: int
    stream: str
    rows: int
    readings: int
    first_time: int
    last_time: int
    schema_id: bytes
    context_id: bytes
    tag: bytes


HEAD = ", ".join(Head._fields)


@dataclass(slots=True)
class Answers:
    """What the receiver said of batches, by batch id, to be applied in the next transaction."""

    acked: list[int] = field(default_factory=list)
    dead: list[tuple[int, str, str]] = field(default_factory=list)  # (id, ledger kind, reason)
    gaps_confirmed: list[int] = field(default_factory=list)
    conflicts: list[int] = field(default_factory=list)  # ids whose number belongs to another batch there
    regressed: list[tuple[int, int]] = field(default_factory=list)  # (epoch, the receiver's mark)
    holes: list[tuple[int, int, int]] = field(default_factory=list)  # (epoch, from, to) the center has lost

    def __bool__(self) -> bool:
        return any((self.acked, self.dead, self.gaps_confirmed, self.conflicts, self.regressed, self.holes))


class Store:
    """Transactions on one segment file."""

    def __init__(self, path: Path, *, sync: str, max_bytes: int, on_full: str, claims: Claims) -> None:
        self.path = path
        self._sync, self._max_bytes, self._on_full, self._claims = sync, max_bytes, on_full, claims
        self._db = self._open()
        self.txn: int = self._counters["txn"]

    def _open(self) -> sqlite3.Connection:
        db = connect(self.path, sync=self._sync)
        try:
            prepare(db, self.path)
            audit.prepare(db)
            self._counters: dict[str, int] = dict(db.execute("SELECT name, value FROM counter"))
            self._known_bodies = {row[0] for row in db.execute("SELECT id FROM body")}
            self._page_size: int
            (self._page_size,) = db.execute("PRAGMA page_size").fetchone()
            if "txn" not in self._counters:
                self._initialise(db)
        except BaseException:
            db.close()
            raise
        return db

    def _initialise(self, db: sqlite3.Connection) -> None:
        # The segment's number leads the epoch, so that (epoch, seq) orders what one spool wrote; the random
        # part tells clones and new cards apart.
        generation = int(self.path.stem.rpartition("-")[2])
        counters = {"txn": 0, "running": 0}
        for lane in LANES:
            epoch = (generation << _EPOCH_RANDOM_BITS) | secrets.randbits(_EPOCH_RANDOM_BITS)
            counters[f"{lane}.epoch"] = epoch
            counters[f"{lane}.next"] = 1
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO counter VALUES (?, ?)", counters.items())
        db.execute("COMMIT")
        self._counters = counters

    def reopen(self) -> bool:
        """Close and open again after an error. Return whether the last transaction took place after all."""
        expected = self.txn
        self.close()
        self._db = self._open()
        self.txn = self._counters["txn"]
        return self.txn > expected

    def close(self) -> None:
        """Close the file; SQLite folds the WAL in if this was the last connection."""
        with contextlib.suppress(sqlite3.Error):  # unreadable by now? what was committed is in its WAL
            self._db.close()

    # -- reading --------------------------------------------------------------------------------------------

    def epochs(self) -> dict[int, tuple[str, int]]:
        """Return lane and next number of each epoch in use."""
        return {self._counters[f"{lane}.epoch"]: (lane, self._counters[f"{lane}.next"]) for lane in LANES}

    def progress(self, owner: str) -> dict[str, bytes]:
        """Return the saved position (under '') and step states of an owner."""
        return dict(self._db.execute("SELECT step, data FROM progress WHERE owner = ?", (owner,)))

    def bodies(self) -> set[bytes]:
        """Return the ids of the bodies stored."""
        return self._known_bodies

    def used_bytes(self) -> int:
        """Return live pages plus WAL, in bytes: what the quota bounds."""
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * self._page_size + self.wal_bytes()

    def wal_bytes(self) -> int:
        """Return the size of the WAL file."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def checkpoint(self, mode: str) -> None:
        """Fold the WAL into the database on the writer's own connection. Failing is harmless."""
        try:
            self._db.execute(f"PRAGMA wal_checkpoint({mode})")
        except sqlite3.Error as error:
            log.debug("checkpoint put off error=%s", error.sqlite_errorname)

    def checkpoint_aside(self) -> None:
        """Fold what can be folded without holding up the writer. From the checkpointer thread."""
        try:
            aside = connect(self.path, sync=self._sync)
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

    def room_for(self, size: int) -> bool:
        """Return whether `size` more bytes fit the quota as it stands."""
        # A stored byte passes through the WAL before its page is folded in: it counts there and in the file.
        if self.used_bytes() + self._cost(size) <= self._max_bytes:
            return True
        self.checkpoint("TRUNCATE")  # the WAL's own size counts, and this gives it back
        return self.used_bytes() + self._cost(size) <= self._max_bytes

    def _cost(self, size: int) -> int:
        """Return the most that a commit of `size` bytes adds to `used_bytes`."""
        return 2 * size + _COMMIT_PAGES * self._page_size

    def fits_ever(self, size: int) -> bool:
        """Return whether `size` bytes in one commit would fit an empty spool."""
        return 2 * size + _EMPTY_PAGES * self._page_size <= self._max_bytes

    def can_evict(self) -> bool:
        """Return whether the policy makes room by itself."""
        return self._on_full != "block"

    def apply(self, commits: Sequence[Commit], answers: Answers) -> None:
        """Do it all in one transaction; on return it is durable.

        Raises
        ------
        sqlite3.Error
            The outcome is unknown: call `reopen`, which tells.
        """
        counters = dict(self._counters)
        ledger: Counter[LedgerKey] = Counter()
        size = sum(c.nbytes for c in commits)
        # Before the transaction: within one the WAL cannot be folded in, and would count against the quota.
        full = bool(size) and self.can_evict() and not self.room_for(size)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._answer(answers, ledger)
            self._renumber(answers, counters)
            if full and self._on_full != "drop_newest":
                self._evict(max(self._cost(size), self._max_bytes // _EVICT_SHARE), ledger)
            bodies: set[bytes] = set()
            for commit in commits:
                reason = "drop_newest" if full and self._on_full == "drop_newest" else ""
                if not self.fits_ever(commit.nbytes):
                    reason = "too_large"
                    log.error(
                        "a commit is larger than the whole spool may be: it is dropped and counted"
                        " owner=%s bytes=%d max_bytes=%d",
                        commit.owner,
                        commit.nbytes,
                        self._max_bytes,
                    )
                bodies |= self._store(commit, counters, ledger, dropped_as=reason)
            self._count(ledger)
            counters["txn"] += 1
            changed = [(v, k) for k, v in counters.items() if self._counters[k] != v]
            self._db.executemany("UPDATE counter SET value = ? WHERE name = ?", changed)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        finally:
            self._claims.settle_doomed()
        buried = (batch_id for batch_id, _, _ in answers.dead)
        self._claims.release([*answers.acked, *buried, *answers.conflicts])
        self._counters, self.txn = counters, counters["txn"]
        self._known_bodies |= bodies

    def _store(
        self, commit: Commit, counters: dict[str, int], ledger: Counter[LedgerKey], *, dropped_as: str
    ) -> set[bytes]:
        new = {key: body for key, body in commit.bodies.items() if key not in self._known_bodies}
        self._db.executemany("INSERT OR IGNORE INTO body VALUES (?, ?)", new.items())
        heads: list[Head] = []
        for batch in commit.batches:
            counters["running"] += 1
            seq = counters[f"{batch.lane}.next"]
            counters[f"{batch.lane}.next"] = seq + 1
            batch_id = (RANK[batch.lane] << LANE_SHIFT) | counters["running"]
            heads.append(_head(batch_id, counters[f"{batch.lane}.epoch"], seq, batch))
        if dropped_as:
            self._drop(heads, dropped_as, ledger)
        else:
            rows = [(*head, batch.data) for head, batch in zip(heads, commit.batches, strict=True)]
            self._db.executemany("INSERT INTO batch VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        progress = dict(commit.state)
        if commit.position is not None:
            progress[""] = commit.position
        self._db.executemany(
            "INSERT INTO progress VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
            [(commit.owner, step, data) for step, data in progress.items()],
        )
        ledger.update(commit.ledger)
        if commit.audit_note is not None:
            audit.add(self._db, commit.audit_note, commit.owner, [(head.epoch, head.seq) for head in heads])
        return set(new)

    def _count(self, ledger: Counter[LedgerKey]) -> None:
        self._db.executemany(
            "INSERT INTO ledger VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET readings = readings + excluded.readings",
            [(*key, readings) for key, readings in ledger.items() if readings],
        )

    def _answer(self, answers: Answers, ledger: Counter[LedgerKey]) -> None:
        for batch_id in answers.acked:
            row = self._db.execute(
                "DELETE FROM batch WHERE id = ? RETURNING stream, readings", (batch_id,)
            ).fetchone()
            if row is not None:
                ledger[row[0], "delivered", ""] += row[1]
        for batch_id, kind, reason in answers.dead:
            self._bury(batch_id, kind, reason, ledger)
        self._db.executemany("DELETE FROM gap WHERE id = ?", [(g,) for g in answers.gaps_confirmed])

    def _renumber(self, answers: Answers, counters: dict[str, int]) -> None:
        """Meet a center that knows other numbers than this spool.

        Its mark is ahead, or a number is taken: this spool is an older copy, or a clone, of the one that wrote
        them. New batches go into a new epoch; what waits under old numbers keeps them (the center drops what
        it has), unless its number is taken. Its marks are behind: it was restored, and is told of the hole.
        """
        for epoch, mark in answers.regressed:
            for lane in LANES:
                low = counters[f"{lane}.next"]
                if counters[f"{lane}.epoch"] == epoch and mark >= low:
                    _open_epoch(counters, lane)
                    self._close_numbers(epoch, low, mark, "regressed")
        for batch_id in answers.conflicts:
            row = self._db.execute("SELECT lane, epoch FROM batch WHERE id = ?", (batch_id,)).fetchone()
            if row is None:
                continue
            lane, epoch = row
            if counters[f"{lane}.epoch"] == epoch:
                _open_epoch(counters, lane)
            seq = counters[f"{lane}.next"]
            counters[f"{lane}.next"] = seq + 1
            self._db.execute(
                "UPDATE batch SET epoch = ?, seq = ? WHERE id = ?", (counters[f"{lane}.epoch"], seq, batch_id)
            )
        for epoch, low, high in answers.holes:
            self._close_numbers(epoch, low, high, "center_regressed")

    def _close_numbers(self, epoch: int, low: int, high: int, cause: str) -> None:
        gap = (epoch, low, high, "", 0, 0, 0, 0, cause)
        self._db.execute("INSERT INTO gap VALUES (NULL,?,?,?,?,?,?,?,?,?)", gap)

    def _bury(self, batch_id: int, kind: str, reason: str, ledger: Counter[LedgerKey]) -> None:
        row = self._db.execute(f"SELECT {HEAD} FROM batch WHERE id = ?", (batch_id,)).fetchone()
        if row is None:
            return
        head = Head(*row)
        self._db.execute(
            "INSERT OR REPLACE INTO dead_letter SELECT *, ? FROM batch WHERE id = ?", (reason, batch_id)
        )
        self._db.execute("DELETE FROM batch WHERE id = ?", (batch_id,))
        ledger[head.stream, kind, reason] += head.readings
        self._gap([head], reason)

    def _evict(self, wanted: int, ledger: Counter[LedgerKey]) -> None:
        """Delete what is worth least until `wanted` bytes are free: lowest lane first, oldest first."""
        if self._on_full == "drop_oldest":  # of normal and bulk whatever is oldest; urgent still last
            orders = [
                f"id >= {1 << LANE_SHIFT} ORDER BY id & {(1 << LANE_SHIFT) - 1}",
                f"id < {1 << LANE_SHIFT} ORDER BY id",
            ]
        else:
            bounds = [(rank << LANE_SHIFT, (rank + 1) << LANE_SHIFT) for rank in reversed(range(len(LANES)))]
            orders = [f"id >= {low} AND id < {high} ORDER BY id" for low, high in bounds]
        freed = 0
        for order in orders:
            victims: list[Head] = []
            for *row, size in self._db.execute(f"SELECT {HEAD}, length(data) FROM batch WHERE {order}"):
                if freed >= wanted:
                    break
                if self._claims.doom(row[0]):
                    victims.append(Head(*row))
                    freed += size
            self._db.executemany("DELETE FROM batch WHERE id = ?", [(v.id,) for v in victims])
            self._drop(victims, self._on_full, ledger)

    def _drop(self, heads: Sequence[Head], reason: str, ledger: Counter[LedgerKey]) -> None:
        for head in heads:
            ledger[head.stream, "evicted", reason] += head.readings
        self._gap(heads, "evicted")

    def _gap(self, heads: Iterable[Head], cause: str) -> None:
        """Record numbers that will never arrive, joining neighbours of one stream."""
        gaps: list[list[Any]] = []
        last: Head | None = None
        for head in sorted(heads, key=lambda h: (h.epoch, h.seq)):
            if last and (last.epoch, last.seq + 1, last.stream) == (head.epoch, head.seq, head.stream):
                _extend(gaps[-1], head)
            else:
                counts = [head.rows, head.readings, head.first_time, head.last_time]
                gaps.append([head.epoch, head.seq, head.seq, head.stream, *counts, cause])
            last = head
        self._db.executemany("INSERT INTO gap VALUES (NULL,?,?,?,?,?,?,?,?,?)", gaps)


def _extend(gap: list[Any], head: Head) -> None:
    gap[2] = head.seq
    gap[4] += head.rows
    gap[5] += head.readings
    gap[6] = min(gap[6], head.first_time)
    gap[7] = max(gap[7], head.last_time)


def _open_epoch(counters: dict[str, int], lane: str) -> None:
    generation = (counters[f"{lane}.epoch"] >> _EPOCH_RANDOM_BITS) + 1
    counters[f"{lane}.epoch"] = (generation << _EPOCH_RANDOM_BITS) | secrets.randbits(_EPOCH_RANDOM_BITS)
    counters[f"{lane}.next"] = 1


def _head(batch_id: int, epoch: int, seq: int, batch: Sealed) -> Head:
    schema_id, context_id = batch.bodies
    return Head(
        batch_id,
        str(batch.lane),
        epoch,
        seq,
        batch.stream,
        batch.rows,
        batch.readings,
        batch.first_time,
        batch.last_time,
        schema_id,
        context_id,
        batch.tag,
    )
