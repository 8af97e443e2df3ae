"""The PostgreSQL sink: rows by COPY, one transaction with the marks; any number of receivers on one database."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from forebay.blocks import Type
from forebay.errors import ConfigError, ForebayError
from forebay.receive.caps import Limits
from forebay.receive.database import Unstorable
from forebay.receive.sql import SqlSink
from forebay.receive.sql_tables import VERSION, quote, statements
from forebay.receive.tables import SYSTEM_TABLES

log = logging.getLogger("forebay.receive")

_NAMEDATALEN = 63  # bytes of an identifier that the server keeps; it cuts the rest without a word
_EXACT = 2**53  # integers up to here are the same in f64
# Classes of SQLSTATE (PostgreSQL manual, appendix A) that no later try changes: data exceptions, program limits
# exceeded. 22P05 (a character that the database's encoding lacks) is among the first.
_NEVER = ("22", "54")
_TOKENS = re.compile(r'"(?:[^"]|"")*"|\?|%')
_TYPES = {
    Type.F64: "DOUBLE PRECISION",
    Type.I64: "BIGINT",
    Type.BOOL: "BOOLEAN",
    Type.STR: "TEXT",
    Type.BYTES: "BYTEA",
}


@dataclass(frozen=True, slots=True)
class Connecting:
    """How the database is reached. `conninfo` is libpq's string or URL and may hold the password."""

    conninfo: str
    schema: str
    timeout_s: int = 5


def PostgresSink(how: Connecting, limits: Limits | None = None) -> SqlSink:
    """Return a sink that keeps everything in one schema of a database. See sink.Sink. Raises ForebayError."""
    return SqlSink(PostgresDatabase(how), limits)


def with_password(conninfo: str, password: str | None) -> str:
    """Return a connection string with a password put in. Raises ConfigError, which does not repeat the string."""
    try:
        return make_conninfo(conninfo, **({} if password is None else {"password": password}))
    except psycopg.Error:
        raise ConfigError("expected libpq's connection string or URL as `dsn`, found other text") from None


