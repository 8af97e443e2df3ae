"""The SQLite sink: rows, marks and `batches` in one transaction, so a batch is stored once after any outage."""

from __future__ import annotations

import itertools
import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from forebay.blocks import Block, Field, Schema, Type
from forebay.errors import ForebayError
from forebay.receive.caps import Limits
from forebay.receive.checkpoints import Kept
from forebay.receive.marks import Marks
from forebay.receive.positions import Place
from forebay.receive.rows import cells, row_quality
from forebay.receive.sink import Incoming, Verdict, Work
from forebay.receive.sqlite_positions import Positions
from forebay.receive.sqlite_schema import corrected_view, open_database
from forebay.receive.sqlite_schema import quote as _quote
from forebay.receive.tables import Placed, column_name, table_name
from forebay.wire.envelope import Exported
from forebay.wire.messages import Gap

log = logging.getLogger("forebay.receive")

_SQL_TYPES = {
    Type.F64: "REAL",
    Type.I64: "INTEGER",
    Type.BOOL: "INTEGER",
    Type.STR: "TEXT",
    Type.BYTES: "BLOB",
}


class SqliteSink:
    """One file. See sink.Sink for the contract."""

    transactional = True

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self._limits = limits or Limits()
        self._db = open_database(path)
        (self.store_id,) = self._db.execute("SELECT value FROM store WHERE name = 'store_id'").fetchone()
        self._marks: dict[tuple[str, int], Marks] = {}
        self._placed: dict[str, Placed] = {}
        self._inserts: dict[tuple[str, Schema], str] = {}
        self._streams: dict[str, set[str]] = {}
        self._bodies: set[bytes] = {row[0] for row in self._db.execute("SELECT id FROM bodies")}
        self._positions = Positions(self._db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def marks(self, gateway: str, epochs: Sequence[int]) -> dict[int, Marks]:
        """See Sink."""
        return {epoch: self._load_marks(gateway, epoch) for epoch in epochs}

    def epochs(self, gateway: str) -> set[int]:
        """See Sink."""
        return {row[0] for row in self._db.execute("SELECT epoch FROM marks WHERE gateway = ?", (gateway,))}

    def positions(self, gateway: str) -> dict[str, Place]:
        """See Sink."""
        return self._positions.of(gateway)

    def body(self, body_id: bytes) -> bytes | None:
        """See Sink."""
        row = self._db.execute("SELECT body FROM bodies WHERE id = ?", (body_id,)).fetchone()
        return None if row is None else row[0]

    def store(self, work: Work) -> None:
        """See Sink."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._store(work)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            # What the caches hold may be of the transaction that did not take place.
            self._forget()
            raise ForebayError(
                f"cannot store: {error.sqlite_errorname}", place=str(self.path), retryable=True
            ) from None
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._marks.clear()
        self._placed.clear()
        self._inserts.clear()
        self._streams.clear()
        self._bodies.clear()
        self._positions.forget()

    def _store(self, work: Work) -> None:
        touched: set[tuple[str, int]] = set()
        for batch in work.batches:
            marks = self._load_marks(batch.gateway, batch.epoch)
            batch.verdict = self._judge(batch, marks)
            if batch.verdict is Verdict.STORED:
                self._store_batch(batch, work.received_at)
                marks.add(batch.seq)
                touched.add((batch.gateway, batch.epoch))
        for gateway, gap in work.gaps:
            self._store_gap(gateway, gap, work.received_at)
            touched.add((gateway, gap.epoch))
        self._db.executemany(
            "INSERT INTO marks VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET mark = excluded.mark, above = excluded.above",
            [(*key, self._marks[key].mark, self._marks[key].dump()) for key in touched],
        )
        self._positions.write()

    def _load_marks(self, gateway: str, epoch: int) -> Marks:
        key = (gateway, epoch)
        if key not in self._marks:
            row = self._db.execute(
                "SELECT mark, above FROM marks WHERE gateway = ? AND epoch = ?", key
            ).fetchone()
            self._marks[key] = Marks.load(*row) if row else Marks()
        return self._marks[key]

    def _judge(self, batch: Incoming, marks: Marks) -> Verdict:
        if marks.has(batch.seq):
            row = self._db.execute(
                "SELECT tag FROM batches WHERE gateway = ? AND epoch = ? AND seq = ?",
                (batch.gateway, batch.epoch, batch.seq),
            ).fetchone()
            # A number closed by a gap, or whose row was pruned, has no tag to compare with.
            return Verdict.DUPLICATE if row is None or row[0] == batch.tag else Verdict.CONFLICT
        return Verdict.STORED if marks.fits(batch.seq) else Verdict.TOO_FAR

    # -- one batch ------------------------------------------------------------------------------------------

    def _store_batch(self, batch: Incoming, received_at: int) -> None:
        for key, body in (
            (batch.envelope.schema_id, batch.schema_body),
            (batch.envelope.context_id, batch.context_body),
        ):
            if key not in self._bodies:
                self._db.execute("INSERT OR IGNORE INTO bodies VALUES (?, ?)", (key, body))
                self._bodies.add(key)
        placed = self._place(batch.schema)
        misfit = placed.misfit(batch.schema) or self._over_limit(batch, placed)
        if batch.block is None or misfit:
            self._set_aside(batch, misfit or batch.reason, received_at)
        else:
            self._note_stream(batch, len(placed.missing(batch.schema)))
            self._widen(placed, batch.schema)
            self._insert_rows(placed, batch.block, batch)
        self._insert_batch(batch, received_at)
        self._note_boot(batch)
        self._positions.note(batch)

    def _place(self, schema: Schema) -> Placed:
        placed = self._placed.get(schema.stream)
        if placed is None:
            placed = Placed(table_name(schema.stream))
            query = 'SELECT field, "column", type, unit FROM columns WHERE stream = ?'
            for name, column, type_, unit in self._db.execute(query, (schema.stream,)):
                folded = name.casefold()
                placed.columns[folded], placed.types[folded], placed.units[folded] = column, Type(type_), unit
            self._placed[schema.stream] = placed
        return placed

    def _over_limit(self, batch: Incoming, placed: Placed) -> str:
        """Return which of its gateway's limits a batch would break, empty if none."""
        new = len(placed.missing(batch.schema))
        if not new and batch.schema.stream in self._streams.get(batch.gateway, ()):
            return ""
        mine = dict(
            self._db.execute(
                "SELECT stream, columns FROM gateway_streams WHERE gateway = ?", (batch.gateway,)
            )
        )
        self._streams[batch.gateway] = set(mine)
        if batch.schema.stream not in mine and len(mine) >= self._limits.streams:
            return f"more than {self._limits.streams} streams of one gateway"
        if sum(mine.values()) + new > self._limits.columns:
            return f"more than {self._limits.columns} columns of one gateway"
        return ""

    def _note_stream(self, batch: Incoming, new_columns: int) -> None:
        """Count the stream, and the columns that this batch brings, for its gateway."""
        known = self._streams.setdefault(batch.gateway, set())
        if new_columns or batch.schema.stream not in known:
            self._db.execute(
                "INSERT INTO gateway_streams VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET columns = columns + excluded.columns",
                (batch.gateway, batch.schema.stream, new_columns),
            )
            known.add(batch.schema.stream)

    def _widen(self, placed: Placed, schema: Schema) -> None:
        """Create the table or add the columns that this schema brings."""
        missing = placed.missing(schema)
        if missing and not placed.columns:
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {_quote(placed.table)} (time INTEGER NOT NULL, quality TEXT NOT NULL,"
                " quality_detail TEXT, gateway TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL)"
            )
            self._db.execute(corrected_view(placed.table))
        taken = {c.casefold() for c in placed.columns.values()}
        for f in missing:
            column = column_name(f.name, taken)
            taken.add(column.casefold())
            self._db.execute(
                f"ALTER TABLE {_quote(placed.table)} ADD COLUMN {_quote(column)} {_SQL_TYPES[f.type]}"
            )
            self._db.execute(
                "INSERT INTO columns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (schema.stream, placed.table, f.name, column, *_describe(f)),
            )
            folded = f.name.casefold()
            placed.columns[folded], placed.types[folded], placed.units[folded] = column, f.type, f.unit

    def _insert_rows(self, placed: Placed, block: Block, batch: Incoming) -> None:
        insert = self._inserts.get((placed.table, block.schema))
        if insert is None:
            names = [_quote(placed.columns[f.name.casefold()]) for f in block.schema.fields]
            columns = ", ".join(["time", "quality", "quality_detail", "gateway", "epoch", "seq", *names])
            marks = ", ".join("?" * (6 + len(names)))
            insert = f"INSERT INTO {_quote(placed.table)} ({columns}) VALUES ({marks})"
            self._inserts[placed.table, block.schema] = insert
        levels, details = row_quality(block)
        same = map(itertools.repeat, (batch.gateway, batch.epoch, batch.seq))
        self._db.executemany(insert, zip(block.time.tolist(), levels, details, *same, *cells(block)))  # noqa: B905

    def _set_aside(self, batch: Incoming, reason: str, received_at: int) -> None:
        log.error(
            "a batch does not fit its stream's table and is kept whole gateway=%s stream=%s reason=%s",
            batch.gateway,
            batch.schema.stream,
            reason,
        )
        exported = Exported(
            batch.lane, batch.epoch, batch.seq, batch.tag, batch.data, batch.schema_body, batch.context_body
        )
        self._db.execute(
            "INSERT INTO unplaced VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                batch.gateway,
                batch.epoch,
                batch.seq,
                batch.schema.stream,
                reason,
                received_at,
                exported.pack(),
            ),
        )

    def _insert_batch(self, batch: Incoming, received_at: int) -> None:
        e, c = batch.envelope, batch.context
        self._db.execute(
            f"INSERT INTO batches VALUES ({', '.join('?' * 22)})",
            (
                batch.gateway,
                batch.epoch,
                batch.seq,
                batch.schema.stream,
                batch.lane,
                e.rows,
                e.readings,
                batch.wire_bytes,
                e.first_time,
                e.last_time,
                received_at,
                c.policy_hash,
                c.key_id,
                json.dumps(dict(e.hits), ensure_ascii=False),
                c.boot,
                e.stamp.wall_ns,
                e.stamp.monotonic_ns,
                e.stamp.state,
                batch.schema.stamped_by,
                batch.tag,
                e.schema_id,
                e.context_id,
            ),
        )

    def _note_boot(self, batch: Incoming) -> None:
        """Keep the best pair of monotonic and wall time of a boot: the latest one that was synced."""
        stamp = batch.envelope.stamp
        self._db.execute(
            "INSERT INTO boots VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET wall_time = excluded.wall_time,"
            " monotonic = excluded.monotonic, clock = excluded.clock"
            " WHERE excluded.clock = 'synced' OR boots.clock <> 'synced'",
            (batch.gateway, batch.context.boot, stamp.wall_ns, stamp.monotonic_ns, stamp.state),
        )

    # -- gaps -----------------------------------------------------------------------------------------------

    def _store_gap(self, gateway: str, gap: Gap, received_at: int) -> None:
        """Record what of a gap is really missing.

        An agent that was killed after sending may evict what is stored here: it never saw the answer. What is
        stored is no hole. A gap without rows tells of numbers alone (`regressed`) and is kept as it is.
        """
        marks = self._load_marks(gateway, gap.epoch)
        query = (
            "SELECT seq, rows, readings FROM batches WHERE gateway = ? AND epoch = ? AND seq BETWEEN ? AND ?"
            " ORDER BY seq"
        )
        bounds = (gateway, gap.epoch, gap.seq_from, gap.seq_to)
        stored = self._db.execute(query, bounds).fetchall() if gap.rows else []
        rows = max(0, gap.rows - sum(n for _, n, _ in stored))
        readings = max(0, gap.readings - sum(n for _, _, n in stored))
        for low, high in _holes(gap, [seq for seq, _, _ in stored]):
            counts = (gap.stream, rows, readings, gap.first_time, gap.last_time, gap.cause, received_at)
            self._db.execute(
                f"INSERT OR IGNORE INTO gaps VALUES ({', '.join('?' * 11)})",
                (gateway, gap.epoch, low, high, *counts),
            )
            rows = readings = 0  # of a gap in several parts the first stands for all
        if marks.fits(gap.seq_from, gap.seq_to):
            marks.add(gap.seq_from, gap.seq_to)

    def closed(self, gateway: str, gap: Gap) -> bool:
        """Return whether all numbers of a gap are marked, so that it may be confirmed."""
        marks = self._load_marks(gateway, gap.epoch)
        return marks.covers(gap.seq_from, gap.seq_to)

    # -- checkpoints ----------------------------------------------------------------------------------------

    def tags(self, gateway: str, epoch: int, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        """See Sink."""
        query = "SELECT seq, tag FROM batches WHERE gateway = ? AND epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq"
        yield from self._db.execute(query, (gateway, epoch, low, high))

    def checkpoint_digests(self, gateway: str, number: int) -> set[bytes]:
        """See Sink."""
        query = "SELECT digest FROM checkpoints WHERE gateway = ? AND number = ? AND length(body) > 0"
        return {row[0] for row in self._db.execute(query, (gateway, number))}

    def checkpoints_of(self, gateway: str) -> int:
        """See Sink."""
        query = "SELECT coalesce(max(number), 0) FROM checkpoints WHERE gateway = ? AND length(body) > 0"
        return int(self._db.execute(query, (gateway,)).fetchone()[0])

    def keep_checkpoint(self, kept: Kept, received_at: int) -> None:
        """See Sink."""
        values = (
            *(kept.gateway, kept.number, kept.digest, kept.previous, kept.boot, kept.batches),
            *(kept.body, kept.signature, kept.verdict.value, kept.detail, received_at),
        )
        try:
            self._db.execute(f"INSERT OR IGNORE INTO checkpoints VALUES ({', '.join('?' * 11)})", values)
        except sqlite3.Error as error:
            raise ForebayError(
                f"cannot store: {error.sqlite_errorname}", place=str(self.path), retryable=True
            ) from None


def _holes(gap: Gap, stored: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a gap that are not stored."""
    low = gap.seq_from
    for seq in stored:
        if low < seq:
            yield low, seq - 1
        low = seq + 1
    if low <= gap.seq_to:
        yield low, gap.seq_to


def _describe(f: Field) -> tuple[str, ...]:
    grade = "" if f.grade is None else str(f.grade)
    classes = ",".join(f.classes)
    return (f.given or f.name, str(f.type), f.unit, grade, classes, f.description, f.identifier, f.model)
