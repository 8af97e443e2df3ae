"""The SQLite sink: one file, one receiver."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forebay.blocks import Type
from forebay.errors import ForebayError
from forebay.receive.caps import Limits
from forebay.receive.database import Unstorable
from forebay.receive.sql import SqlSink
from forebay.receive.sql_tables import quote
from forebay.receive.sqlite_schema import open_database

# What no later try will take: longer than SQLite's limits, or of no type that it has.
_NEVER = (sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


def SqliteSink(path: Path, limits: Limits | None = None) -> SqlSink:
    """Return a sink that keeps everything in the file `path`. See sink.Sink. Raises ForebayError."""
    return SqlSink(SqliteDatabase(path), limits)


class SqliteDatabase:
    """See database.Database."""

    shared = False
    types: Mapping[Type, str] = {
        Type.F64: "REAL",
        Type.I64: "INTEGER",
        Type.BOOL: "INTEGER",
        Type.STR: "TEXT",
        Type.BYTES: "BLOB",
    }
    name_bytes: int | None = None

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._db = open_database(path)
        self._inserts: dict[tuple[str, ...], str] = {}
        self._version = 0

    def is_changed(self) -> bool:
        """See Database. The file is one receiver's; another, for when that one dies, may have stored into it."""
        before = self._version
        self._version = int(self.execute("PRAGMA data_version").fetchone()[0])
        return before != self._version

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """See Database."""
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._told(error) from None

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """See Database."""
        try:
            self._db.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self._told(error) from None

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """See Database."""
        key = (table, *columns)
        sql = self._inserts.get(key)
        if sql is None:
            marks = ", ".join("?" * len(columns))
            sql = f"INSERT INTO {quote(table)} ({', '.join(map(quote, columns))}) VALUES ({marks})"
            self._inserts[key] = sql
        self.executemany(sql, rows)

    def widen(self, table: str, column: str) -> bool:
        """See Database. SQLite's columns hold either."""
        return True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See Database."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """See Database."""
        self.execute("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO attempt")
            raise
        finally:
            if self._db.in_transaction:
                self._db.execute("RELEASE attempt")

    def lock(self, name: str) -> None:
        """See Database. A transaction has the whole file."""

    def close(self) -> None:
        """See Database."""
        self._db.close()

    def _told(self, error: sqlite3.Error) -> ForebayError:
        name = getattr(error, "sqlite_errorname", type(error).__name__)  # errors of the binding have no code
        if isinstance(error, _NEVER):
            return Unstorable(f"cannot be stored: {name}", place=self.place)
        return ForebayError(f"cannot store: {name}", place=self.place, retryable=True)
