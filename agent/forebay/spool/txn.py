"""What a transaction of the spool is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from forebay.spool.rows import Head, LedgerKey, WaitingKey


@dataclass(slots=True)
class Answers:
    """What the receiver said of batches, by batch id, to be applied in the next transaction."""

    acked: list[int] = field(default_factory=list)
    dead: list[tuple[int, str, str]] = field(default_factory=list)  # (id, ledger kind, reason)
    gaps_confirmed: list[int] = field(default_factory=list)
    conflicts: list[int] = field(default_factory=list)  # ids whose number belongs to another batch there
    regressed: list[tuple[int, int]] = field(default_factory=list)  # (epoch, the receiver's mark)
    behind: list[int] = field(default_factory=list)  # epochs that another spool of this gateway has written
    holes: list[tuple[int, int, int]] = field(default_factory=list)  # (epoch, from, to) the center has lost
    thinned: list[int] = field(default_factory=list)  # given up for the link's byte budget
    receipts: list[tuple[int, int, bytes]] = field(default_factory=list)  # (epoch, seq, tag) of `acked`
    receipts_covered: list[int] = field(default_factory=list)  # a signed checkpoint has those up to these ids

    def add(self, more: Answers) -> None:
        """Add what was said since."""
        for name in self.__slots__:
            getattr(self, name).extend(getattr(more, name))

    def take(self, count: int) -> Answers:
        """Take out all but the acknowledgements, and `count` of those with their receipts."""
        part = Answers()
        for name in self.__slots__:
            items = getattr(self, name)
            most = count if name in ("acked", "receipts") else len(items)
            setattr(part, name, items[:most])
            setattr(self, name, items[most:])
        return part

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


@dataclass(slots=True)
class Txn:
    """Changes that become true together. `segments` maps a number to its new row, with an empty state to remove it."""

    counters: dict[str, int]
    ledger: Counter[LedgerKey] = field(default_factory=Counter)
    waiting: dict[WaitingKey, tuple[int, int, int]] = field(default_factory=dict)
    segments: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    bodies: set[bytes] = field(default_factory=set)
    progress: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by owner and step
    now_ns: int = 0


def join_gaps(heads: Iterable[Head], cause: str) -> list[list[Any]]:
    """Return gap rows for batches that will never arrive, joining neighbours of one stream."""
    gaps: list[list[Any]] = []
    last: Head | None = None
    for head in sorted(heads, key=lambda h: (h.epoch, h.seq)):
        if last and (last.epoch, last.seq + 1, last.stream) == (head.epoch, head.seq, head.stream):
            gap = gaps[-1]
            gap[2] = head.seq
            gap[4] += head.rows
            gap[5] += head.readings
            gap[6] = min(gap[6], head.first_time)
            gap[7] = max(gap[7], head.last_time)
        else:
            counts = [head.rows, head.readings, head.first_time, head.last_time]
            gaps.append([head.epoch, head.seq, head.seq, head.stream, *counts, cause])
        last = head
    return gaps
