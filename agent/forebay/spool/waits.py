"""What waits in the spool, in memory: by segment, stream and lane, and summed up by segment."""

from __future__ import annotations

from collections.abc import Mapping

from forebay.spool.rows import WaitingKey

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
