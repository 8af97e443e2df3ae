"""Keep regions of a video covered through frames in which the detector missed them.

A region that was found is followed: the next one near it is the same. While none is found, the place where it
was last seen and the place where its motion would have taken it are covered together, growing with the time
gone by, until `hold` is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]

NEAR = 1.0  # of width and height: centres within it are one thing in two frames,
ALIKE = (
    2.0  # if the sides of the one are at most so many times those of the other: half a person is not a person
)
SMOOTH = 0.5  # weight of the newest motion
GROW_PER_S = 0.6  # of width and height, added on each side: a person who starts to walk
MOST_GROWTH = 0.4
MAX_TRACKS = 512  # of one kind: a broken detector must not make a frame take for ever


@dataclass(slots=True)
class _Track:
    box: Boxes  # (4,), where it was last found
    seen_ns: int
    velocity: Boxes = field(default_factory=lambda: np.zeros(2))  # pixels per ns of its centre


class Hold:
    """Follows the regions of one camera. Times may rise (a stream) or fall (a video, backwards).

    Parameters
    ----------
    hold_ns : how long a region stays covered after it was last found
    """

    def __init__(self, hold_ns: int) -> None:
        self._hold = hold_ns
        self._tracks: dict[str, list[_Track]] = {}
        self._shape: tuple[int, ...] = ()
        self._last_ns: int | None = None
        self._direction = 0

    def update(self, time_ns: int, shape: tuple[int, ...], found: dict[str, Boxes]) -> dict[str, Boxes]:
        """Take what was found in a frame, (n, 4 or more); return (n, 4) boxes by kind to cover beside it.

        A frame of another size, or one whose time turns back, begins anew.
        """
        step = 0 if self._last_ns is None else int(np.sign(time_ns - self._last_ns))
        if shape[:2] != self._shape or (step and self._direction and step != self._direction):
            self._tracks = {}
            self._direction = 0
        self._shape, self._last_ns = shape[:2], time_ns
        self._direction = step or self._direction
        held = {}
        for kind, boxes in found.items():
            now, missed = self._follow(self._tracks.get(kind, []), boxes[:, :4], time_ns)
            held[kind] = np.array([self._grown(t, time_ns) for t in missed]).reshape(-1, 4)
            self._tracks[kind] = (now + missed)[:MAX_TRACKS]
        return held

    def _follow(self, tracks: list[_Track], boxes: Boxes, time_ns: int) -> tuple[list[_Track], list[_Track]]:
        """Return the tracks that were found now, and those that were not and are still held."""
        old = [t for t in tracks if abs(time_ns - t.seen_ns) <= self._hold]
        expected = np.array([_centre(t.box) + t.velocity * (time_ns - t.seen_ns) for t in old]).reshape(-1, 2)
        sizes = np.array([_size(t.box) for t in old]).reshape(-1, 2)
        free = np.ones(len(old), dtype=bool)
        now = []
        for box in boxes:
            size = _size(box)
            alike = np.maximum(sizes / size, size / sizes).max(axis=1) <= ALIKE
            away = (np.abs(expected - _centre(box)) / size).max(axis=1)
            distance = np.where(free & alike, away, np.inf)
            nearest = int(distance.argmin()) if len(old) else -1
            if nearest < 0 or distance[nearest] > NEAR:
                now.append(_Track(box, time_ns))
                continue
            free[nearest] = False
            track = old[nearest]
            gone = time_ns - track.seen_ns
            if gone:
                moved = (_centre(box) - _centre(track.box)) / gone
                track.velocity = SMOOTH * moved + (1 - SMOOTH) * track.velocity
            track.box, track.seen_ns = box, time_ns
            now.append(track)
        missed = [t for t, is_free in zip(old, free.tolist(), strict=True) if is_free]
        return now, missed

    def _grown(self, track: _Track, time_ns: int) -> Boxes:
        """Return the box around where it was and where it would be, grown by the time gone by."""
        gone = time_ns - track.seen_ns
        moved = track.box + np.tile(track.velocity * gone, 2)
        low, high = np.minimum(track.box, moved)[:2], np.maximum(track.box, moved)[2:]
        size = track.box[2:] - track.box[:2]
        growth = size * min(GROW_PER_S * abs(gone) / 1e9, MOST_GROWTH)
        return np.concatenate([low - growth, high + growth])


def hold_both_ways(
    times_ns: list[int], shape: tuple[int, ...], found: list[dict[str, Boxes]], hold_ns: int
) -> list[dict[str, Boxes]]:
    """Return for each frame of a whole video the regions held from frames before and behind it."""
    forward, backward = Hold(hold_ns), Hold(hold_ns)
    ahead = [forward.update(t, shape, f) for t, f in zip(times_ns, found, strict=True)]
    back = [backward.update(t, shape, f) for t, f in zip(reversed(times_ns), reversed(found), strict=True)]
    return [
        {kind: np.concatenate([a[kind], b[kind]]) for kind in a}
        for a, b in zip(ahead, reversed(back), strict=True)
    ]


def _size(box: Boxes) -> Boxes:
    size: Boxes = np.maximum(box[2:] - box[:2], 1.0)
    return size


def _centre(box: Boxes) -> Boxes:
    middle: Boxes = (box[:2] + box[2:]) / 2
    return middle
