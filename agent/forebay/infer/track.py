"""Follow objects from picture to picture: overlap with a constant-velocity Kalman prediction decides who is who.

Centre and size of a box are four values that move alike, each with a velocity; they share one 2 x 2 covariance in
units of the box's own size, so one gain serves all four (Bewley et al., "SORT", 2016, simplified).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

MEASURED = 0.05**2  # variance of a detector's box, in sizes of the box
MOVES = 0.5  # variance that motion adds in a second: people turn
LEAST_IOU = 0.15
NEAR = 0.8  # without overlap: centres within so many of the larger side are one object,
NEAR_PER_S = 0.7  # and so many more for each second since the last image: a walk is one height a second
NEAR_LONGEST_S = 2.0
LONGEST_S = 5.0  # predictions are not carried further than this
MAX_TRACKS = 256  # of one camera; a broken detector must not make a picture take for ever


class Tracker:
    """Objects of one camera.

    Parameters
    ----------
    lost_ns : an object not seen for so long is forgotten
    """

    def __init__(self, lost_ns: int) -> None:
        self._lost = lost_ns
        self._next = 1
        self._ids: list[int] = []
        self._labels: list[str] = []
        self._seen: list[int] = []
        self._state = np.zeros((0, 2, 4))  # value and velocity per second of cx, cy, w, h
        self._spread = np.zeros((0, 2, 2))
        self._time: int | None = None

    def update(self, time_ns: int, boxes: F64, labels: list[str]) -> list[int]:
        """Return the number of each box of a picture.

        Parameters
        ----------
        time_ns : of the picture; where it turns back, everything is forgotten
        boxes : (n, 4), x1 y1 x2 y2 in pixels
        labels : n names; objects of different names are different
        """
        if self._time is not None and time_ns < self._time:
            self._keep(np.zeros(len(self._ids), dtype=bool))
        self._keep(np.array([time_ns - t <= self._lost for t in self._seen], dtype=bool))
        gone = 0.0 if self._time is None else (time_ns - self._time) / 1e9
        self._predict(min(gone, LONGEST_S))
        self._time = time_ns
        found = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        ids = [0] * len(boxes)
        for row, track in self._match(found, labels, NEAR + NEAR_PER_S * min(gone, NEAR_LONGEST_S)):
            self._correct(track, found[row])
            self._seen[track] = time_ns
            ids[row] = self._ids[track]
        for row in range(len(boxes)):
            if not ids[row]:
                ids[row] = self._begin(time_ns, found[row], labels[row])
        return ids

    def _keep(self, wanted: npt.NDArray[np.bool_]) -> None:
        if wanted.all():
            return
        chosen = np.flatnonzero(wanted).tolist()
        self._ids = [self._ids[i] for i in chosen]
        self._labels = [self._labels[i] for i in chosen]
        self._seen = [self._seen[i] for i in chosen]
        self._state, self._spread = self._state[chosen], self._spread[chosen]

    def _predict(self, seconds: float) -> None:
        step = np.array([[1.0, seconds], [0.0, 1.0]])
        added = MOVES * np.array([[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]])
        self._state = step @ self._state
        self._state[:, 0, 2:] = np.maximum(self._state[:, 0, 2:], 1.0)
        self._spread = step @ self._spread @ step.T + added

    def _match(self, found: F64, labels: list[str], near: float) -> list[tuple[int, int]]:
        """Return pairs (row, track), best first: by overlap, and where there is none by distance."""
        if not len(found) or not self._ids:
            return []
        expected = self._state[:, 0]
        low = np.maximum((found[:, None, :2] - found[:, None, 2:] / 2), expected[:, :2] - expected[:, 2:] / 2)
        high = np.minimum(
            (found[:, None, :2] + found[:, None, 2:] / 2), expected[:, :2] + expected[:, 2:] / 2
        )
        both = np.clip(high - low, 0, None).prod(axis=2)
        iou = both / np.maximum(found[:, None, 2:].prod(axis=2) + expected[:, 2:].prod(axis=1) - both, 1e-9)
        size = np.maximum(found[:, None, 2:].max(axis=2), expected[:, 2:].max(axis=1))
        far = np.abs(found[:, None, :2] - expected[:, :2]).max(axis=2) / np.maximum(size, 1e-9)
        score = np.where(iou >= LEAST_IOU, 1 + iou, np.where(far <= near, 1 - far / near, -1.0))
        score[np.array(labels)[:, None] != np.array(self._labels)[None, :]] = -1.0
        pairs: list[tuple[int, int]] = []
        while True:
            row, track = divmod(int(score.argmax()), score.shape[1])
            if score[row, track] < 0:
                return pairs
            pairs.append((row, track))
            score[row], score[:, track] = -1.0, -1.0

    def _correct(self, track: int, box: F64) -> None:
        spread = self._spread[track]
        gain = spread[:, 0] / (spread[0, 0] + MEASURED)
        self._state[track] += gain[:, None] * (box - self._state[track, 0])
        self._spread[track] = spread - np.outer(gain, spread[0])

    def _begin(self, time_ns: int, box: F64, label: str) -> int:
        if len(self._ids) >= MAX_TRACKS:
            oldest = int(np.argmin(self._seen))
            self._keep(np.arange(len(self._ids)) != oldest)
        number, self._next = self._next, self._next + 1
        self._ids.append(number)
        self._labels.append(label)
        self._seen.append(time_ns)
        self._state = np.concatenate([self._state, np.stack([box, np.zeros(4)])[None]])
        self._spread = np.concatenate([self._spread, np.diag([MEASURED, 1.0])[None]])
        return number

    def dump(self) -> dict[str, Any]:
        """Return the state as msgpack takes it."""
        return {
            "next": self._next, "time": self._time, "ids": self._ids, "labels": self._labels, "seen": self._seen,
            "state": self._state.tolist(), "spread": self._spread.tolist(),
        }  # fmt: skip

    def load(self, saved: dict[str, Any]) -> None:
        """Take over a saved state. Raises KeyError, TypeError, ValueError."""
        count = len(saved["ids"])
        self._next, self._time = int(saved["next"]), saved["time"]
        self._ids, self._labels, self._seen = list(saved["ids"]), list(saved["labels"]), list(saved["seen"])
        self._state = np.array(saved["state"], dtype=np.float64).reshape(count, 2, 4)
        self._spread = np.array(saved["spread"], dtype=np.float64).reshape(count, 2, 2)
