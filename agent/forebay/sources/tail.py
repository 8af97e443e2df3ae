"""One file that is read piece by piece and found again: after a restart, a rename, a truncation.

Identity is the inode and a hash of the first bytes. Only bytes that were consumed count in the hash, so a
half-written first line does not change it. The device number is left out: it may change with a reboot.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from forebay.errors import InputError
from forebay.redact import is_telling

FINGERPRINT_BYTES = 1_024
PIECE_BYTES = 256 * 1024
_BY_INODE = "\0"  # no name begins so


class TailedFile:
    """An open file with a position in it.

    Attributes
    ----------
    offset : int
        First byte that is not consumed.
    line : int
        Its line number, from 1 on.
    state : list or None
        The decoder's `file_state` at `offset`, None at the very start.
    """

    def __init__(self, path: Path, saved: list[Any] | None = None) -> None:
        self.path = path
        self.offset, self.line = 0, 1
        self.state: list[Any] | None = None
        self._print_size, self._print = 0, b""
        self._pending = b""
        self._checked = 0  # time of change at the last look
        self.idle_polls = 0
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(
                f"cannot open the file: {error.strerror}", place=str(path), retryable=True
            ) from error
        self.inode = os.fstat(self._fd).st_ino
        if saved is not None:
            _, _, self.offset, self.line, self._print_size, self._print, self.state = saved

    def close(self) -> None:
        """Close the file. More than once is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def saved(self) -> list[Any]:
        """Return what the constructor needs to go on (msgpack types only)."""
        if self._print_size < FINGERPRINT_BYTES and self.offset > self._print_size:
            self._print_size = min(FINGERPRINT_BYTES, self.offset)
            self._print = _hash(os.pread(self._fd, self._print_size, 0))
        return [
            self.path.name, self.inode, self.offset, self.line, self._print_size, self._print, self.state,
        ]  # fmt: skip

    def head(self, size: int) -> bytes:
        """Return the first bytes of the file."""
        return os.pread(self._fd, size, 0)

    def was_replaced(self) -> str:
        """Return how the content changed under us, empty if it did not."""
        status = os.fstat(self._fd)
        if status.st_size < self.offset + len(self._pending):
            return "the file was truncated"
        if status.st_mtime_ns != self._checked:
            self._checked = status.st_mtime_ns
            if self._print_size and _hash(os.pread(self._fd, self._print_size, 0)) != self._print:
                return "the file was written anew"
        return ""

    def start_again(self) -> None:
        """Begin a new generation: the first byte of the same file."""
        self.offset, self.line, self.state = 0, 1, None
        self._print_size, self._print, self._pending = 0, b"", b""

    def read(self) -> tuple[bytes, int]:
        """Return the bytes from `offset` on, as far as they are read by now, and how many of them are new."""
        try:
            new = os.pread(self._fd, PIECE_BYTES, self.offset + len(self._pending))
        except OSError as error:
            raise InputError(
                f"cannot read the file: {error.strerror}", place=str(self.path), retryable=True
            ) from error
        return (self._pending + new if self._pending else new), len(new)

    def keep(self, rest: bytes) -> None:
        """Keep what was read but not consumed."""
        self._pending = rest


def matches(path: Path, saved: list[Any]) -> bool:
    """Say whether the file at `path` is the saved one, with all that was consumed of it."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return (
                status.st_ino == saved[1]
                and status.st_size >= saved[2]
                and _hash(file.read(saved[4])) == (saved[5] or _hash(b""))
            )
    except OSError:
        return False


def kept_name(name: str, inode: int) -> str:
    """Return what a position says of a file: its name, or its inode where the name holds an identifier."""
    return f"{_BY_INODE}{inode}" if is_telling(name) else name


def known_name(kept: str, paths: Iterable[Path]) -> str:
    """Return the name that `kept_name` was given, empty if the file is not among these any more."""
    if not kept.startswith(_BY_INODE):
        return kept
    return name_by_inode(paths, int(kept.removeprefix(_BY_INODE)))


def name_by_inode(paths: Iterable[Path], inode: int) -> str:
    """Return the name of the file that has this inode, empty if none of them has."""
    for path in paths:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == inode:
                return path.name
    return ""


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
