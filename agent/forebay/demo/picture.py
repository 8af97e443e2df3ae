"""The demo's pictures: one turbine's recording with its anomalies, and a masked photograph.

Drawn on a NumPy canvas at twice the size and then reduced, which smooths lines and letters.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.demo.folder import PHOTOS, TURBINES

WIDTH, HEIGHT, SCALE = 1400, 860, 2
LEFT, RIGHT, TOP, BOTTOM, BETWEEN = 92, 36, 104, 52, 42
THRESHOLD = 0.9

# Colours are BGR, as OpenCV has them.
_PAPER, _INK, _SOFT, _GRID = (255, 255, 255), (58, 46, 40), (130, 118, 110), (233, 229, 226)
_LINES = ((150, 96, 38), (128, 140, 46), (150, 74, 118))
_ALARM, _ALARM_BAND = (54, 54, 214), (226, 226, 250)

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    values: F64
    low: float
    high: float
    step: float
    top: int
    height: int


@dataclass(frozen=True, slots=True)
class _Series:
    """One turbine's rows from the receiver's database; times in s since 1970 UTC."""

    time: F64
    power: F64
    wind: F64
    score: F64
    raised: F64


def draw_anomalies(database: Path, turbine: str, path: Path) -> None:
    """Draw power, wind speed and score of a turbine, its alarms marked, from what the receiver stored."""
    with closing(sqlite3.connect(database)) as db:
        series = _read(db, turbine)
    canvas = _Canvas()
    shown = HEIGHT - TOP - BOTTOM - 2 * BETWEEN
    tall, low = round(shown * 0.4), round(shown * 0.24)
    panels = (
        _Panel("power, kW", series.power, *_axis(series.power), TOP, tall),
        _Panel("wind speed, m/s", series.wind, *_axis(series.wind), TOP + tall + BETWEEN, shown - tall - low),
        _Panel("anomaly score, 0 to 1", series.score, 0.0, 1.0, 0.5, HEIGHT - BOTTOM - low, low),
    )
    canvas.text(f"Wind turbine {turbine}, La Haute Borne (Meuse, France)", LEFT, 40, 0.82, _INK, thick=2)
    canvas.text(
        f"10-minute means, {_day(series.time[0])} to {_day(series.time[-1])}, UTC."
        f"  {len(series.raised)} alarms raised on the gateway by the model sensor-anomaly (score above {THRESHOLD})",
        LEFT, 68, 0.5, _SOFT,
    )  # fmt: skip
    canvas.dot(WIDTH - RIGHT - 58, 63, _ALARM)
    canvas.text("alarm", WIDTH - RIGHT - 46, 68, 0.5, _ALARM)
    for colour, panel in zip(_LINES, panels, strict=True):
        _draw_panel(canvas, panel, series, colour)
    canvas.text(
        "Data: ENGIE, Open License 2.0. Drawn from the receiver's database.", LEFT, HEIGHT - 10, 0.4, _SOFT
    )
    canvas.save(path)


def save_masked(database: Path, path: Path) -> None:
    """Save the first photograph by name as the sink has it; nothing if there is none."""
    with closing(sqlite3.connect(database)) as db:
        query = f"SELECT image FROM {PHOTOS} WHERE image IS NOT NULL ORDER BY name LIMIT 1"
        try:
            row = db.execute(query).fetchone()
        except sqlite3.Error:
            return
    if row is not None:
        path.write_bytes(row[0])


def _read(db: sqlite3.Connection, turbine: str) -> _Series:
    query = f"SELECT time, power, wind_speed, anomaly FROM {TURBINES} WHERE turbine = ? ORDER BY time"
    rows = np.array(db.execute(query, (turbine,)).fetchall(), dtype=np.float64)
    query = f"SELECT time FROM {TURBINES}_alarms WHERE turbine = ? AND state = 'raised' ORDER BY time"
    raised = np.array([t for (t,) in db.execute(query, (turbine,))], dtype=np.float64)
    return _Series(rows[:, 0] / 1e9, rows[:, 1], rows[:, 2], rows[:, 3], raised / 1e9)


def _axis(values: F64) -> tuple[float, float, float]:
    """Return lowest and highest value of an axis and the step between its labels."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    rough = (high - low) / 5 or 1.0
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough)
    # a little below 0 is a turbine's own consumption, not worth half an axis
    bottom = 0.0 if -0.1 * step < low < step else math.floor(low / step) * step
    return min(bottom, low), math.ceil(high / step) * step, step


