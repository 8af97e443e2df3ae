"""Free space: a spool that stops growing before the disk is full, and a ballast for when it is full all the same.

On a truly full disk deleting rows and folding in the log fail as well, so that delivery could not free anything. The
ballast is a file that holds space for that moment.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from forebay.spool.limits import Limits

log = logging.getLogger("forebay.spool")

BALLAST = "ballast"
_LEAST_FREE = 1024 * 1024


def free_bytes(folder: Path) -> int:
    """Return the free space for this user on a folder's disk."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Disk:
    """Watches the disk of a spool. Used by the writer thread."""

    def __init__(self, folder: Path, limits: Limits, free: Callable[[Path], int] = free_bytes) -> None:
        self._folder, self._limits, self._free = folder, limits, free
        self._low = False
        self._least = 0  # free space that is wanted after the disk was full
        self._ballast = folder / BALLAST

    def look(self) -> bool:
        """Return whether the spool must not grow; keeps the ballast."""
        try:
            free = self._free(self._folder)
        except OSError:
            return self._low
        limits = self._limits
        if not self._low and free < limits.stop_free:
            log.warning("the disk is nearly full: the spool stops growing free=%d", free)
            self._low = True
        elif self._low and free >= max(limits.resume_free, limits.stop_free, self._least):
            log.info("the disk has room again free=%d", free)
            self._low, self._least = False, 0
        wanted = limits.ballast_bytes
        if wanted and not self._low and not self._ballast.exists() and free > 2 * wanted + limits.stop_free:
            self._put_back(wanted)
        return self._low

    def _put_back(self, size: int) -> None:
        try:
            descriptor = os.open(self._ballast, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
        except OSError:
            self.give_back()

    def fill(self) -> None:
        """The disk turned out to be full: give the ballast back, and do not grow before there is room again."""
        self._low, self._least = True, max(2 * self._limits.ballast_bytes, _LEAST_FREE)
        self.give_back()

    def give_back(self) -> None:
        """Delete the ballast."""
        with contextlib.suppress(OSError):
            self._ballast.unlink()
            log.warning("the disk is full: the ballast is given back")
