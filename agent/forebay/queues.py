"""A queue bounded in bytes: what stands between source and worker, so that back-pressure reaches the source."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The queue takes nothing more."""


class ByteQueue(Generic[T]):
    """First in, first out; `put` waits while more than `max_bytes` are inside."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._poked = False
        self._condition = threading.Condition()

    def put(self, item: T, nbytes: int) -> bool:
        """Add an item; wait for room. One larger than the bound goes in alone. False when closed."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._closed or not self._items or self._bytes + nbytes <= self._max_bytes
            )
            if self._closed:
                return False
            self._items.append((item, nbytes))
            self._bytes += nbytes
            self._condition.notify_all()
            return True

    def get(self, timeout: float | None) -> T | None:
        """Take the oldest item; None after `timeout` seconds or a poke. Raises Closed when closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed or self._poked, timeout)
            self._poked = False
            if self._items:
                item, nbytes = self._items.popleft()
                self._bytes -= nbytes
                self._condition.notify_all()
                return item
            if self._closed:
                raise Closed
            return None

    def poke(self) -> None:
        """Make a waiting `get` return."""
        with self._condition:
            self._poked = True
            self._condition.notify_all()

    def close(self) -> None:
        """Take nothing more; what is inside can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def nbytes(self) -> int:
        """Bytes inside."""
        return self._bytes