def _draw_panel(canvas: _Canvas, panel: _Panel, series: _Series, colour: tuple[int, int, int]) -> None:
    start, end = float(series.time[0]), float(series.time[-1])
    right, bottom = WIDTH - RIGHT, panel.top + panel.height

    def x_of(time: Any) -> Any:
        return LEFT + (time - start) / (end - start) * (right - LEFT)

    def y_of(value: Any) -> Any:
        return bottom - (value - panel.low) / (panel.high - panel.low) * panel.height

    for time in series.raised:
        canvas.band(x_of(time) - 1.5, panel.top, x_of(time) + 1.5, bottom, _ALARM_BAND)
    label = math.ceil(panel.low / panel.step) * panel.step
    while label <= panel.high + 1e-9:
        canvas.line([(LEFT, y_of(label)), (right, y_of(label))], _GRID)
        canvas.text(f"{label:g}", LEFT - 10, y_of(label) + 5, 0.44, _SOFT, align="right")
        label += panel.step
    for time in _days(start, end, 7):
        canvas.line([(x_of(time), panel.top), (x_of(time), bottom)], _GRID)
        canvas.text(_day(time)[5:], x_of(time), bottom + 19, 0.42, _SOFT, align="centre")
    canvas.text(panel.title, LEFT, panel.top - 8, 0.5, colour, thick=1)
    _draw_line(canvas, x_of(series.time), y_of(panel.values), colour)
    places = np.searchsorted(series.time, series.raised)
    if panel.high == 1.0:
        canvas.line([(LEFT, y_of(THRESHOLD)), (right, y_of(THRESHOLD))], _ALARM)
        canvas.text(f"{THRESHOLD:g}", right + 4, y_of(THRESHOLD) + 4, 0.4, _ALARM)
    for place in places.tolist():
        if place < len(panel.values) and np.isfinite(panel.values[place]):
            canvas.dot(x_of(series.time[place]), y_of(panel.values[place]), _ALARM)


def _draw_line(canvas: _Canvas, x: F64, y: F64, colour: tuple[int, int, int]) -> None:
    """Draw a line that is broken where values are missing."""
    known = np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], known, [False])).astype(np.int8)))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        canvas.line(list(zip(x[first:last].tolist(), y[first:last].tolist(), strict=True)), colour, 1)


def _days(start: float, end: float, every: int) -> list[float]:
    first = math.ceil(start / 86_400) * 86_400
    return [float(t) for t in range(first, int(end) + 1, every * 86_400)]


def _day(time: float) -> str:
    return datetime.fromtimestamp(float(time), UTC).strftime("%Y-%m-%d")


class _Canvas:
    """Lines and text in points of the finished picture, drawn SCALE times as large."""

    def __init__(self) -> None:
        import cv2

        self._cv2: Any = cv2
        self._pixels = np.full((HEIGHT * SCALE, WIDTH * SCALE, 3), _PAPER, dtype=np.uint8)

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return round(x * SCALE), round(y * SCALE)

    def line(
        self, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], weight: int = SCALE
    ) -> None:
        """Draw a line through points."""
        path = np.round(np.array(points, dtype=np.float64) * SCALE).astype(np.int32).reshape(-1, 1, 2)
        self._cv2.polylines(self._pixels, [path], False, colour, weight, self._cv2.LINE_AA)

    def band(self, x1: float, y1: float, x2: float, y2: float, colour: tuple[int, int, int]) -> None:
        """Fill a rectangle."""
        self._cv2.rectangle(self._pixels, self._at(x1, y1), self._at(x2, y2), colour, -1)

    def dot(self, x: float, y: float, colour: tuple[int, int, int]) -> None:
        """Draw a mark with a light rim, so that it shows on a line."""
        self._cv2.circle(self._pixels, self._at(x, y), 5 * SCALE, _PAPER, -1, self._cv2.LINE_AA)
        self._cv2.circle(self._pixels, self._at(x, y), 4 * SCALE, colour, -1, self._cv2.LINE_AA)

    def text(
        self,
        text: str,
        x: float,
        y: float,
        size: float,
        colour: tuple[int, int, int],
        *,
        align: str = "left",
        thick: int = 1,
    ) -> None:
        """Write ASCII text on the base line y."""
        font, weight = self._cv2.FONT_HERSHEY_SIMPLEX, thick * SCALE
        (width, _), _ = self._cv2.getTextSize(text, font, size * SCALE, weight)
        x -= {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * width / SCALE
        self._cv2.putText(
            self._pixels, text, self._at(x, y), font, size * SCALE, colour, weight, self._cv2.LINE_AA
        )

    def save(self, path: Path) -> None:
        """Write the picture as PNG."""
        small = self._cv2.resize(self._pixels, (WIDTH, HEIGHT), interpolation=self._cv2.INTER_AREA)
        # 64 levels a colour are enough for lines on white, and a third of the bytes
        small = (np.round(small / 255.0 * 63.0) * (255.0 / 63.0)).astype(np.uint8)
        options = [self._cv2.IMWRITE_PNG_COMPRESSION, 9]
        path.write_bytes(self._cv2.imencode(".png", small, options)[1].tobytes())
