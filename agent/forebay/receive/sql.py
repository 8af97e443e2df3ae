"""The SQL sinks: rows, marks and `batches` in one transaction, so a batch is stored once after any outage.

One class for all databases (`database.Database`). Where other receivers may write to the same one, marks are
locked for the length of a transaction and nothing about them is kept between two.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from forebay.blocks import Block, Field, Schema, Type
from forebay.receive.caps import Limits
from forebay.receive.checkpoints import Kept
from forebay.receive.database import Database, Unstorable
from forebay.receive.marks import Marks, holes
from forebay.receive.positions import Place
from forebay.receive.rows import sql_rows
from forebay.receive.sink import Incoming, Verdict, Work
from forebay.receive.sql_positions import Positions
from forebay.receive.sql_tables import corrected_view
from forebay.receive.sql_tables import quote as _quote
from forebay.receive.tables import SYSTEM_COLUMNS, Placed, column_name, described, table_name
from forebay.wire.messages import Gap

log = logging.getLogger("forebay.receive")


class SqlSink:
    """See sink.Sink for the contract."""

    transactional = True

    def __init__(self, database: Database, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._db = database
        (self.store_id,) = self._db.execute("SELECT value FROM store WHERE name = 'store_id'").fetchone()
        self._marks: dict[tuple[str, int], Marks] = {}
        self._placed: dict[str, Placed] = {}
        self._streams: dict[str, set[str]] = {}
        self._bodies: set[bytes] = set()
        self._positions = Positions(database)

    def turn(self) -> None:
        """See Sink. Nothing is ever due."""

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def marks(self, gateway: str, epochs: Sequence[int]) -> dict[int, Marks]:
        """See Sink."""
        self._renew()
        return {epoch: self._load_marks(gateway, epoch) for epoch in epochs}

    def epochs(self, gateway: str) -> set[int]:
        """See Sink."""
        query = "SELECT epoch FROM marks WHERE gateway = ? AND (mark > 0 OR above <> '')"
        return {row[0] for row in self._db.execute(query, (gateway,))}

    def positions(self, gateway: str) -> dict[str, Place]:
        """See Sink."""
        return self._positions.of(gateway)

    def body(self, body_id: bytes) -> bytes | None:
        """See Sink."""
        row = self._db.execute("SELECT body FROM bodies WHERE id = ?", (body_id,)).fetchone()
        return None if row is None else row[0]

    def store(self, work: Work) -> None:
        """See Sink. What the database can never hold is set aside alone; the rest of the work is stored."""
        try:
            try:
                self._store(work, self._store_batch)
            except Unstorable:
                self._forget()
                self._store(work, self._store_apart)
        except BaseException:
            # What the caches hold may be of the transaction that did not take place.
            self._forget()
            raise

    def _forget(self) -> None:
        self._marks.clear()
        self._placed.clear()
        self._streams.clear()
        self._bodies.clear()
        self._positions.forget()

    def _renew(self) -> None:
        """Forget what another receiver may have changed. Columns, bodies and streams are only ever added."""
        if self._db.is_changed():
            self._forget()
        elif self._db.shared:
            self._marks.clear()
            self._positions.forget()

    def _store(self, work: Work, keep: Callable[[Incoming, int], None]) -> None:
        with self._db.transaction():
            self._renew()
            for gateway in sorted({b.gateway for b in work.batches} | {g for g, _ in work.gaps}):
                self._db.lock(f"gateway {gateway}")  # in one order, so that no two receivers wait in a ring
            touched = self._store_batches(work, keep)
            for gateway, gap in work.gaps:
                self._store_gap(gateway, gap, work.received_at)
                touched.add((gateway, gap.epoch))
            self._db.executemany(
                "INSERT INTO marks VALUES (?, ?, ?, ?) ON CONFLICT (gateway, epoch)"
                " DO UPDATE SET mark = excluded.mark, above = excluded.above",
                [(*key, self._marks[key].mark, self._marks[key].dump()) for key in sorted(touched)],
            )
            self._positions.write()

    def _store_batches(self, work: Work, keep: Callable[[Incoming, int], None]) -> set[tuple[str, int]]:
        touched: set[tuple[str, int]] = set()
        for batch in work.batches:
            marks = self._load_marks(batch.gateway, batch.epoch)
            batch.verdict = self._judge(batch, marks)
            if batch.verdict is Verdict.STORED:
                keep(batch, work.received_at)
            if batch.verdict is Verdict.STORED:  # `keep` may have refused it
                marks.add(batch.seq)
                touched.add((batch.gateway, batch.epoch))
        return touched

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
        self._keep_bodies(batch)
        placed = self._place(batch.schema)
        misfit = self._make_room(placed, batch)
        if batch.block is None or misfit:
            self._set_aside(batch, misfit or batch.reason, received_at)
        else:
            self._insert_rows(placed, batch.block, batch)
        self._note(batch, received_at)

    def _keep_bodies(self, batch: Incoming) -> None:
        if batch.envelope.schema_id not in self._bodies:  # `columns` has a field's first model, this each one
            made = [(f.name, f.model) for f in batch.schema.fields if f.model]
            sql = "INSERT INTO models VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
            whose = batch.envelope.schema_id, batch.schema.stream
            self._db.executemany(sql, [(*whose, *pair) for pair in made])
        for key, body in (
            (batch.envelope.schema_id, batch.schema_body),
            (batch.envelope.context_id, batch.context_body),
        ):
            if key not in self._bodies:
                self._db.execute("INSERT INTO bodies VALUES (?, ?) ON CONFLICT DO NOTHING", (key, body))
                self._bodies.add(key)

    def _store_apart(self, batch: Incoming, received_at: int) -> None:
        """Store a batch so that its failure is its own: whole in `unplaced` if it must be, refused if not even that."""
        try:
            with self._db.attempt():
                self._store_batch(batch, received_at)
            return
        except Unstorable as error:
            self._placed.clear()
            self._streams.clear()
            self._bodies.clear()
            batch.block, batch.reason = None, error.message
        try:
            with self._db.attempt():
                self._store_batch(batch, received_at)
        except Unstorable as error:
            self._bodies.clear()
            batch.verdict, batch.reason = Verdict.REFUSED, error.message

    def _make_room(self, placed: Placed, batch: Incoming) -> str:
        """Bring a stream's table to what a batch needs; return why that cannot be, empty if it could."""
        misfit = placed.misfit(batch.schema)
        if misfit or batch.block is None or not self._changes(placed, batch):
            return misfit
        if self._db.shared:
            self._db.lock(f"stream {batch.schema.stream}")
            self._placed.pop(batch.schema.stream)
            fresh = self._place(batch.schema)
            placed.columns, placed.types, placed.units = fresh.columns, fresh.types, fresh.units
            self._placed[batch.schema.stream] = placed
        misfit = placed.misfit(batch.schema) or self._over_limit(batch, placed)
        if not misfit:
            self._note_stream(batch, len(placed.missing(batch.schema)))
            misfit = self._widen(placed, batch.schema)
        return misfit

    def _changes(self, placed: Placed, batch: Incoming) -> bool:
        """Return whether a batch brings something new: a stream of its gateway's, columns, a wider type."""
        known = batch.schema.stream in self._streams.get(batch.gateway, ())
        return not known or bool(placed.missing(batch.schema)) or bool(placed.wider(batch.schema))

    def _place(self, schema: Schema) -> Placed:
        placed = self._placed.get(schema.stream)
        if placed is None:
            placed = Placed(self._fitting(table_name(schema.stream), "_corrected"))
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
                " ON CONFLICT (gateway, stream) DO UPDATE SET columns = gateway_streams.columns + excluded.columns",
                (batch.gateway, batch.schema.stream, new_columns),
            )
            known.add(batch.schema.stream)

    def _fitting(self, name: str, suffix: str = "") -> str:
        """Return a name that the database can hold, `suffix` behind it; one that is cut ends in its hash."""
        most = self._db.name_bytes
        raw = name.encode()
        if most is None or len(raw) + len(suffix) <= most:
            return name
        mark = "_" + hashlib.blake2b(raw, digest_size=4).hexdigest()
        return raw[: most - len(suffix) - len(mark)].decode(errors="ignore") + mark

    def _widen(self, placed: Placed, schema: Schema) -> str:
        """Create the table, add the columns and widen those that a schema asks for; return why one cannot be."""
        wider, missing = placed.wider(schema), placed.missing(schema)
        if not wider and not missing:
            return ""
        with self._altering(placed):
            for f in wider:
                if not self._widen_column(placed, schema.stream, f):
                    return f"type of {f.name}: the table has integers beyond 2^53"
            self._note_columns(placed, schema.stream, missing)
        return ""

    @contextmanager
    def _altering(self, placed: Placed) -> Iterator[None]:
        """Have a table that may be altered inside. Its view names columns as they were, so it is made anew."""
        view = f"{placed.table}_corrected"
        if placed.columns:
            self._db.execute(f"DROP VIEW IF EXISTS {_quote(view)}")
        else:
            text, number = self._db.types[Type.STR], self._db.types[Type.I64]
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS {_quote(placed.table)} (time {number} NOT NULL,"
                f" quality {text} NOT NULL, quality_detail {text}, gateway {text} NOT NULL,"
                f" epoch {number} NOT NULL, seq {number} NOT NULL)"
            )
        yield
        self._db.execute(corrected_view(placed.table, view))

    def _add_column(self, table: str, column: str, type_: Type) -> None:
        self._db.execute(f"ALTER TABLE {_quote(table)} ADD COLUMN {_quote(column)} {self._db.types[type_]}")

    def _widen_column(self, placed: Placed, stream: str, f: Field) -> bool:
        folded = f.name.casefold()
        if not self._db.widen(placed.table, placed.columns[folded]):
            return False
        query = 'UPDATE columns SET type = ? WHERE stream = ? AND "column" = ?'
        self._db.execute(query, (str(Type.F64), stream, placed.columns[folded]))
        placed.types[folded] = Type.F64
        return True

    def _note_columns(self, placed: Placed, stream: str, missing: Sequence[Field]) -> None:
        taken = {c.casefold() for c in placed.columns.values()}
        for f in missing:
            column = column_name(self._fitting(f.name, "_1000"), taken)
            taken.add(column.casefold())
            self._add_column(placed.table, column, f.type)
            self._db.execute(
                f"INSERT INTO columns VALUES ({', '.join('?' * 12)})",
                (stream, placed.table, f.name, column, *described(f)),
            )
            folded = f.name.casefold()
            placed.columns[folded], placed.types[folded], placed.units[folded] = column, f.type, f.unit

    def _insert_rows(self, placed: Placed, block: Block, batch: Incoming) -> None:
        names = [placed.columns[f.name.casefold()] for f in block.schema.fields]
        rows = sql_rows(block, (batch.gateway, batch.epoch, batch.seq))
        self._db.insert(placed.table, (*SYSTEM_COLUMNS, *names), rows)

    def _set_aside(self, batch: Incoming, reason: str, received_at: int) -> None:
        log.error(
            "a batch does not fit its stream's table and is kept whole gateway=%s stream=%s reason=%s",
            batch.gateway,
            batch.schema.stream,
            reason,
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
                batch.exported(),
            ),
        )

    def _note(self, batch: Incoming, received_at: int) -> None:
        """Keep what is known of a batch beside its rows."""
        self._insert_batch(batch, received_at)
        self._note_boot(batch)
        self._positions.note(batch)

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
            "INSERT INTO boots (gateway, boot, wall_time, monotonic, clock, met) SELECT ?, ?, ?, ?, ?,"
            " coalesce((SELECT max(met) FROM boots WHERE gateway = ?), 0) + 1 WHERE true"
            " ON CONFLICT (gateway, boot) DO UPDATE SET wall_time = excluded.wall_time,"
            " monotonic = excluded.monotonic, clock = excluded.clock"
            " WHERE excluded.clock = 'synced' OR boots.clock <> 'synced'",
            (
                *(batch.gateway, batch.context.boot, stamp.wall_ns, stamp.monotonic_ns, stamp.state),
                batch.gateway,
            ),
        )

    # -- gaps -----------------------------------------------------------------------------------------------

    def _store_gap(self, gateway: str, gap: Gap, received_at: int) -> None:
        """Record what of a gap is really missing.

        An agent that was killed after sending may evict what is stored here: it never saw the answer. What is
        stored is no hole. A gap without rows and readings tells of numbers alone (`regressed`) and is kept as it is.
        """
        marks = self._load_marks(gateway, gap.epoch)
        query = (
            "SELECT seq, rows, readings FROM batches WHERE gateway = ? AND epoch = ? AND seq BETWEEN ? AND ?"
            " ORDER BY seq"
        )
        bounds = (gateway, gap.epoch, gap.seq_from, gap.seq_to)
        is_counted = gap.rows or gap.readings  # of damage the rows are not known, only the readings
        stored = self._db.execute(query, bounds).fetchall() if is_counted else []
        rows = max(0, gap.rows - sum(n for _, n, _ in stored))
        readings = max(0, gap.readings - sum(n for _, _, n in stored))
        for low, high in holes(gap, [seq for seq, _, _ in stored]):
            counts = (gap.stream, rows, readings, gap.first_time, gap.last_time, gap.cause, received_at)
            self._db.execute(
                f"INSERT INTO gaps VALUES ({', '.join('?' * 11)}) ON CONFLICT DO NOTHING",
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
        insert = f"INSERT INTO checkpoints VALUES ({', '.join('?' * 11)}) ON CONFLICT DO NOTHING"
        self._db.execute(insert, values)
