"""The sink of a relay: what is acknowledged to a gateway waits here until the next tier has it.

Batches keep their origin, number and content. The ledger remembers numbers and tags for ever, rows and payloads only
as long as they wait: a relay is no store of record. The connections to the next tier belong to `forebay.relaying`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from forebay.errors import ForebayError
from forebay.receive.caps import Limits
from forebay.receive.checkpoints import Findings, Kept
from forebay.receive.sink import Incoming, Work
from forebay.receive.sql import SqlSink
from forebay.receive.sqlite import SqliteDatabase
from forebay.wire.envelope import content_tag
from forebay.wire.messages import Gap

log = logging.getLogger("forebay.receive")

_TAGS_KEPT = 1_000_000  # latest batches whose tags tell a repetition from a conflict, and prove checkpoints
_PRUNE_EVERY = 10_000

_TABLES = """
CREATE TABLE IF NOT EXISTS relay_batches (id INTEGER PRIMARY KEY AUTOINCREMENT, gateway TEXT NOT NULL,
    lane TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, stream TEXT NOT NULL,
    schema_id BLOB NOT NULL, context_id BLOB NOT NULL, tag BLOB NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS relay_next ON relay_batches (gateway, lane, id);
CREATE TABLE IF NOT EXISTS relay_gaps (id INTEGER PRIMARY KEY AUTOINCREMENT, gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL, seq_from INTEGER NOT NULL, seq_to INTEGER NOT NULL, stream TEXT NOT NULL,
    rows INTEGER NOT NULL, readings INTEGER NOT NULL, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
    cause TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 0, UNIQUE (gateway, epoch, seq_from));
CREATE TABLE IF NOT EXISTS relay_checkpoints (id INTEGER PRIMARY KEY AUTOINCREMENT, gateway TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE, body BLOB NOT NULL, signature BLOB NOT NULL, behind INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS relay_dead (gateway TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    reason TEXT NOT NULL, exported BLOB NOT NULL, UNIQUE (gateway, epoch, seq));
CREATE TABLE IF NOT EXISTS relay_opened (gateway TEXT PRIMARY KEY) WITHOUT ROWID
"""


class RelaySink(SqlSink):
    """See sink.Sink. `on_stored` is called with the names of gateways of which something is to be handed on.

    `max_bytes` bounds what the ledger holds: beyond it gateways are asked to keep their data.
    """

    transactional = False

    def __init__(
        self,
        ledger: Path,
        limits: Limits | None = None,
        *,
        max_bytes: int,
        on_stored: Callable[[set[str]], None],
        on_close: Callable[[], None],
    ) -> None:
        self.ledger = ledger
        self._since_pruned = 0
        self._max_bytes, self._on_stored, self._on_close = max_bytes, on_stored, on_close
        database = SqliteDatabase(ledger)
        try:
            for statement in _TABLES.split(";"):
                database.execute(statement)
            super().__init__(database, limits)
        except BaseException:
            database.close()
            raise

    def origins(self) -> set[str]:
        """Return the gateways of which something waits."""
        tables = ("relay_batches", "relay_gaps WHERE NOT told", "relay_checkpoints")
        query = " UNION ".join(f"SELECT gateway FROM {table}" for table in tables)
        return {row[0] for row in self._db.execute(query)}

    def store(self, work: Work) -> None:
        """See Sink. Nothing more is taken while the ledger is full."""
        # Counted in pages, at once; those that became free will be used again.
        pages, free, size = (self._pragma(n) for n in ("page_count", "freelist_count", "page_size"))
        if (pages - free) * size > self._max_bytes:
            raise ForebayError(
                "more than `max_bytes` waits for the next tier", place=self._db.place, retryable=True
            )
        super().store(work)
        self._since_pruned += len(work.batches)
        self._on_stored({b.gateway for b in work.batches} | {gateway for gateway, _ in work.gaps})

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def turn(self) -> None:
        """See Sink: forget old tags now and then. Numbers are remembered for ever, in the marks."""
        if self._since_pruned < _PRUNE_EVERY:
            return
        self._since_pruned = 0
        newest = "SELECT coalesce(max(rowid), 0) FROM batches"
        try:
            self._db.execute(f"DELETE FROM batches WHERE rowid <= ({newest}) - ?", (_TAGS_KEPT,))
        except ForebayError as error:
            log.warning("old tags cannot be deleted now: %s", error)

    def close(self) -> None:
        """See Sink."""
        self._on_close()
        super().close()

    def _store_batch(self, batch: Incoming, received_at: int) -> None:
        """Keep a batch as it is. Whether its types and units fit is the next tier's to say."""
        self._keep_bodies(batch)
        tag = content_tag(batch.data)
        if tag != batch.tag:  # it was locked for this relay: the next tier gets it open
            self._db.execute("INSERT INTO relay_opened VALUES (?) ON CONFLICT DO NOTHING", (batch.gateway,))
        self._db.execute(
            "INSERT INTO relay_batches (gateway, lane, epoch, seq, stream, schema_id, context_id, tag, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(batch.gateway, batch.lane, batch.epoch, batch.seq, batch.schema.stream),
                *(batch.envelope.schema_id, batch.envelope.context_id, tag, batch.data),
            ),
        )
        self._note(batch, received_at)

    def _store_gap(self, gateway: str, gap: Gap, received_at: int) -> None:
        """Hand on what is really missing: what is stored here will arrive, whatever its gateway believes."""
        super()._store_gap(gateway, gap, received_at)
        names = "gateway, epoch, seq_from, seq_to, stream, rows, readings, first_time, last_time, cause"
        self._db.execute(
            f"INSERT INTO relay_gaps ({names}) SELECT {names} FROM gaps"
            " WHERE gateway = ? AND epoch = ? AND seq_from BETWEEN ? AND ? ON CONFLICT DO NOTHING",
            (gateway, gap.epoch, gap.seq_from, gap.seq_to),
        )

    def keep_checkpoint(self, kept: Kept, received_at: int) -> None:
        """See Sink. One that is good is handed on behind the batches it speaks of.

        Not of a gateway whose batches were locked for this relay: it signed the locked ones.
        """
        super().keep_checkpoint(kept, received_at)
        opened = self._db.execute("SELECT 1 FROM relay_opened WHERE gateway = ?", (kept.gateway,)).fetchone()
        if kept.verdict in (Findings.OK, Findings.RESTARTED) and not opened:
            self._db.execute(
                "INSERT INTO relay_checkpoints (gateway, digest, body, signature, behind)"
                " SELECT ?, ?, ?, ?, coalesce(max(id), 0) FROM relay_batches WHERE gateway = ?"
                " ON CONFLICT DO NOTHING",
                (kept.gateway, kept.digest, kept.body, kept.signature, kept.gateway),
            )
            self._on_stored({kept.gateway})
