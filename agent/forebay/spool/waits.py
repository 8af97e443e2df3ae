"""What waits in the spool, in memory: by segment, stream and lane, and summed up by segment."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from forebay.spool.rows import RANK_BOUNDS, WaitingKey

Sums = tuple[int, int, int]  # batches, readings, bytes


class Waits(dict[WaitingKey, Sums]):
    """Sums by segment, stream and lane. Changed by `take` only.

    Attributes
    ----------
    held : batches and bytes by segment; segments in which nothing waits are not in it
    """

    def __init__(self, rows: Mapping[WaitingKey, Sums]) -> None:
        super().__init__()
        self.held: dict[int, tuple[int, int]] = {}
        self.take(rows)

    def take(self, changes: Mapping[WaitingKey, Sums]) -> None:
        """Take over new sums; those without batches go."""
        for key, sums in changes.items():
            old = self.pop(key, (0, 0, 0))
            if sums[0]:
                self[key] = sums
            batches, size = self.held.pop(key[0], (0, 0))
            if batches + sums[0] - old[0]:
                self.held[key[0]] = (batches + sums[0] - old[0], size + sums[2] - old[2])


def hidden(db: Any, newest: int, can_see: Callable[[str], bool]) -> set[int]:
    """Return segments that hold a batch by their books where a search finds none in its lane.

    A key in the middle of their tree is damaged: SQLite says nothing and walks past the row. `can_see`: whether a
    search by `db` finds something that waits in a lane.
    """
    query = (
        "SELECT DISTINCT w.segment FROM waiting w LEFT JOIN segment s ON s.number = w.segment"
        " WHERE w.lane = ? AND (w.segment = ? OR s.state = 'sealed')"
    )
    found: set[int] = set()
    db.execute("BEGIN")  # books and rows of one moment
    try:
        for lane in RANK_BOUNDS:
            said = {number for (number,) in db.execute(query, (lane, newest))}
            if said and not can_see(lane):
                found |= said
    finally:
        with contextlib.suppress(sqlite3.ProgrammingError):  # a new segment came, and another connection
            db.execute("COMMIT")
    return found
