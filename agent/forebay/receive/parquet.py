"""The Parquet sink: batches wait in a ledger until they fill a file, or have waited long enough.

Each row stands in exactly one finished file. What a file will hold is committed to the ledger before the file is
written, under its final name; a crash anywhere leads to the same file again. Readers see whole files only.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from forebay.blocks import Block, Type
from forebay.clock import Clock
from forebay.errors import ForebayError
from forebay.receive.caps import Limits
from forebay.receive.outbox import OutboxSink, Waiting
from forebay.receive.rows import cells, row_quality
from forebay.receive.tables import SYSTEM_COLUMNS, column_name

log = logging.getLogger("forebay.receive")

_DAY_NS = 86_400 * 10**9
_PAUSE_NS = 10**9  # between two looks for what is due
_RETRY_NS = 30 * 10**9  # after a file could not be written
_UNSAFE = re.compile(r"[^\w.-]|^\.")
_NAME_BYTES = 200
_TYPES = {
    Type.F64: pa.float64(),
    Type.I64: pa.int64(),
    Type.BOOL: pa.bool_(),
    Type.STR: pa.string(),
    Type.BYTES: pa.binary(),
}


@dataclass(frozen=True, slots=True)
class Rolling:
    """When a file is written."""

    rows_per_file: int
    max_age_ns: int
    max_waiting: int


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    stream: str
    first_id: int
    last_id: int
    schema_id: bytes
    day: int
    rows: int


class ParquetSink(OutboxSink):
    """Files under `folder`/STREAM/date=DAY/; the ledger stands beside them as `ledger.db`."""

    def __init__(self, folder: Path, rolling: Rolling, clock: Clock, limits: Limits | None = None) -> None:
        self._folder, self._rolling, self._clock = folder, rolling, clock
        self._next_look = 0
        super().__init__(folder / "ledger.db", limits, max_waiting=rolling.max_waiting)
        self._since: dict[int, int] = {}  # first id of a group: monotonic time when it was first seen waiting

    def turn(self) -> None:
        """See Sink: write the files that are due."""
        now = self._clock.monotonic_ns()
        if now >= self._next_look:
            self._next_look = now + (_PAUSE_NS if self._roll(now) else _RETRY_NS)

    def close(self) -> None:
        """Write what waits, whatever its age, and close."""
        self._roll(None)
        super().close()

    def _roll(self, now: int | None) -> bool:
        """Write the groups that are full or old, all of them if `now` is None; return whether that went well.

        What was planned comes first: its batches are still among those that wait, and must not get a second plan.
        """
        for file in self._planned():
            if not self._try_write(file):
                return False
        for stream, schema_id, day, first, rows in self._groups():
            since = self._since.setdefault(first, now or 0)
            old = now is None or now - since >= self._rolling.max_age_ns
            if not old and rows < self._rolling.rows_per_file:
                continue
            self._since.pop(first, None)
            if not self._try_write(self._plan(stream, schema_id, day)):
                return False
        return True

    def _try_write(self, file: _File) -> bool:
        try:
            self._write(file)
        except (OSError, ForebayError, pa.ArrowException) as error:
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            log.error("a Parquet file cannot be written; its rows wait path=%s: %s", file.path, reason)
            return False
        return True

    def _groups(self) -> list[tuple[str, bytes, int, int, int]]:
        """Return what waits: stream, schema, day of the first row, first id, rows."""
        day = f"(first_time - ((first_time % {_DAY_NS}) + {_DAY_NS}) % {_DAY_NS}) / {_DAY_NS}"
        return self._db.execute(
            f"SELECT stream, schema_id, {day} AS day, min(id), sum(rows) FROM outbox GROUP BY 1, 2, 3"
        ).fetchall()

    def _members(self, stream: str, schema_id: bytes, day: int, last_id: int) -> list[Waiting]:
        found = self._db.execute(
            "SELECT id, gateway, epoch, seq, exported FROM outbox WHERE stream = ? AND schema_id = ?"
            " AND first_time >= ? AND first_time < ? AND id <= ? ORDER BY id",
            (stream, schema_id, day * _DAY_NS, (day + 1) * _DAY_NS, last_id),
        )
        return [Waiting(*row) for row in found]

    def _plan(self, stream: str, schema_id: bytes, day: int) -> _File:
        """Commit what the next file of a group holds: batches up to `rows_per_file`, at least one."""
        query = (
            "SELECT id, rows FROM outbox WHERE stream = ? AND schema_id = ? AND first_time >= ? AND first_time < ?"
            " ORDER BY id"
        )
        first = last = total = 0
        for number, rows in self._db.execute(
            query, (stream, schema_id, day * _DAY_NS, (day + 1) * _DAY_NS)
        ).fetchall():
            if first and total + rows > self._rolling.rows_per_file:
                break
            first, last, total = first or number, number, total + rows
        path = f"{_folder_name(stream)}/date={_date(day)}/{first:012d}-{last:012d}.parquet"
        file = _File(path, stream, first, last, schema_id, day, total)
        self._db.execute(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            (path, stream, first, last, schema_id, day, total),
        )
        return file

    def _planned(self) -> list[_File]:
        query = "SELECT path, stream, first_id, last_id, schema_id, day, rows FROM files WHERE NOT done"
        return [_File(*row) for row in self._db.execute(query)]

    def _write(self, file: _File) -> None:
        """Write a planned file durably, then take its batches out of the outbox."""
        waiting = self._members(file.stream, file.schema_id, file.day, file.last_id)
        if waiting:
            _write_durably(_table(waiting), self._folder / file.path, self._folder)
        with self._db.transaction():
            self._db.executemany("DELETE FROM outbox WHERE id = ?", [(w.id,) for w in waiting])
            self._db.execute("UPDATE files SET done = 1 WHERE path = ?", (file.path,))
        self._waiting_bytes -= sum(len(w.exported) for w in waiting)


def _table(waiting: Sequence[Waiting]) -> pa.Table:
    """Return the rows of batches of one schema."""
    return pa.concat_tables([_of_block(w, w.open()[2]) for w in waiting])


def _of_block(batch: Waiting, block: Block) -> pa.Table:
    levels, details = row_quality(block)
    rows = block.rows
    columns: dict[str, pa.Array] = {
        "time": pa.array(block.time, pa.int64()).cast(pa.timestamp("ns", tz="UTC")),
        "quality": pa.array(levels, pa.string()),
        "quality_detail": pa.array(details, pa.string()),
        "gateway": pa.array([batch.gateway] * rows, pa.string()),
        "epoch": pa.array([batch.epoch] * rows, pa.int64()),
        "seq": pa.array([batch.seq] * rows, pa.int64()),
    }
    assert tuple(columns) == SYSTEM_COLUMNS
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    taken: set[str] = set()
    for f, values in zip(block.schema.fields, cells(block), strict=True):
        name = column_name(f.name, taken)
        taken.add(name.casefold())
        columns[name] = pa.array(values, _TYPES[f.type])
        notes = {"unit": f.unit, "description": f.description, "grade": str(f.grade or "")}
        fields.append(pa.field(name, _TYPES[f.type], metadata={k: v for k, v in notes.items() if v}))
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _write_durably(table: pa.Table, path: Path, top: Path) -> None:
    """Write a file that is whole or not there, and that a power cut leaves, with the folders up to `top`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    pq.write_table(table, part, compression="zstd")
    _sync(part)
    part.replace(path)
    folder = path.parent
    while folder != top.parent:
        _sync(folder)
        folder = folder.parent


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _date(day: int) -> str:
    """Return a day since 1970 as ISO 8601; one that no calendar has stands under the first or last that it has."""
    first, last = -719_162, 2_932_896
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=min(max(day, first), last))).date().isoformat()


def _folder_name(stream: str) -> str:
    """Return a stream's folder: its name with everything that a path gives a meaning to percent-encoded."""
    name = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), stream)
    raw = name.encode()
    if len(raw) <= _NAME_BYTES:
        return name
    mark = "-" + hashlib.blake2b(stream.encode(), digest_size=4).hexdigest()
    return raw[: _NAME_BYTES - len(mark)].decode(errors="ignore") + mark
