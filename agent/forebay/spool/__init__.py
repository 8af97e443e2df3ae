"""The durable buffer: SQLite, one blob a batch, one writer, group commit."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forebay.errors import SpoolError
from forebay.spool.claims import Claims
from forebay.spool.reader import Reader
from forebay.spool.store import Store
from forebay.spool.writer import Writer

__all__ = ["Claims", "Reader", "Spool", "Writer", "segment_path"]

log = logging.getLogger("forebay.spool")


def segment_path(folder: Path) -> Path:
    """Return the segment in use: the highest number there is."""
    return max(folder.glob("segment-*.db"), default=folder / "segment-000001.db")


@dataclass(slots=True)
class Spool:
    """An open spool: writer, claims and the lock that keeps a second agent out."""

    folder: Path
    store: Store
    writer: Writer
    claims: Claims
    lock: int

    @classmethod
    def open(
        cls, folder: Path, *, sync: str, max_bytes: int, on_full: str, on_stored: Callable[[], None]
    ) -> Spool:
        """Open or create the spool in `folder`.

        Raises
        ------
        SpoolError
            Another agent uses it, or the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = _lock(folder)
        except OSError as error:
            raise SpoolError(
                f"cannot use the spool folder: {error.strerror}",
                place=str(folder),
                hint="check its owner and mode",
            ) from None
        claims = Claims()
        path = segment_path(folder)
        try:
            store = _open_or_set_aside(path, sync=sync, max_bytes=max_bytes, on_full=on_full, claims=claims)
        except BaseException:
            os.close(lock)
            raise
        return cls(folder, store, Writer(store, on_stored=on_stored), claims, lock)

    def reader(self) -> Reader:
        """Return a reader with a connection of its own."""
        return Reader(self.store.path)

    def close(self, timeout: float = 10.0) -> bool:
        """Write what is queued and close. Return whether all of it is durable."""
        complete = self.writer.close(timeout)
        os.close(self.lock)
        return complete


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolError(
            "another agent uses this spool",
            place=str(folder),
            hint="give each agent a `spool.dir` of its own",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _open_or_set_aside(path: Path, *, sync: str, max_bytes: int, on_full: str, claims: Claims) -> Store:
    """Open the segment; one that SQLite cannot read is kept aside and a fresh one begins at once."""
    try:
        return Store(path, sync=sync, max_bytes=max_bytes, on_full=on_full, claims=claims)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorname not in _DAMAGE:
            raise SpoolError(f"cannot open the spool: {error.sqlite_errorname}", place=str(path)) from None
        fresh = path.with_name(f"segment-{int(path.stem.split('-')[1]) + 1:06d}.db")
        log.error(
            "spool segment is damaged and kept aside; a fresh one accepts at once damaged=%s fresh=%s",
            path,
            fresh,
        )
        return Store(fresh, sync=sync, max_bytes=max_bytes, on_full=on_full, claims=claims)


_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")
