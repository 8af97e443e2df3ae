"""What the SQL sink asks of a database, so that one sink serves SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from forebay.blocks import Type
from forebay.errors import ForebayError


class Unstorable(ForebayError):
    """The database is well and will never take this: a value or a table beyond what it can hold."""


class Rows(Protocol):
    """What a query found, read once."""

    def __iter__(self) -> Iterator[Any]:
        """Yield rows."""

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """Return all that are left."""


class Database(Protocol):
    """A connection. Statements have `?` for values. Every method raises ForebayError or Unstorable."""

    place: str  # what errors name: a path, or host and database without user and password
    shared: bool  # other receivers may write to it at the same time: nothing read is true for long
    types: Mapping[Type, str]
    name_bytes: int | None  # longest name of a table or column, None where there is no limit

    def is_changed(self) -> bool:
        """Return whether somebody else has written since this was last asked, as far as the database can tell."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Run one statement."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row."""

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Append rows to a table, as fast as the database can."""

    def widen(self, table: str, column: str) -> bool:
        """Make an integer column hold f64; False if numbers in it would change."""

    def transaction(self) -> AbstractContextManager[None]:
        """Commit what is done inside, durably, or nothing of it."""

    def attempt(self) -> AbstractContextManager[None]:
        """Undo what is done inside if it fails; the transaction goes on."""

    def lock(self, name: str) -> None:
        """Keep other receivers out of what `name` stands for until the transaction ends."""

    def close(self) -> None:
        """Close the connection."""
