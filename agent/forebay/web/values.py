"""Recent values for small charts, and the last masked picture: in memory only, and only while somebody looks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column, Type
from forebay.web.house import Tap

MOST_SERIES = 64
POINTS = 240
ROWS_A_BLOCK = 8  # of a full block these many, evenly spaced, are kept
IDLE_S = 60.0  # nobody asked for so long: stop looking
STILL_BYTES = 4 * 1024 * 1024
_PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


class RecentValues:
    """Keeps the last points of each numeric field and the last picture. Looks only after `wake`."""

    def __init__(
        self, watch: Callable[[Tap], Callable[[], None]], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._watch, self._now = watch, now
        self._lock = threading.Lock()
        self._release: Callable[[], None] | None = None
        self._asked = 0.0
        self._series: dict[tuple[str, str], tuple[str, deque[tuple[int, float]]]] = {}
        self._still: tuple[str, bytes, str] | None = None

    def wake(self) -> None:
        """Somebody looks."""
        with self._lock:
            self._asked = self._now()
            if self._release is None:
                self._release = self._watch(self.take)

    def sleep_if_idle(self) -> None:
        """Stop looking when nobody asked for a while. Called now and then."""
        with self._lock:
            if self._release is not None and self._now() - self._asked > IDLE_S:
                self._stop()

    def close(self) -> None:
        """Stop looking and forget."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._release is not None:
            self._release()
        self._release, self._still = None, None
        self._series.clear()

    def take(self, block: Block) -> None:
        """Take points of a block. Called by a pipeline's thread: short, and never waits for a looker."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            rows = np.unique(np.linspace(0, block.rows - 1, min(block.rows, ROWS_A_BLOCK)).astype(np.int64))
            for field, column in zip(block.schema.fields, block.columns, strict=True):
                if field.type in (Type.F64, Type.I64, Type.BOOL):
                    self._take_numbers(block, field.name, field.unit, column, rows)
                elif field.type is Type.BYTES:
                    self._take_picture(block, field.name, column)
        finally:
            self._lock.release()

    def _take_numbers(self, block: Block, name: str, unit: str, column: Column, rows: np.ndarray) -> None:
        key = (block.stream, name)
        if key not in self._series:
            if len(self._series) >= MOST_SERIES:
                return
            self._series[key] = (unit, deque(maxlen=POINTS))
        points = self._series[key][1]
        for row in rows.tolist():
            null = column.quality is not None and int(column.quality[row]) >= q.NULL_FROM
            value = float(column.values[row])
            if not null and np.isfinite(value):
                points.append((int(block.time[row]), value))

    def _take_picture(self, block: Block, name: str, column: Column) -> None:
        assert column.offsets is not None
        start, end = int(column.offsets[-2]), int(column.offsets[-1])
        data = bytes(column.values[start:end]) if 0 < end - start <= STILL_BYTES else b""
        kind = next((kind for magic, kind in _PICTURES.items() if data.startswith(magic)), "")
        if kind:
            self._still = (f"{block.stream}.{name}", data, kind)

    def series(self) -> list[dict[str, Any]]:
        """Return the series: stream, field, unit, points of [ms since 1970, value]."""
        with self._lock:
            return [
                {"stream": s, "field": f, "unit": u, "points": [[t // 1_000_000, v] for t, v in points]}
                for (s, f), (u, points) in sorted(self._series.items())
            ]

    def still(self) -> tuple[str, bytes, str] | None:
        """Return name, bytes and media type of the last picture."""
        with self._lock:
            return self._still
