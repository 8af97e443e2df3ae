"""A power cut for SQLite: an APSW VFS that remembers what was written and not yet synced.

While the program runs, files on disk hold what it wrote. `crash` then does to them what a power cut does: of the
writes since a file's last sync some are there, some are not, in any order, and one may be torn in the middle. What
was synced before is there. Everything follows from the seed.

    cut = PowerCut(seed=7)
    cut.at = 120                                # at the 120th write or sync; None: never
    db = cut.connect(folder / "center.db")      # like sqlite3.connect(..., isolation_level=None)
    try:
        ...                                     # db.execute, executemany, in_transaction, close
    except PowerLost:
        pass
    cut.crash()                                 # now open the files with sqlite3 and look

Only one connection a file: without shared memory, WAL needs `locking_mode=EXCLUSIVE`, which `connect` sets. Product
code that opens its own connection takes it by monkeypatching its `connect`. Deleting a file is durable at once, as is
creating one; renaming is not seen.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512  # what a disk writes whole
_NAMES = itertools.count()


class PowerLost(BaseException):
    """The power is gone. Not an Exception: nothing may handle it and go on."""


@dataclass
class _Op:
    """A write or truncation not yet synced, and what undoes it."""

    offset: int
    data: bytes | None  # None: truncated to `offset`
    old: bytes
    old_size: int


@dataclass
class PowerCut:
    """One machine whose power fails once."""

    seed: int
    at: int | None = None
    ops: int = 0
    lost: bool = False
    _unsynced: dict[str, list[_Op]] = field(default_factory=dict)
    _open: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._vfs = _Vfs(self, f"powercut-{next(_NAMES)}")

    def connect(self, path: Path) -> Connection:
        """Open a database on this machine."""
        made = Connection(self, path, self._vfs.name)
        self._open.append(made)
        return made

    def crash(self) -> None:
        """Lose the power now, if it is not lost yet, and leave on disk what a disk would hold."""
        self.lost = True
        for connection in self._open:
            connection.abandon()
        for name, ops in self._unsynced.items():
            path = Path(name)
            if path.exists():
                _settle(path, ops, self.rng)
        self._unsynced.clear()
        self._vfs.unregister()

    # -- called by the VFS ----------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Count an operation; the power goes when its time has come. Return whether it may be done.

        Afterwards nothing reaches the disk, and SQLite does not notice; `Connection` raises instead. An error from
        here would be handled, tidied up after, and printed where SQLite cannot pass it on.
        """
        self.ops += not self.lost
        self.lost = self.lost or (self.at is not None and self.ops >= self.at)
        return not self.lost

    def wrote(self, name: str, op: _Op) -> None:
        """Remember an operation until the file is synced."""
        self._unsynced.setdefault(name, []).append(op)

    def synced(self, name: str) -> None:
        """Forget what is now durable."""
        self._unsynced.pop(name, None)


def _settle(path: Path, ops: list[_Op], rng: random.Random) -> None:
    image = bytearray(path.read_bytes())
    for op in reversed(ops):
        if op.data is not None:
            image[op.offset : op.offset + len(op.data)] = op.old.ljust(len(op.data), b"\0")
            del image[op.old_size :]
        else:
            image[op.offset :] = op.old
    # Often nothing or all of it survives; in between each write has its own luck.
    luck = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for op in ops:
        if rng.random() >= luck:
            continue
        if op.data is None:
            del image[op.offset :]
            continue
        keep = len(op.data)
        if rng.random() < 0.2:  # torn
            keep = rng.randrange(0, keep + 1, SECTOR) if keep >= SECTOR else 0
        end = op.offset + keep
        if len(image) < end:
            image.extend(bytes(end - len(image)))
        image[op.offset : end] = op.data[:keep]
    path.write_bytes(image)


class _Vfs(apsw.VFS):
    def __init__(self, cut: PowerCut, name: str) -> None:
        self._cut, self.name = cut, name
        super().__init__(name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> _File:
        return _File(self._cut, name, flags)

    def xDelete(self, name: str, sync_dir: bool) -> None:
        if not self._cut.tick():
            return
        self._cut.synced(name)
        super().xDelete(name, sync_dir)


class _File(apsw.VFSFile):
    def __init__(self, cut: PowerCut, name: Any, flags: list[int]) -> None:
        self._cut = cut
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if not self._cut.tick():
            return
        size = super().xFileSize()
        old = super().xRead(min(len(data), size - offset), offset) if offset < size else b""
        self._cut.wrote(self._path, _Op(offset, bytes(data), old, size))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        if not self._cut.tick():
            return
        before = super().xFileSize()
        old = super().xRead(before - size, size) if size < before else b""
        self._cut.wrote(self._path, _Op(size, None, old, before))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        if not self._cut.tick():
            return
        super().xSync(flags)
        self._cut.synced(self._path)


class Connection:
    """As much of sqlite3.Connection as the product uses, on the machine whose power fails."""

    def __init__(self, cut: PowerCut, path: Path, vfs: str) -> None:
        self._cut = cut
        self._db = apsw.Connection(str(path), vfs=vfs)
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")

    @contextlib.contextmanager
    def _powered(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error:
            if not self._cut.lost:
                raise
        # Also when SQLite thinks that all went well: nobody is there any more who could be told.
        if self._cut.lost:
            raise PowerLost

    def execute(self, sql: str, values: Any = ()) -> Any:
        with self._powered():
            return self._db.execute(sql, values)

    def executemany(self, sql: str, values: Iterable[Any]) -> Any:
        with self._powered():
            return self._db.executemany(sql, values)

    @property
    def in_transaction(self) -> bool:
        return not self._cut.lost and self._db.in_transaction

    def commit(self) -> None:
        if self.in_transaction:
            self.execute("COMMIT")

    def close(self) -> None:
        with self._powered():
            self._db.close()

    def abandon(self) -> None:
        """Let go of the files as a machine without power does: nothing more is written."""
        with contextlib.suppress(apsw.Error):
            self._db.close()
