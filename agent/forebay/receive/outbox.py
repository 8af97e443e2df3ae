"""A sink that owes its batches to something without transactions: they wait whole in a ledger of its own.

Marks, `batches`, `gaps` and the waiting batches are one SQLite transaction, so what is acknowledged is durable
here and is handed on from here until the other side has it. What it then has exactly once, each such sink says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forebay.blocks import MAX_WAVEFORM_ROWS, Block, Type
from forebay.errors import ForebayError
from forebay.receive.caps import Limits
from forebay.receive.checks import MAX_DECODED_BYTES
from forebay.receive.sink import Incoming, Work
from forebay.receive.sql import SqlSink
from forebay.receive.sqlite import SqliteDatabase
from forebay.receive.tables import Placed
from forebay.wire.columns import decode_columns
from forebay.wire.envelope import Envelope, Exported
from forebay.wire.schema import parse_schema

_TABLES = """
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL,
    schema_id BLOB NOT NULL, first_time INTEGER NOT NULL, rows INTEGER NOT NULL, received_at INTEGER NOT NULL,
    gateway TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, exported BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stream TEXT NOT NULL, first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL, schema_id BLOB NOT NULL, day INTEGER NOT NULL, rows INTEGER NOT NULL,
    done INTEGER NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch in the outbox. `id` rises in the order of arrival."""

    id: int
    gateway: str
    epoch: int
    seq: int
    exported: bytes

    def open(self) -> tuple[Exported, Envelope, Block]:
        """Return what it holds. Raises WireError if the ledger is damaged."""
        exported = Exported.unpack(self.exported)
        envelope, schema = Envelope.unpack(exported.data), parse_schema(exported.schema)
        limits = {"max_rows": MAX_WAVEFORM_ROWS, "max_bytes": MAX_DECODED_BYTES}
        return exported, envelope, decode_columns(envelope.payload, schema, **limits)


class OutboxSink(SqlSink):
    """See sink.Sink. One ledger belongs to one receiver."""

    transactional = False

    def __init__(self, ledger: Path, limits: Limits | None = None, *, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._received_at = self._adding = 0
        database = SqliteDatabase(ledger)
        try:
            for statement in _TABLES.split(";"):
                database.execute(statement)
            super().__init__(database, limits)
            total = "SELECT coalesce(sum(length(exported)), 0) FROM outbox"
            self._waiting_bytes: int = self._db.execute(total).fetchone()[0]
        except BaseException:
            database.close()
            raise

    def store(self, work: Work) -> None:
        """See Sink. While more than `max_waiting` bytes wait, nothing more is taken."""
        if self._waiting_bytes > self._max_waiting:
            raise ForebayError(
                f"{self._waiting_bytes} bytes wait to be handed on, more than `max_waiting`",
                place=self._db.place,
                retryable=True,
            )
        self._received_at = work.received_at
        super().store(work)

    def _store(self, work: Work, keep: Callable[[Incoming, int], None]) -> None:
        self._adding = 0
        super()._store(work, keep)
        self._waiting_bytes += self._adding

    @contextmanager
    def _altering(self, placed: Placed) -> Iterator[None]:
        yield  # there is no table: types and units are compared all the same

    def _add_column(self, table: str, column: str, type_: Type) -> None:
        pass  # noted in `columns`

    def _insert_rows(self, placed: Placed, block: Block, batch: Incoming) -> None:
        e, exported = batch.envelope, batch.exported()
        self._db.execute(
            "INSERT INTO outbox (stream, schema_id, first_time, rows, received_at, gateway, epoch, seq, exported)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(batch.schema.stream, e.schema_id, e.first_time, e.rows, self._received_at),
                *(batch.gateway, batch.epoch, batch.seq, exported),
            ),
        )
        self._adding += len(exported)
