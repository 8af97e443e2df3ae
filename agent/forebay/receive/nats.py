"""The NATS sink: each batch is one JetStream message, acknowledged by JetStream before the agent is.

Marks, `batches` and `gaps` are in a ledger of this receiver's. A crash between JetStream's acknowledgement and the
ledger's commit publishes a batch again under the same `Nats-Msg-Id`, which JetStream drops within the stream's
duplicate window; after a longer outage than that a consumer sees it twice and can tell by the same id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from forebay.blocks import Block, Type
from forebay.receive.caps import Limits
from forebay.receive.database import Unstorable
from forebay.receive.nats_publisher import Message, NatsOptions, Publisher
from forebay.receive.sink import Incoming, Work
from forebay.receive.sql import SqlSink
from forebay.receive.sqlite import SqliteDatabase
from forebay.receive.tables import Placed
from forebay.rows import rows

# What has a meaning in a subject (NATS documentation, "Subject-based messaging") and whatever is not printed.
_NO_TOKEN = re.compile(r"[\s.*>\x00-\x1f\x7f]")
_HEADER_ROOM = 1_024  # bytes; names and numbers of a batch are far shorter


class NatsSink(SqlSink):
    """See sink.Sink. A message holds the `batch` as `forebay decode` reads it, or its rows as `json` lines."""

    transactional = False

    def __init__(
        self,
        ledger: Path,
        options: NatsOptions,
        form: Literal["batch", "json"],
        limits: Limits | None = None,
    ) -> None:
        self._subject, self._form = options.subject, form
        self._ready: list[Message] = []
        database = SqliteDatabase(ledger)
        try:
            super().__init__(database, limits)
            self._publisher = Publisher(options)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """See Sink."""
        self._publisher.close()
        super().close()

    def _store_batches(self, work: Work, keep: Callable[[Incoming, int], None]) -> set[tuple[str, int]]:
        """Publish inside the transaction: what JetStream does not take, the ledger forgets."""
        self._ready = []
        touched = super()._store_batches(work, keep)
        if self._ready:
            self._publisher.publish(self._ready)
        return touched

    @contextmanager
    def _altering(self, placed: Placed) -> Iterator[None]:
        yield  # there is no table: types and units are compared all the same

    def _add_column(self, table: str, column: str, type_: Type) -> None:
        pass  # noted in `columns`

    def _insert_rows(self, placed: Placed, block: Block, batch: Incoming) -> None:
        body = batch.exported() if self._form == "batch" else _json_lines(block)
        if len(body) + _HEADER_ROOM > self._publisher.max_bytes:
            raise Unstorable(
                f"the message of {len(body)} bytes is longer than the server's `max_payload`",
                place=self._publisher.place,
            )
        subject = f"{self._subject}.{_token(batch.gateway)}.{_token(batch.schema.stream)}"
        self._ready.append(Message(subject, body, _headers(batch, self._form)))


def _headers(batch: Incoming, form: str) -> dict[str, str]:
    e = batch.envelope
    return {
        "Nats-Msg-Id": f"{_token(batch.gateway)}/{batch.epoch}/{batch.seq}",
        "Content-Type": "application/vnd.forebay.batch" if form == "batch" else "application/x-ndjson",
        "Forebay-Epoch": str(batch.epoch),
        "Forebay-Seq": str(batch.seq),
        "Forebay-Lane": batch.lane,
        "Forebay-Rows": str(e.rows),
        "Forebay-First-Time": str(e.first_time),
        "Forebay-Last-Time": str(e.last_time),
        "Forebay-Policy": batch.context.policy_hash,
    }


def _json_lines(block: Block) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows(block))


def _token(name: str) -> str:
    """Return a name as one token of a subject."""
    return _NO_TOKEN.sub("_", name) or "_"
