"""What a spool may take, and what gives when it has taken it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1024 * 1024
MOST_SEGMENT_BYTES = 64 * MIB
LEAST_SEGMENT_BYTES = MIB
_SHARES = 8  # a segment is at most this part of the quota; space comes back segment by segment


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one stream may keep waiting; 0: no limit. Its oldest batches go beyond it."""

    max_bytes: int = 0
    max_batches: int = 0
    max_age_ns: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of the spool. Sizes in bytes, 0: no limit or none.

    Attributes
    ----------
    max_bytes : database, write-ahead log and dead letters together
    on_full : block, evict_lowest_value, drop_oldest, drop_newest, thin
    reserve : share of `max_bytes` by lane that `evict_lowest_value` leaves to it while others have more than theirs
    thin_keep : `thin` keeps every n-th of the oldest batches before it deletes
    max_age_ns : uptime, kept on disk, after which a batch is given up
    dead_letter_bytes : beyond it the oldest dead letters are deleted
    stop_free, resume_free : free space on the disk at which the spool stops growing, and grows again
    ballast_bytes : preallocated, given back when the disk is full all the same
    """

    max_bytes: int
    on_full: str = "block"
    segment_bytes: int = 0
    reserve: Mapping[str, float] = field(default_factory=dict)
    thin_keep: int = 10
    max_age_ns: int = 0
    max_batches: int = 0
    streams: Mapping[str, StreamLimits] = field(default_factory=dict)
    dead_letter_bytes: int = 0
    stop_free: int = 0
    resume_free: int = 0
    ballast_bytes: int = 0

    @property
    def roll_bytes(self) -> int:
        """Live bytes at which a segment is full; tiny spools have only one."""
        if self.segment_bytes:
            return self.segment_bytes
        if self.max_bytes < _SHARES * LEAST_SEGMENT_BYTES:
            return self.max_bytes
        return min(self.max_bytes // _SHARES, MOST_SEGMENT_BYTES)

    @property
    def dead_bytes(self) -> int:
        """The quota of dead letters; by default a 32nd of the whole."""
        return self.dead_letter_bytes or min(self.max_bytes // 32, MOST_SEGMENT_BYTES)

    @property
    def can_evict(self) -> bool:
        """Whether the policy makes room by itself."""
        return self.on_full != "block"
