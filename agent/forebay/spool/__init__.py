"""The durable buffer: SQLite segments, one blob a batch, one writer, group commit."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forebay.clock import boot_id
from forebay.errors import SpoolError
from forebay.spool.adopt import ReadRange
from forebay.spool.claims import Claims
from forebay.spool.limits import Limits, StreamLimits
from forebay.spool.reader import Opener, Reader
from forebay.spool.recovery import Recovery, segment_path
from forebay.spool.store import Store
from forebay.spool.writer import Writer

__all__ = [
    "Claims",
    "Limits",
    "Opener",
    "Reader",
    "Spool",
    "StreamLimits",
    "Writer",
    "segment_path",
]


PLACE = "place"  # a counter: a digest of where this spool was last open; and the empty file that tells places apart


@dataclass(slots=True)
class Spool:
    """An open spool: writer, claims and the lock that keeps a second agent out.

    `is_moved`: it may be an older copy of itself: it was last open in another place or boot, or its end is torn.
    """

    folder: Path
    store: Store
    writer: Writer
    claims: Claims
    lock: int
    recovery: Recovery
    is_moved: bool
    opener: Opener | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        sync: str,
        max_bytes: int = 0,
        on_full: str = "block",
        on_stored: Callable[[], None],
        limits: Limits | None = None,
        opener: Opener | None = None,
        read_range: ReadRange | None = None,
    ) -> Spool:
        """Open or create the spool in `folder`, whatever state its files are in.

        Parameters
        ----------
        sync : `full` or `normal`
        limits : quotas and policies; or `max_bytes` and `on_full` alone
        on_stored : called after each transaction that stored batches
        opener : opens what was sealed at rest, for readers
        read_range : from a batch's bytes and its context body the owner and the position behind it, None if the
            batch does not say; for a spool whose positions are lost

        Raises
        ------
        SpoolError
            Another agent uses it, the folder cannot be written, or a newer release wrote it.
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
        if opener is not None and read_range is not None:
            read_range = _opened_first(opener, read_range)
        recovery = Recovery(folder, sync, claims, limits or Limits(max_bytes, on_full), read_range)
        try:
            store = recovery.open()
            store.close_audit()
            is_moved = _note_place(store, folder) or recovery.ends_torn
        except BaseException:
            os.close(lock)
            raise
        writer = Writer(store, on_stored=on_stored, recovery=recovery)
        return cls(folder, store, writer, claims, lock, recovery, is_moved, opener)

    def reader(self) -> Reader:
        """Return a reader with connections of its own that follows the writer from segment to segment."""
        return Reader(
            self.store.path,
            current=lambda: self.store.path,
            suspect=self.writer.suspect,
            opener=self.opener,
        )

    def close(self, timeout: float = 10.0) -> bool:
        """Write what is queued and close. Return whether all of it is durable."""
        complete = self.writer.close(timeout)
        self.recovery.close()
        with contextlib.suppress(OSError):
            os.close(self.lock)
        return complete


def _note_place(store: Store, folder: Path) -> bool:
    """Write down where and in which boot this spool is open. Return whether it was another one before.

    A card that is exchanged needs another boot; in a folder that is restored, a file that is never touched again has
    another time of change, which no copy can keep.
    """
    try:
        if not (folder / PLACE).exists():
            (folder / PLACE).touch(0o600)
        found = (folder / PLACE).stat()
    except OSError:  # a full disk; it is asked again at the next start
        return False
    name = f"{boot_id()} {found.st_dev} {found.st_ino} {found.st_ctime_ns}".encode()
    place = int.from_bytes(hashlib.blake2b(name, digest_size=7).digest(), "big")
    before = store.counters.get(PLACE, 0)
    if before != place:
        with contextlib.suppress(sqlite3.Error), store.transaction() as txn:  # a full disk: it is asked again
            txn.counters[PLACE] = place
    return before not in (0, place)


def _opened_first(opener: Opener, read_range: ReadRange) -> ReadRange:
    def read(data: bytes, context_body: bytes) -> tuple[str, bytes] | None:
        try:
            return read_range(opener.open(data)[0], context_body)
        except SpoolError:
            return None

    return read


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
    with contextlib.suppress(
        OSError
    ):  # for people to read: a full disk must not keep the agent from starting
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
