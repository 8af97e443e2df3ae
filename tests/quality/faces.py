"""Measure masking's search for small faces: crops without hair and neck, pasted into photographs.

Run as `python tests/quality/faces.py`; prints a row for each size. The crops are scikit-image's `lfw_subset`,
grey, 25 x 25, cut at chin and forehead: the hardest case there is, and one that can be repeated.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import skimage

from forebay.detectors import Detectors

Picture = npt.NDArray[np.uint8]

DATA = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = ("motorcycle_left.png", "rocket.jpg", "coffee.png", "chelsea.png")  # none has a human face
HEIGHT, WIDTH = 540, 960
ROWS, COLUMNS = 5, 5  # of faces in a picture, each somewhere in its cell
CELL = (HEIGHT // ROWS, WIDTH // COLUMNS)
FACES = 100  # of lfw_subset; what comes behind them are parts of pictures without a face


class Pasted(NamedTuple):
    """A picture and where its faces are: x1, y1, x2, y2."""

    picture: Picture
    faces: npt.NDArray[np.float64]


class Result(NamedTuple):
    """What was found of so many faces, what else was covered, and the cost of a picture."""

    faces: int
    found: int
    others: int
    cpu_ms: float


def backgrounds() -> list[Picture]:
    """Return the photographs, enlarged to fill a frame and cut to it."""
    out = []
    for name in PHOTOGRAPHS:
        picture = cv2.imread(str(DATA / name))
        assert picture is not None
        ratio = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
        picture = cv2.resize(picture, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_CUBIC)
        top, left = (picture.shape[0] - HEIGHT) // 2, (picture.shape[1] - WIDTH) // 2
        out.append(np.ascontiguousarray(picture[top : top + HEIGHT, left : left + WIDTH], dtype=np.uint8))
    return out


def pasted(size: int, seed: int) -> list[Pasted]:
    """Return the photographs with 25 different faces of `size` pixels in each, at places drawn from a seed."""
    rng = np.random.default_rng(seed)
    crops = np.clip(np.load(DATA / "lfw_subset.npy")[:FACES] * 255, 0, 255).astype(np.uint8)
    out = []
    for first, frame in zip(range(0, FACES, ROWS * COLUMNS), backgrounds(), strict=True):
        places = []
        for k in range(ROWS * COLUMNS):
            crop = cv2.resize(crops[first + k], (size, size), interpolation=cv2.INTER_CUBIC)
            y, x = (
                int(c * s + rng.integers(5, s - size - 5))
                for c, s in zip(divmod(k, COLUMNS), CELL, strict=True)
            )
            frame[y : y + size, x : x + size] = crop[:, :, None]
            places.append((x, y, x + size, y + size))
        out.append(Pasted(frame, np.array(places, dtype=np.float64)))
    return out


def shares(box: npt.NDArray[Any], faces: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how much of each face lies in a box, 0 to 1."""
    size = np.minimum(box[2:4], faces[:, 2:]) - np.maximum(box[:2], faces[:, :2])
    inside: npt.NDArray[np.float64] = np.clip(size, 0, None).prod(axis=1)
    return inside / (faces[:, 2:] - faces[:, :2]).prod(axis=1)


def measure(size: int, seeds: tuple[int, ...] = (1, 2, 3)) -> Result:
    """Look at all pictures as masking does. A face is found when one box covers half of its crop."""
    detector, pictures = Detectors()["face"], [p for seed in seeds for p in pasted(size, seed)]
    faces = found = others = 0
    began = time.process_time()
    for picture, places in pictures:
        inside = np.array([shares(box, places) for box in detector.detect(picture)]).reshape(-1, len(places))
        faces += len(places)
        found += int((inside >= 0.5).any(axis=0).sum())
        others += int((inside.max(axis=1, initial=0) == 0).sum())
    return Result(faces, found, others, (time.process_time() - began) / len(pictures) * 1e3)


def main() -> int:
    """Print a row for each size, with the default and with tiles."""
    for size in (24, 25, 28, 32, 36, 40):
        r = measure(size)
        print(
            f"{size} px: {r.found} of {r.faces} ({r.found / r.faces:.3f}), {r.others} others, "
            f"{r.cpu_ms:.0f} ms of CPU a picture"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
