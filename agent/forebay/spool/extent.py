"""How large the newest segment is: what the writer's own transactions say, so that the disk is not asked each time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any


class Extent:
    """Sizes of one segment file and its log. Only the writer changes them, but for folding the log in.

    Attributes
    ----------
    pages, free_pages : of the database, the log laid over it
    page_bytes : size of a page
    log_bytes : size of the log's file
    """

    def __init__(self, path: Path, db: Any) -> None:
        self._path, self._log = str(path), f"{path}-wal"
        self.page_bytes = int(db.execute("PRAGMA page_size").fetchone()[0])
        self.pages, self.free_pages = self.count(db)
        self.log_bytes = 0
        self.look()

    def count(self, db: Any) -> tuple[int, int]:
        """Return pages and free pages as the caller's transaction leaves them."""
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        return pages, db.execute("PRAGMA freelist_count").fetchone()[0]

    def look(self) -> bool:
        """Ask for the size of the log. Return whether there is one."""
        self.log_bytes = 0
        with contextlib.suppress(FileNotFoundError):
            self.log_bytes = os.stat(self._log).st_size
            return True
        return False

    def unfolded_bytes(self) -> int:
        """Return by how much the file will grow when the log is folded in."""
        return max(0, self.pages * self.page_bytes - os.stat(self._path).st_size)
