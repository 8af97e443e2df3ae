"""What the forwarder and the commands read of a spool; connections of its own, never a write."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from forebay.errors import SpoolError
from forebay.spool import forecast, receipts
from forebay.spool.books import empty_entry, equations_hold, take_in
from forebay.spool.older import DamagedSegment, Older, is_damage
from forebay.spool.rows import HEAD, RANK_BOUNDS, RUNNING, TAG_BYTES, Head, is_intact, mark, segment_number
from forebay.spool.schema import VERSION, check_version, connect
from forebay.spool.waits import hidden

__all__ = ["GapRow", "Pending", "Reader", "equations_hold"]

log = logging.getLogger("forebay.spool")

_FIELDS = f"{HEAD}, mark, data"
_WIDTH = len(Head._fields)


class Opener(Protocol):
    """Opens what was sealed when it was stored."""

    def open(self, data: bytes) -> tuple[bytes, bytes]:
        """Return bytes and content tag. Raises ForebayError."""


class Pending(NamedTuple):
    """A batch that waits for its acknowledgement."""

    id: int
    lane: str
    epoch: int
    seq: int
    stream: str
    rows: int
    readings: int
    schema_id: bytes
    context_id: bytes
    tag: bytes
    data: bytes


class GapRow(NamedTuple):
    """A gap that the receiver has not confirmed yet."""

    id: int
    epoch: int
    seq_from: int
    seq_to: int
    stream: str
    rows: int
    readings: int
    first_time: int
    last_time: int
    cause: str


class Reader:
    """Reads a spool by its newest segment. One thread only.

    Parameters
    ----------
    path : the newest segment
    current : returns the newest segment now, for a reader that lives as long as the agent
    suspect : told the number of a segment that turns out to be damaged
    opener : opens what is sealed at rest
    """

    def __init__(
        self,
        path: Path,
        *,
        current: Callable[[], Path] | None = None,
        suspect: Callable[[int], None] | None = None,
        opener: Opener | None = None,
    ) -> None:
        if not path.exists():
            raise SpoolError("there is no spool here", place=str(path), hint="has the agent run yet?")
        self._path, self._current, self._suspect, self._opener = path, current, suspect, opener
        self._older = Older(path.parent)
        # An open file takes disk space even when it is deleted: one that lives long opens only what it reads.
        self._connection = self._connect(path) if current is None else None

    def _connect(self, path: Path) -> Any:
        db = connect(path, read_only=True)
        try:
            version = check_version(db, path)
            if version < VERSION:
                raise SpoolError(
                    f"the spool has version {version}, this release {VERSION}",
                    place=str(path),
                    hint="start the agent once: it migrates the spool",
                )
        except BaseException:
            db.close()
            raise
        return db

    @property
    def _db(self) -> Any:
        """The connection to what is the newest segment now."""
        path = self._current() if self._current is not None else self._path
        if path != self._path or self._connection is None:
            fresh = self._connect(path)
            if self._connection is not None:
                self._connection.close()
            self._connection, self._path = fresh, path
            self._older.keep_only(set())
        return self._connection

    @property
    def path(self) -> Path:
        """The newest segment."""
        return self._path

    def close(self) -> None:
        """Close the connections."""
        self._older.close()
        if self._connection is not None:
            self._connection.close()

    # -- segments -------------------------------------------------------------------------------------------

    def segments(self) -> list[tuple[int, int, int, str]]:
        """Return number, bounds of running numbers and state of the older segments."""
        found = list(self._db.execute("SELECT number, first, last, state FROM segment ORDER BY first"))
        self._older.keep_only({number for number, _, _, state in found if state == "sealed"})
        return found

    def _is_gone(self, number: int, batch_id: int) -> bool:
        sql = "SELECT 1 FROM gone WHERE segment = ? AND id = ?"
        return self._db.execute(sql, (number, batch_id)).fetchone() is not None

    def _query_older(self, number: int, sql: str, values: tuple[Any, ...]) -> list[Any]:
        """Query an older segment; one that is damaged is reported and read as empty."""
        try:
            return self._older.query(number, sql, values)
        except DamagedSegment:
            state = self._db.execute("SELECT state FROM segment WHERE number = ?", (number,)).fetchone()
            if state == ("sealed",):  # else it has been emptied or set aside meanwhile
                self._report(number)
            self._older.keep_only(set())
            return []
        except sqlite3.Error as error:
            raise self._unreadable(error) from None

    def _report(self, number: int) -> None:
        self._older.let_go(number)  # what takes its place is another file
        if self._suspect is not None:
            self._suspect(number)
        else:
            log.error("a segment is damaged segment=%d", number)

    # -- batches --------------------------------------------------------------------------------------------

    def pending(self, lane: str, after: int, limit: int, *, newest_first: bool = False) -> list[Pending]:
        """Return up to `limit` batches of a lane with an id above `after`, oldest first; or below, newest first.

        Raises SpoolError.
        """
        low, high = RANK_BOUNDS[lane]
        try:
            if newest_first:
                return self._newest(low, min(after, high), limit)
            return self._pending(max(after, low), high, limit)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> SpoolError:
        if is_damage(error):
            self._report(segment_number(self._path.name))
        return SpoolError(f"cannot read ({getattr(error, 'sqlite_errorname', '')})", retryable=True)

    def _pending(self, after: int, high: int, limit: int) -> list[Pending]:
        query = f"SELECT {_FIELDS} FROM batch WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
        number = segment_number(self._path.name)
        found = self._taken(number, self._db.execute(query, (after, high, limit)))
        for older, first, last, state in self.segments():
            if state != "sealed" or last < after & RUNNING:
                continue
            found.sort()
            if len(found) >= limit and found[limit - 1].id & RUNNING < first:
                break
            at, kept = after, 0
            while kept < limit:
                rows = self._query_older(older, query, (at, high, limit))
                made = self._taken(older, (r for r in rows if not self._is_gone(older, r[0])))
                found += made
                kept += len(made)
                if len(rows) < limit:
                    break
                at = rows[-1][0]
        found.sort()
        return found[:limit]

    def _newest(self, low: int, below: int, limit: int) -> list[Pending]:
        """Return the newest batches of a lane below an id: the newest segment first, then the older ones."""
        query = f"SELECT {_FIELDS} FROM batch WHERE id > ? AND id < ? ORDER BY id DESC LIMIT ?"
        number = segment_number(self._path.name)
        found = self._taken(number, self._db.execute(query, (low, below, limit)))
        for older, first, _, state in reversed(self.segments()):
            if len(found) >= limit:
                break  # what is in a segment is older than all that is in later ones
            if state != "sealed" or first > below & RUNNING:
                continue
            at = below
            while len(found) < limit:
                rows = self._query_older(older, query, (low, at, limit))
                found += self._taken(older, (r for r in rows if not self._is_gone(older, r[0])))
                if len(rows) < limit:
                    break
                at = rows[-1][0]
        return sorted(found, reverse=True)[:limit]

    def _taken(self, number: int, rows: Any) -> list[Pending]:
        out = []
        for row in rows:
            head = row[:_WIDTH]
            if row[_WIDTH] != mark("batch", head):
                self._report(number)  # a number or count in the row has changed
                continue
            out.append(self._made(Head(*head), row[-1]))
        return out

    def _made(self, head: Head, data: bytes) -> Pending:
        tag = head.tag
        if self._opener is not None:
            try:
                if hashlib.blake2b(data, digest_size=TAG_BYTES).digest() != tag:
                    raise SpoolError("damaged on disk")
                data, tag = self._opener.open(data)
            except SpoolError:
                tag = b""  # matches nothing: the batch will be set aside as damaged
        return Pending(*head[:7], head.schema_id, head.context_id, tag, data)

    def look_for_hidden(self) -> None:
        """Report segments where something waits that no search finds: when idle. Raises SpoolError."""
        db, path = self._db, self._path
        try:
            found = hidden(db, segment_number(path.name), lambda lane: bool(self.pending(lane, -1, 1)))
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None
        for number in found if path == self._path else ():
            self._report(number)

    def batch(self, batch_id: int) -> Pending | None:
        """Return one batch, None if it is gone."""
        rows = self._pending(batch_id - 1, batch_id + 1, 1)
        return rows[0] if rows else None

    def exists(self, batch_id: int) -> bool:
        """Return whether a batch still waits."""
        sql = "SELECT 1 FROM batch WHERE id = ?"
        if self._db.execute(sql, (batch_id,)).fetchone() is not None:
            return True
        return any(
            state == "sealed"
            and first <= batch_id & RUNNING <= last
            and not self._is_gone(number, batch_id)
            and bool(self._query_older(number, sql, (batch_id,)))
            for number, first, last, state in self.segments()
        )

    def counts(self) -> tuple[int, int, int]:
        """Return batches, readings and bytes that wait."""
        row = self._db.execute("SELECT total(batches), total(readings), total(bytes) FROM waiting").fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def is_empty(self) -> bool:
        """Return whether nothing waits, neither batch nor gap."""
        query = "SELECT EXISTS (SELECT 1 FROM waiting) OR EXISTS (SELECT 1 FROM gap)"
        return not self._db.execute(query).fetchone()[0]

    def bodies(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return schema and context bodies by id."""
        found = {}
        for key in ids:
            sql = "SELECT body FROM body WHERE id = ?"
            row = self._db.execute(sql, (key,)).fetchone()
            if row is None:
                parts = (
                    self._query_older(number, sql, (key,))
                    for number, _, _, state in reversed(self.segments())
                    if state == "sealed"
                )
                row = next((rows[0] for rows in parts if rows), None)
            if row is not None:
                found[key] = row[0]
        return found

    def receipts(self, limit: int) -> list[tuple[int, int, int, bytes]]:
        """Return id, epoch, seq and tag of acknowledged batches that no signed checkpoint covers yet."""
        return receipts.waiting(self._db, limit)

    def ledger_entries(self) -> list[tuple[str, str, str, int]]:
        """Return the ledger as it is stored: stream, kind, reason, readings."""
        return list(self._db.execute("SELECT stream, kind, reason, readings FROM ledger"))

    def all_batches(self) -> Iterator[Pending]:
        """Yield every waiting batch, urgent lane first, in order of its id."""
        for lane in RANK_BOUNDS:
            after = -1
            while rows := self.pending(lane, after, 64):
                yield from rows
                after = rows[-1].id

    def waiting(self) -> list[dict[str, Any]]:
        """Return batches, readings and bytes that wait by stream and lane."""
        names = ("stream", "lane", "batches", "readings", "bytes")
        query = (
            "SELECT stream, lane, sum(batches), sum(readings), sum(bytes) FROM waiting GROUP BY stream, lane"
        )
        return [dict(zip(names, row, strict=True)) for row in self._db.execute(query)]

    def doubtful(self) -> list[int]:
        """Return the segments in which a waiting batch is not what it was, or that cannot be read."""
        newest = segment_number(self._path.name)
        found = []
        for number in (newest, *(n for n, _, _, s in self.segments() if s == "sealed")):
            try:
                if next(self._bad_rows(number, newest), None) is not None:
                    found.append(number)
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                found.append(number)
        return found

    def damaged(self) -> list[tuple[int, int]]:
        """Return (epoch, seq) of waiting batches that are not what they were."""
        newest = segment_number(self._path.name)
        numbers = [newest, *(n for n, _, _, s in self.segments() if s == "sealed")]
        return [(row[2], row[3]) for number in numbers for row in self._bad_rows(number, newest)]

    def _bad_rows(self, number: int, newest: int) -> Iterator[Any]:
        db = self._db if number == newest else self._older.db(number)
        for row in db.execute(f"SELECT {_FIELDS} FROM batch ORDER BY id"):
            if not is_intact(row[:_WIDTH], row[_WIDTH], row[-1]) and not self._is_gone(number, row[0]):
                yield row

    # -- gaps -----------------------------------------------------------------------------------------------

    def gaps(self, limit: int) -> list[GapRow]:
        """Return gaps to be told to the receiver."""
        names = ", ".join(GapRow._fields)
        return [
            GapRow(*row) for row in self._db.execute(f"SELECT {names} FROM gap ORDER BY id LIMIT ?", (limit,))
        ]

    def lost_by_center(self, epoch: int, next_seq: int, mark: int) -> list[tuple[int, int]]:
        """Return the ranges above the center's mark that are neither waiting here nor told as gaps.

        They were acknowledged once and are gone from here: the center has been restored to an older state. Nothing
        is said while a damaged segment is examined, which may hold them.
        """
        segments = self.segments()
        if next_seq <= mark + 1 or any(state == "damaged" for *_, state in segments):
            return []
        end = min(self._first_seq(epoch, segments), next_seq)
        ranges, low = [], mark + 1
        query = "SELECT seq_from, seq_to FROM gap WHERE epoch = ? ORDER BY seq_from"
        for gap_from, gap_to in [*self._db.execute(query, (epoch,)), (end, end)]:
            if low < min(gap_from, end):
                ranges.append((low, min(gap_from, end) - 1))
            low = max(low, gap_to + 1)
        return ranges

    def _first_seq(self, epoch: int, segments: Sequence[tuple[int, int, int, str]]) -> int:
        row = self._db.execute("SELECT min(seq) FROM batch WHERE epoch = ?", (epoch,)).fetchone()
        least = [] if row[0] is None else [int(row[0])]
        for number, _, _, state in segments:
            if state == "sealed":
                sql = "SELECT seq, id FROM batch WHERE epoch = ? ORDER BY id"
                rows = self._query_older(number, sql, (epoch,))
                least += [seq for seq, batch_id in rows if not self._is_gone(number, batch_id)]
        return min(least, default=1 << 62)

    # -- facts ----------------------------------------------------------------------------------------------

    def ledger(self) -> dict[str, dict[str, Any]]:
        """Return what the ledger counts per stream; see `equations_hold` for what must be true of the readings."""
        db = self._db
        db.execute("BEGIN")  # both queries see one moment
        try:
            streams: dict[str, dict[str, Any]] = {}
            for stream, kind, reason, readings in db.execute(
                "SELECT stream, kind, reason, readings FROM ledger"
            ):
                take_in(streams.setdefault(stream, empty_entry()), kind, reason, readings)
            for stream, readings in db.execute("SELECT stream, sum(readings) FROM waiting GROUP BY stream"):
                streams.setdefault(stream, empty_entry())["pending"] = readings
            return streams
        finally:
            db.execute("COMMIT")

    def recount(self) -> dict[str, int]:
        """Return the readings that wait by stream, counted from the batches themselves."""
        waits: Counter[str] = Counter()
        sql = "SELECT id, stream, readings FROM batch"
        for _, stream, readings in self._db.execute(sql):
            waits[stream] += readings
        for number, _, _, state in self.segments():
            if state == "sealed":  # a segment at a time: all of them may be more than the memory
                for batch_id, stream, readings in self._older.query(number, sql):
                    if not self._is_gone(number, batch_id):
                        waits[stream] += readings
        return dict(waits)

    def check_structure(self) -> str:
        """Return `ok` or SQLite's first complaint. It does not see a flipped bit inside a blob: the tags do."""
        told = str(self._db.execute("PRAGMA integrity_check(1)").fetchone()[0])
        for number, _, _, state in self.segments():
            if told == "ok" and state == "sealed":
                told = str(self._older.query(number, "PRAGMA integrity_check(1)")[0][0])
        return told

    def counters(self) -> dict[str, int]:
        """Return epochs, next numbers, transactions."""
        return dict(self._db.execute("SELECT name, value FROM counter"))

    def rate(self, now_ns: int = 0) -> float:
        """Return bytes that come to wait per second of uptime, over the newest batches that wait; see forecast."""
        return forecast.rate([list(self._arrivals(*bounds)) for bounds in RANK_BOUNDS.values()], now_ns)

    def _arrivals(self, low: int, high: int) -> Iterator[forecast.Arrival]:
        """Yield when the newest batches of a lane came to wait, and their bytes: newest first, a sample's worth."""
        sql = "SELECT stored, length(data), id FROM batch WHERE id > ? AND id < ? ORDER BY id DESC LIMIT ?"
        left = forecast.SAMPLE
        for row in self._db.execute(sql, (low, high, left)).fetchall():
            left -= 1
            yield row[:2]
        for number, _, _, state in reversed(self.segments()):
            rows = self._query_older(number, sql, (low, high, left)) if left and state == "sealed" else []
            for row in (r for r in rows if not self._is_gone(number, r[2])):
                left -= 1
                yield row[:2]

    def dead_letters(self) -> list[tuple[str, str, int, int]]:
        """Return stream, reason, batches and readings of what was set aside."""
        query = "SELECT stream, reason, count(*), sum(readings) FROM dead_letter GROUP BY stream, reason"
        return list(self._db.execute(query))
