"""How full the spool is on disk, and when it will be full if nothing is delivered from now on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

SAMPLE = 200  # newest batches of each lane that are looked at

Arrival = tuple[int, int]  # when a batch came to wait (ns of uptime), its bytes


def rate(lanes: Iterable[Sequence[Arrival]], now_ns: int) -> float:
    """Return bytes a second that came to wait, over the time that the samples of all lanes have in common.

    A lane of which only the newest are there says nothing of the time before them: with an alarm an hour beside
    a batch a second, 200 of each would make that second's bytes those of days.

    Parameters
    ----------
    lanes : of each lane the newest, newest first: all that wait, or SAMPLE of them
    now_ns : uptime now; a source that has been silent since counts
    """
    samples = [list(lane) for lane in lanes]
    every = [arrival for sample in samples for arrival in sample]
    if not every:
        return 0.0
    cut = [sample[-1][0] for sample in samples if len(sample) >= SAMPLE]
    start = max(cut, default=min(stored for stored, _ in every))
    span = max(now_ns, max(stored for stored, _ in every)) - start
    # The first came at the beginning of that time, not within it.
    return sum(size for stored, size in every if stored > start) / (span / 1e9) if span else 0.0


def file_bytes(folder: Path) -> int:
    """Return the size of all files of a spool."""
    total = 0
    for path in (p for kind in ("segment", "damaged", "lost") for p in folder.glob(f"{kind}-*")):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def full_in_s(max_bytes: int, file_bytes: int, rate: float) -> int | None:
    """Return seconds until the quota is reached; None where nothing waits, and so nothing fills."""
    return int(max(0, max_bytes - file_bytes) / rate) if rate and max_bytes else None
