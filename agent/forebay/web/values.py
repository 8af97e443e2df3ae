"""Recent values for small charts, and the last masked picture: in memory only, and only while somebody looks.

Alarms are rare and come while nobody looks, so the last ones are always kept.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Type
from forebay.web.house import Tap

MOST_SERIES = 64
POINTS = 240
ROWS_A_BLOCK = 8  # of a full block these many, evenly spaced, are kept
IDLE_S = 60.0  # nobody asked for so long: stop looking
STILL_BYTES = 4 * 1024 * 1024
MOST_ALARMS = 20
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
        self._series: dict[tuple[str, str], tuple[Field, deque[tuple[int, float]]]] = {}
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
                    self._take_numbers(block, field, column, rows)
                elif field.type is Type.BYTES:
                    self._take_picture(block, field.name, column)
        finally:
            self._lock.release()

    def _take_numbers(self, block: Block, field: Field, column: Column, rows: np.ndarray) -> None:
        key = (block.stream, field.name)
        if key not in self._series:
            if len(self._series) >= MOST_SERIES:
                return
            self._series[key] = (field, deque(maxlen=POINTS))
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
        """Return the series: stream, field, type, unit, points of [ms since 1970, value]."""
        with self._lock:
            return [
                {"stream": stream, "field": name, "type": str(field.type), "unit": field.unit,
                 "points": [[t // 1_000_000, v] for t, v in points]}
                for (stream, name), (field, points) in self._series.items()
            ]  # fmt: skip

    def still(self) -> tuple[str, bytes, str] | None:
        """Return name, bytes and media type of the last picture."""
        with self._lock:
            return self._still


class RecentAlarms:
    """Keeps the last alarms that were raised or cleared, as they go to the spool."""

    def __init__(self, watch: Callable[[Tap], Callable[[], None]]) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=MOST_ALARMS)
        self._release = watch(self.take)

    def take(self, block: Block) -> None:
        """Take the rows of a block of alarms. Called by a pipeline's thread."""
        names = block.schema.names()
        if names[:2] != ("alarm", "state") or not block.stream.endswith("_alarms"):
            return
        cells = dict(
            zip(names, (c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)),
                strict=True)
        )  # fmt: skip
        devices = cells.get(block.schema.key, [None] * block.rows)
        for time_ns, alarm, state, device in zip(
            block.time.tolist(), cells["alarm"], cells["state"], devices, strict=True
        ):
            self._kept.append({
                "stream": block.stream.removesuffix("_alarms"), "alarm": alarm or "", "state": state or "",
                "device": "" if device is None else str(device), "time": time_ns // 1_000_000,
            })  # fmt: skip

    def close(self) -> None:
        """Stop to look."""
        self._release()

    def alarms(self) -> list[dict[str, Any]]:
        """Return them, the newest first."""
        return list(self._kept)[::-1]
