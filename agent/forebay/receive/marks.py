"""Which numbers of an epoch are stored: a contiguous mark and at most 256 numbers above it.

Bounded for ever: an epoch costs a few bytes however long it lives, and its knowledge outlasts the pruning of
`batches`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_ABOVE = 256


@dataclass(slots=True)
class Marks:
    """Numbers 1..`mark` and those in `above` are stored or closed by a gap."""

    mark: int = 0
    above: set[int] = field(default_factory=set)

    def has(self, seq: int) -> bool:
        """Return whether a number is stored."""
        return seq <= self.mark or seq in self.above

    def fits(self, seq: int) -> bool:
        """Return whether a number could be added within the bound."""
        return seq <= self.mark + 1 or seq in self.above or len(self.above) < MOST_ABOVE

    def add(self, low: int, high: int | None = None) -> None:
        """Add a number, or all from `low` to `high`."""
        high = low if high is None else high
        if low <= self.mark + 1:
            self.mark = max(self.mark, high)
            self.above = {n for n in self.above if n > self.mark}
        else:
            self.above.update(range(low, min(high, low + MOST_ABOVE - len(self.above) - 1) + 1))
        while self.mark + 1 in self.above:
            self.mark += 1
            self.above.discard(self.mark)

    def dump(self) -> str:
        """Return `above` as text for storage."""
        return ",".join(map(str, sorted(self.above)))

    @classmethod
    def load(cls, mark: int, above: str) -> Marks:
        """Restore from storage."""
        return cls(mark, {int(n) for n in above.split(",")} if above else set())
