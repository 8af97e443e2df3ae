"""Which numbers of an epoch are stored: a contiguous mark and at most 256 ranges above it.

Bounded for ever: an epoch costs a few bytes however long it lives, and its knowledge outlasts the pruning of
`batches`. Ranges rather than single numbers, so that live data can overtake a backlog of any length, and a
backlog be sent newest first, within the same bound.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from forebay.wire.messages import Gap

MOST_ABOVE = 256

Range = tuple[int, int]  # both ends are inside


@dataclass(slots=True)
class Marks:
    """Numbers 1..`mark` and the ranges in `above` are stored or closed by a gap.

    `above` is sorted; its ranges touch neither each other nor the mark.
    """

    mark: int = 0
    above: list[Range] = field(default_factory=list)

    def has(self, seq: int) -> bool:
        """Return whether a number is stored."""
        return self.covers(seq, seq)

    def covers(self, low: int, high: int) -> bool:
        """Return whether all numbers from `low` to `high` are stored."""
        if high <= self.mark:
            return True
        at = bisect_right(self.above, max(low, self.mark + 1), key=lambda r: r[0]) - 1
        return at >= 0 and high <= self.above[at][1]

    def fits(self, low: int, high: int | None = None) -> bool:
        """Return whether numbers could be added within the bound."""
        high = low if high is None else high
        touching = low <= self.mark + 1 or any(a - 1 <= high and low <= b + 1 for a, b in self.above)
        return touching or len(self.above) < MOST_ABOVE

    def add(self, low: int, high: int | None = None) -> None:
        """Add a number, or all from `low` to `high`; ask `fits` first."""
        high = low if high is None else high
        if not self.above and low == self.mark + 1:  # nearly always
            self.mark = high
            return
        apart: list[Range] = []
        for a, b in self.above:
            if b + 1 < low or high + 1 < a:
                apart.append((a, b))
            else:
                low, high = min(low, a), max(high, b)
        if low <= self.mark + 1:
            self.mark = max(self.mark, high)
        else:
            insort(apart, (low, high))
        self.above = apart

    def ranges(self) -> list[Range]:
        """Return everything stored as ranges."""
        return [(1, self.mark), *self.above] if self.mark else list(self.above)

    def dump(self) -> str:
        """Return `above` as text for storage, e.g. `5-9,12`."""
        return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in self.above)

    @classmethod
    def load(cls, mark: int, above: str) -> Marks:
        """Restore from storage."""
        marks = cls(mark)
        for text in above.split(",") if above else ():
            low, _, high = text.partition("-")
            marks.add(int(low), int(high or low))
        return marks


def common(all_marks: Iterable[Marks]) -> Marks:
    """Return what every one of them has: what several sinks have all stored."""
    found: list[Range] | None = None
    for marks in all_marks:
        found = marks.ranges() if found is None else _intersection(found, marks.ranges())
    out = Marks()
    for low, high in found or ():
        out.add(low, high)
    return out


def _intersection(a: list[Range], b: list[Range]) -> list[Range]:
    pairs = ((max(x[0], y[0]), min(x[1], y[1])) for x in a for y in b)
    return [(low, high) for low, high in pairs if low <= high]


def holes(gap: Gap, stored: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a gap that are not stored."""
    low = gap.seq_from
    for seq in stored:
        if low < seq:
            yield low, seq - 1
        low = seq + 1
    if low <= gap.seq_to:
        yield low, gap.seq_to
