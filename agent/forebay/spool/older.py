"""Access to segments that are no longer written. Which of their batches still wait says the newest one (`gone`)."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forebay.spool.control import BooksDamaged
from forebay.spool.rows import HEAD

_PAGE = 256
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ", "SQLITE_CORRUPT_VTAB")
# Our own statements name none that is not there: a flipped bit has renamed it.
_RENAMED = ("no such column", "no such table", "has no column named")


def is_damage(error: Exception) -> bool:
    """Return whether an error says that the file is broken, not that the disk is full or away."""
    if isinstance(error, BooksDamaged | UnicodeDecodeError):
        return True
    is_renamed = isinstance(error, sqlite3.Error) and any(words in str(error) for words in _RENAMED)
    return is_renamed or getattr(error, "sqlite_errorname", "") in _DAMAGE


def is_passing(error: Exception) -> bool:
    """Return whether an error is of this process, not of the file: no descriptor or no memory is left."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CANTOPEN", "SQLITE_NOMEM")) or getattr(error, "errno", 0) in _PASSING


class DamagedSegment(sqlite3.DatabaseError):
    """A segment that is no longer written cannot be read: it is to be salvaged."""

    def __init__(self, number: int) -> None:
        super().__init__(f"segment {number} is damaged")
        self.number = number


def older_path(folder: Path, number: int) -> Path:
    """Return the file of a segment."""
    return folder / f"segment-{number:06d}.db"


class Older:
    """Read-only connections to older segments, opened when needed. One thread only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, sqlite3.Connection] = {}

    def db(self, number: int) -> sqlite3.Connection:
        """Return the connection to a segment. Raises DamagedSegment, or sqlite3.Error if that will pass."""
        if number not in self._open:
            # immutable: no lock, no log, no -shm beside it; nobody writes it any more.
            uri = f"{older_path(self._folder, number).absolute().as_uri()}?mode=ro&immutable=1"
            try:
                db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
                db.execute("PRAGMA cell_size_check=ON")
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                raise self._told(number, error) from None
            self._open[number] = db
        return self._open[number]

    def query(self, number: int, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return rows of a query. Raises as `db` does."""
        try:
            return self.db(number).execute(sql, values).fetchall()
        except DamagedSegment:
            raise
        except (
            sqlite3.DatabaseError,
            UnicodeDecodeError,
        ) as error:  # the latter from texts, SQLite's own errors too
            raise self._told(number, error) from None

    def _told(self, number: int, error: Exception) -> Exception:
        """Return what an error means: damage, unless the file is there and only this process cannot open it now."""
        is_there = older_path(self._folder, number).exists()
        return error if is_there and is_passing(error) else DamagedSegment(number)

    def heads(self, number: int, low: int, high: int) -> Iterator[tuple[Any, ...]]:
        """Yield heads with the size of their data, ids within [low, high), oldest first, gone ones too."""
        while True:
            sql = f"SELECT {HEAD}, length(data) FROM batch WHERE id >= ? AND id < ? ORDER BY id LIMIT {_PAGE}"
            rows = self.query(number, sql, (low, high))
            yield from rows
            if len(rows) < _PAGE:
                return
            low = rows[-1][0] + 1

    def keep_only(self, numbers: set[int]) -> None:
        """Close connections to segments that are no longer there."""
        for number in set(self._open) - numbers:
            with contextlib.suppress(sqlite3.Error):
                self._open.pop(number).close()

    def let_go(self, number: int) -> None:
        """Close the connection to a segment."""
        self.keep_only(set(self._open) - {number})

    def close(self) -> None:
        """Close all."""
        self.keep_only(set())