class PostgresDatabase:
    """See database.Database. A connection that broke is made anew at the next call; what it was doing failed."""

    shared = True
    types: Mapping[Type, str] = _TYPES
    name_bytes: int | None = _NAMEDATALEN

    def __init__(self, how: Connecting) -> None:
        self._how = how
        self.place = "postgres"
        self._inside = False  # between BEGIN and its end: a broken connection must not be replaced
        self._connection = self._connect()
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    # -- connection -----------------------------------------------------------------------------------------

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            made = psycopg.connect(
                self._how.conninfo,
                autocommit=True,
                connect_timeout=self._how.timeout_s,
                application_name="forebay-receiver",
            )
        except psycopg.Error as error:
            # Its text may repeat what was in the connection string.
            raise ForebayError(
                f"cannot connect to PostgreSQL ({type(error).__name__})",
                place=self.place,
                hint="is it running, and are host, database, user and password right?",
                retryable=True,
            ) from None
        info = made.info
        self.place = f"postgres {info.host}:{info.port}/{info.dbname}"
        try:
            made.execute(f"SET search_path TO {quote(self._how.schema)}")
            # A server or a role may be set to answer COMMIT before the disk has it: accepted would not be durable.
            if made.execute("SHOW synchronous_commit").fetchone() in (("off",), ("local",)):
                made.execute("SET synchronous_commit TO on")
        except psycopg.Error as error:
            made.close()
            raise self._told(error) from None
        return made

    def _live(self) -> psycopg.Connection[Any]:
        if self._connection.closed and not self._inside:
            self._connection = self._connect()
            log.info("connected to the database again place=%s", self.place)
        return self._connection

    def close(self) -> None:
        """See Database."""
        self._connection.close()

    # -- statements -----------------------------------------------------------------------------------------

    def execute(self, sql: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """See Database."""
        connection = self._live()
        try:
            return connection.execute(_translated(sql), [_without_nul(v) for v in values])
        except psycopg.Error as error:
            raise self._told(error) from None

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """See Database."""
        try:
            with self._live().cursor() as cursor:
                cursor.executemany(_translated(sql), rows)
        except psycopg.Error as error:
            raise self._told(error) from None

    def is_changed(self) -> bool:
        """See Database. It cannot tell: `shared` says what is read anew each time."""
        return False

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """See Database."""
        into = f"COPY {quote(table)} ({', '.join(map(quote, columns))}) FROM STDIN"
        try:
            with self._live().cursor() as cursor, cursor.copy(into.encode()) as copy:
                for row in rows:
                    copy.write_row(row)
        except psycopg.Error as error:
            raise self._told(error) from None

    def widen(self, table: str, column: str) -> bool:
        """See Database."""
        name = quote(column)
        beyond = f"SELECT 1 FROM {quote(table)} WHERE {name} > ? OR {name} < ? LIMIT 1"
        if self.execute(beyond, (_EXACT, -_EXACT)).fetchone() is not None:
            return False
        self.execute(f"ALTER TABLE {quote(table)} ALTER COLUMN {name} TYPE {_TYPES[Type.F64]}")
        return True

    # -- transactions ---------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See Database. Whether a COMMIT that broke took place, the marks tell at the next try."""
        self.execute("BEGIN")
        self._inside = True
        try:
            yield
            self.execute("COMMIT")
        finally:
            self._inside = False
            self._roll_back("ROLLBACK")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """See Database."""
        self.execute("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            self._roll_back("ROLLBACK TO SAVEPOINT attempt")
            raise
        finally:
            if self._open():
                self.execute("RELEASE SAVEPOINT attempt")

    def _open(self) -> bool:
        return self._connection.info.transaction_status in (
            pq.TransactionStatus.INTRANS,
            pq.TransactionStatus.INERROR,
        )

    def _roll_back(self, how: str) -> None:
        if not self._open():
            return
        try:
            self._connection.execute(how.encode())
        except psycopg.Error:
            self._connection.close()  # the server ends the transaction itself

    def lock(self, name: str) -> None:
        """See Database."""
        self.execute("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (f"forebay {name}",))

    # -- schema ---------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with self.transaction():
            self.lock("schema")
            found = "SELECT 1 FROM information_schema.schemata WHERE schema_name = ?"
            if (
                self.execute(found, (self._how.schema,)).fetchone() is None
            ):  # IF NOT EXISTS would ask for the right
                self.execute(f"CREATE SCHEMA {quote(self._how.schema)}")
            version = self._version()
            if version > VERSION:
                raise ForebayError(
                    f"expected a store of version {VERSION} or older, found {version}",
                    place=self.place,
                    hint="install the release that wrote it",
                )
            for statement in statements(version):
                self.execute(_dialect(statement))
            if version == 0:
                self.execute("INSERT INTO store VALUES ('store_id', ?)", (secrets.token_hex(8),))
                self.execute("INSERT INTO store VALUES ('version', ?)", (str(VERSION),))
            elif version < VERSION:
                self.execute("UPDATE store SET value = ? WHERE name = 'version'", (str(VERSION),))

    def _version(self) -> int:
        """Return the version of the store in the schema, 0 if there is none. Other tables may stand beside it."""
        names = ", ".join(f"'{name}'" for name in SYSTEM_TABLES)
        query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_name IN ({names})"
        found = {name for (name,) in self.execute(query, (self._how.schema,))}
        if "store" in found:
            row = self.execute("SELECT value FROM store WHERE name = 'version'").fetchone()
            if row is not None:
                return int(row[0])
        if found:
            raise ForebayError(
                f"expected a schema without tables of these names, found {len(found)} of something else",
                place=f"{self.place}, schema {self._how.schema}",
                hint="give the sink a schema of its own: `schema: forebay`",
            )
        return 0

    def _told(self, error: psycopg.Error) -> ForebayError:
        """Return the error to raise: its kind, never its text, which may quote what was to be stored."""
        kind = type(error).__name__
        state = error.sqlstate or ""
        if state.startswith(_NEVER) or isinstance(error, psycopg.DataError):
            return Unstorable(f"cannot be stored: {kind}", place=self.place)
        return ForebayError(f"cannot store: {kind}", place=self.place, retryable=True)


@lru_cache(maxsize=4096)
def _translated(sql: str) -> bytes:
    """Return a statement with `%s` for `?`, names in double quotes left alone but for their `%`."""
    found = {"?": "%s", "%": "%%"}
    return _TOKENS.sub(lambda t: found.get(t[0]) or t[0].replace("%", "%%"), sql).encode()


def _dialect(sql: str) -> str:
    """Return a statement of the system tables in PostgreSQL's words."""
    words = {"INTEGER": "BIGINT", "BLOB": "BYTEA", "WITHOUT ROWID": ""}
    return re.sub("|".join(words), lambda found: words[found[0]], sql)


def _without_nul(value: Any) -> Any:
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value
