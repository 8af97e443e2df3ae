"""What the forwarder and the commands read of a spool; a connection of its own, never a write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from forebay.errors import SpoolError
from forebay.spool.schema import LANE_SHIFT, connect
from forebay.spool.store import RANK

_FIELDS = "id, lane, epoch, seq, stream, rows, readings, schema_id, context_id, tag, data"


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
    """Reads one segment."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise SpoolError("there is no spool here", place=str(path), hint="has the agent run yet?")
        self._db = connect(path, read_only=True)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def pending(self, lane: str, after: int, limit: int, *, newest_first: bool = False) -> list[Pending]:
        """Return up to `limit` batches of a lane with an id above `after`, oldest first; or below, newest first.

        Raises SpoolError.
        """
        low, high = RANK_BOUNDS[lane]
        bounds = (low, min(after, high)) if newest_first else (max(after, low), high)
        direction = "DESC" if newest_first else "ASC"
        query = f"SELECT {_FIELDS} FROM batch WHERE id > ? AND id < ? ORDER BY id {direction} LIMIT ?"
        try:
            return [Pending(*row) for row in self._db.execute(query, (*bounds, limit))]
        except sqlite3.Error as error:
            raise SpoolError(f"cannot read ({error.sqlite_errorname})", retryable=True) from None

    def batch(self, batch_id: int) -> Pending | None:
        """Return one batch, None if it is gone."""
        row = self._db.execute(f"SELECT {_FIELDS} FROM batch WHERE id = ?", (batch_id,)).fetchone()
        return None if row is None else Pending(*row)

    def exists(self, batch_id: int) -> bool:
        """Return whether a batch still waits."""
        return self._db.execute("SELECT 1 FROM batch WHERE id = ?", (batch_id,)).fetchone() is not None

    def counts(self) -> tuple[int, int, int]:
        """Return batches, readings and bytes that wait."""
        row = self._db.execute("SELECT count(*), total(readings), total(length(data)) FROM batch").fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def is_empty(self) -> bool:
        """Return whether nothing waits, neither batch nor gap."""
        query = "SELECT EXISTS (SELECT 1 FROM batch) OR EXISTS (SELECT 1 FROM gap)"
        return not self._db.execute(query).fetchone()[0]

    def bodies(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return schema and context bodies by id."""
        found = {}
        for key in ids:
            row = self._db.execute("SELECT body FROM body WHERE id = ?", (key,)).fetchone()
            if row is not None:
                found[key] = row[0]
        return found

    def gaps(self, limit: int) -> list[GapRow]:
        """Return gaps to be told to the receiver."""
        return [GapRow(*row) for row in self._db.execute("SELECT * FROM gap ORDER BY id LIMIT ?", (limit,))]

    def lost_by_center(self, epoch: int, next_seq: int, mark: int) -> list[tuple[int, int]]:
        """Return the ranges above the center's mark that are neither waiting here nor told as gaps.

        They were acknowledged once and are gone from here: the center has been restored to an older state.
        """
        row = self._db.execute("SELECT min(seq) FROM batch WHERE epoch = ?", (epoch,)).fetchone()
        end = next_seq if row[0] is None else row[0]
        ranges, low = [], mark + 1
        query = "SELECT seq_from, seq_to FROM gap WHERE epoch = ? ORDER BY seq_from"
        for gap_from, gap_to in [*self._db.execute(query, (epoch,)), (end, end)]:
            if low < min(gap_from, end):
                ranges.append((low, min(gap_from, end) - 1))
            low = max(low, gap_to + 1)
        return ranges

    def receipts(self, limit: int) -> list[tuple[int, int, int, bytes]]:
        """Return id, epoch, seq and tag of acknowledged batches that no signed checkpoint covers yet."""
        try:
            return list(
                self._db.execute("SELECT id, epoch, seq, tag FROM receipt ORDER BY id LIMIT ?", (limit,))
            )
        except sqlite3.Error as error:
            raise SpoolError(f"cannot read ({error.sqlite_errorname})", retryable=True) from None

    def ledger_entries(self) -> list[tuple[str, str, str, int]]:
        """Return the ledger as it is stored: stream, kind, reason, readings."""
        return list(self._db.execute("SELECT stream, kind, reason, readings FROM ledger"))

    def all_batches(self) -> Iterator[Pending]:
        """Yield every waiting batch in order of its id."""
        for row in self._db.execute(f"SELECT {_FIELDS} FROM batch ORDER BY id"):
            yield Pending(*row)

    def ledger(self) -> dict[str, dict[str, Any]]:
        """Return readings per stream; see `equations_hold` for what must be true of them."""
        self._db.execute("BEGIN")  # both queries see one moment
        try:
            return self._read_ledger()
        finally:
            self._db.execute("COMMIT")

    def _read_ledger(self) -> dict[str, dict[str, Any]]:
        streams: dict[str, dict[str, Any]] = {}
        for stream, kind, reason, readings in self._db.execute(
            "SELECT * FROM ledger ORDER BY stream, kind, reason"
        ):
            entry = streams.setdefault(stream, _empty_entry())
            if isinstance(entry[kind], dict):
                entry[kind][reason] = readings
            else:
                entry[kind] += readings
        for stream, readings in self._db.execute("SELECT stream, sum(readings) FROM batch GROUP BY stream"):
            streams.setdefault(stream, _empty_entry())["pending"] = readings
        return streams

    def check_structure(self) -> str:
        """Return `ok` or SQLite's first complaint. It does not see a flipped bit inside a blob: the tags do."""
        return str(self._db.execute("PRAGMA integrity_check(1)").fetchone()[0])

    def counters(self) -> dict[str, int]:
        """Return epochs, next numbers, transactions."""
        return dict(self._db.execute("SELECT name, value FROM counter"))

    def dead_letters(self) -> list[tuple[str, str, int, int]]:
        """Return stream, reason, batches and readings of what was set aside."""
        query = "SELECT stream, reason, count(*), sum(readings) FROM dead_letter GROUP BY stream, reason"
        return list(self._db.execute(query))


RANK_BOUNDS = {str(lane): (rank << LANE_SHIFT, (rank + 1) << LANE_SHIFT) for lane, rank in RANK.items()}


def _empty_entry() -> dict[str, Any]:
    return {
        "read": 0,
        "filtered": {},
        "guarded": 0,
        "rejected": {},
        "accepted": 0,
        "delivered": 0,
        "pending": 0,
        "evicted": {},
        "dead_lettered": {},
        "quarantined": {},
    }


def equations_hold(entry: dict[str, Any]) -> bool:
    """Return whether both equations of the ledger hold for a stream.

    read = accepted + filtered + guarded + rejected, and
    accepted = delivered + pending + evicted + dead_lettered + quarantined.
    """

    def total(kind: str) -> int:
        value = entry[kind]
        return sum(value.values()) if isinstance(value, dict) else int(value)

    into = total("accepted") + total("filtered") + total("guarded") + total("rejected")
    onward = sum(total(kind) for kind in ("delivered", "pending", "evicted", "dead_lettered", "quarantined"))
    return total("read") == into and total("accepted") == onward
