"""Which batches are on the wire: sent and not yet answered, so not to be evicted."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Claims:
    """A set of batch ids shared by the forwarder, which claims, and the writer, which evicts.

    Both hold `lock` while they decide, so that a batch cannot be deleted between being read and being sent.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._ids: set[int] = set()

    def claim(self, ids: Iterable[int]) -> None:
        """Mark as sent. Call with `lock` held."""
        self._ids.update(ids)

    def release(self, ids: Iterable[int]) -> None:
        """Mark as answered."""
        with self.lock:
            self._ids.difference_update(ids)

    def release_all(self) -> None:
        """Forget all: the connection is gone and everything will be sent again."""
        with self.lock:
            self._ids.clear()

    def snapshot(self) -> frozenset[int]:
        """Return the claimed ids. Call with `lock` held."""
        return frozenset(self._ids)
