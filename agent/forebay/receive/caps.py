"""What one gateway may bring into being at the receiver: a hostile or broken one must not fill it with tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DAY_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Most streams and columns of one gateway, and epochs that it may begin in a day."""

    streams: int = 1_000
    columns: int = 10_000
    epochs_per_day: int = 100


class EpochGate:
    """Counts epochs that begin, a day's worth at most at once.

    A day is one of the receiver's own uptime: no wall clock is asked, and a restart of the receiver, which no
    gateway can cause, begins anew.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.epochs_per_day
        self._left: dict[str, tuple[float, int]] = {}  # gateway: epochs left, looked at (ns)
        self._known: dict[str, set[int]] = {}

    def knows(self, gateway: str) -> bool:
        """Return whether `learn` was called for a gateway."""
        return gateway in self._known

    def learn(self, gateway: str, epochs: Iterable[int]) -> None:
        """Take the epochs that the sinks know already."""
        self._known[gateway] = set(epochs)

    def admits(self, gateway: str, epoch: int, now_ns: int) -> bool:
        """Return whether a batch of this epoch may be stored."""
        known = self._known.setdefault(gateway, set())
        if epoch in known:
            return True
        left, looked = self._left.get(gateway, (float(self._most), now_ns))
        left = min(self._most, left + (now_ns - looked) * self._most / DAY_NS)
        admitted = left >= 1
        if admitted:
            known.add(epoch)
        self._left[gateway] = (left - admitted, now_ns)
        return admitted
