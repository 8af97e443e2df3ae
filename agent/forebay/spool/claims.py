"""Which batches are on the wire: sent and not yet answered, so not to be evicted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable


class Claims:
    """Ids shared by the forwarder, which claims what it sends, and the writer, which dooms what it evicts.

    An id is never both. A doomed batch can still be read until the evicting transaction commits, so looking
    whether it exists would not be enough.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claimed: set[int] = set()
        self._doomed: set[int] = set()

    def claim(self, batch_id: int, exists: Callable[[int], bool]) -> bool:
        """Mark a batch as on the wire. False if it is being or has been evicted."""
        with self._lock:
            if batch_id in self._doomed or not exists(batch_id):
                return False
            self._claimed.add(batch_id)
            return True

    def doom(self, batch_id: int) -> bool:
        """Mark a batch as being evicted. False if it is on the wire."""
        with self._lock:
            if batch_id in self._claimed:
                return False
            self._doomed.add(batch_id)
            return True

    def settle_doomed(self) -> None:
        """Forget the doomed ones: the transaction has committed, or it was rolled back."""
        with self._lock:
            self._doomed.clear()

    def release(self, ids: Iterable[int]) -> None:
        """Mark as off the wire: to be sent again, or gone from the spool.

        An acknowledged batch stays claimed until its deletion has committed: it must not be evicted, and
        counted as lost, in between.
        """
        with self._lock:
            self._claimed.difference_update(ids)
