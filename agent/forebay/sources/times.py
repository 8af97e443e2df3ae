"""Local times without a zone to UTC, through the zone that the configuration names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from forebay.blocks import I64Array
from forebay.config.zones import time_zone

_BUCKET_NS = 900 * 1_000_000_000  # zones change at multiples of 15 minutes since 1900
_EPOCH = datetime(1970, 1, 1)
_MAX_CACHE = 4096


class LocalTimes:
    """Turns local times of one zone into UTC.

    Notes
    -----
    When clocks go back an hour is there twice. Rows come in order of time, so the first pass through that
    hour is taken for summer time (fold 0), and from a step back by half an hour or more for winter time,
    until the hour is over. A time that clocks skip is reckoned with the offset before the change (PEP 495).
    """

    def __init__(self, zone: str) -> None:
        self._zone = time_zone(zone)
        self._offsets: dict[int, tuple[int, int]] = {}
        self.last = -(2**63)  # latest local time in a doubled hour, ns
        self.fold = 0

    def to_utc(self, local: I64Array) -> I64Array:
        """Return UTC of local times, both ns since 1970 in their own reckoning, shape (n,)."""
        buckets = local // _BUCKET_NS
        if not len(local):
            return local
        changes = np.flatnonzero(np.diff(buckets)) + 1
        starts = [0, *changes.tolist()]
        ends = [*changes.tolist(), len(local)]
        out = np.empty_like(local)
        for start, end in zip(starts, ends, strict=True):
            first, second = self._offset(int(buckets[start]))
            if first == second:
                out[start:end] = local[start:end] - first
                self.last, self.fold = -(2**63), 0
            else:
                self._doubled(local[start:end], out[start:end], (first, second))
        return out

    def _doubled(self, local: I64Array, out: I64Array, offsets: tuple[int, int]) -> None:
        for i, value in enumerate(local.tolist()):
            if value < self.last - 2 * _BUCKET_NS:
                self.fold = 1
            self.last = max(self.last, value) if self.fold == 0 else value
            out[i] = value - offsets[self.fold]

    def _offset(self, bucket: int) -> tuple[int, int]:
        """Return the offset in ns of a bucket, before and after a change that doubles it."""
        known = self._offsets.get(bucket)
        if known is None:
            if len(self._offsets) >= _MAX_CACHE:
                self._offsets.clear()
            moment = _EPOCH + timedelta(seconds=bucket * 900)
            pair = [
                moment.replace(tzinfo=self._zone, fold=fold).utcoffset() or timedelta(0) for fold in (0, 1)
            ]
            # In a skipped hour fold 1 goes before fold 0: no doubling, the offset before the change holds.
            if pair[1] > pair[0]:
                pair[1] = pair[0]
            known = tuple(offset // timedelta(microseconds=1) * 1000 for offset in pair)  # type: ignore[assignment]
            assert known is not None
            self._offsets[bucket] = known
        return known


def parse_instant(text: str) -> int:
    """Return ns since 1970 UTC of ISO 8601 text with a zone."""
    moment = datetime.fromisoformat(text.replace(",", "."))
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
