"""A picture of series with their anomalies, as `forebay infer TABLE.csv -o series.png` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forebay.errors import InputError
from forebay.pictures import load_cv2

WIDTH, HEIGHT, EDGE = 1200, 150, 24
MOST_PANELS = 16  # devices times fields; more cannot be looked at
FORMATS = (".png", ".jpg", ".jpeg")
_INK, _MARK, _TEXT = (120, 80, 30), (180, 180, 255), (40, 40, 40)
_UNSCORED = (232, 232, 232)


class SeriesPicture:
    """Collects rows with their scores; one panel a device and field. Grey: rows without a score.

    Parameters
    ----------
    fields : columns to draw
    threshold : rows whose score reaches it are marked
    """

    def __init__(self, fields: Sequence[str], threshold: float) -> None:
        self._fields, self._threshold = tuple(fields), threshold
        self._panels: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        self.left_out: set[str] = set()

    def add(self, device: str, values: Sequence[float | None], score: float | None) -> None:
        """Take in a row: the cells of the fields, None where there is no number."""
        if (device, self._fields[0]) not in self._panels:
            if (len(self._panels) + len(self._fields)) > max(MOST_PANELS, len(self._fields)):
                self.left_out.add(device)
                return
            for name in self._fields:
                self._panels[device, name] = ([], [])
        for name, value in zip(self._fields, values, strict=True):
            cells, scores = self._panels[device, name]
            cells.append(np.nan if value is None else value)
            scores.append(np.nan if score is None else score)

    def draw(self) -> Any:
        """Return uint8 (h, w, 3), BGR."""
        panels = [self._panel(*name, *found) for name, found in self._panels.items()]
        return np.concatenate(panels) if panels else np.full((HEIGHT, WIDTH, 3), 255, np.uint8)

    def write(self, path: Path) -> None:
        """Write the picture. Raises InputError, MissingExtra."""
        cv2 = load_cv2("pictures")
        try:
            done = cv2.imwrite(str(path), self.draw())
        except cv2.error:
            done = False
        if not done:
            raise InputError("cannot be written", place=str(path), hint="end the name in .png or .jpg")

    def _panel(self, device: str, name: str, cells: list[float], scores: list[float]) -> Any:
        cv2 = load_cv2("pictures")
        out = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        values = np.array(cells)
        place = np.arange(len(values)) * WIDTH // max(1, len(values))
        marked, unscored = np.array(scores) >= self._threshold, np.isnan(scores)
        for rows, colour in ((unscored, _UNSCORED), (marked, _MARK)):
            for x in np.unique(place[rows]).tolist():
                cv2.line(out, (x, EDGE), (x, HEIGHT - 2), colour, 3)
        good = np.isfinite(values)
        told = f"{device} {name}".strip()
        if good.any():
            low, high = float(values[good].min()), float(values[good].max())
            scale = (HEIGHT - EDGE - 8) / (high - low or 1.0)
            y = HEIGHT - 4 - np.round((values[good] - low) * scale).astype(int)
            points = np.stack([place[good], y], axis=1)
            # several readings share a column: the line through all of them shows their range
            cv2.polylines(out, [points.astype(np.int32).reshape(-1, 1, 2)], False, _INK, 1)
            told += f"  {low:g} to {high:g}, {marked.sum()} of {len(marked)} marked"
            told += f", {unscored.sum()} without a score" if unscored.any() else ""
        ascii_text = told.encode("ascii", "replace").decode()
        cv2.putText(out, ascii_text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _TEXT, 1, cv2.LINE_AA)
        return out
