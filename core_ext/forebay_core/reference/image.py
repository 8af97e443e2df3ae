"""Twin of _image.pyx in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def _sources(
    count: int, length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return lower and upper neighbours of each output place, and the upper one's weight."""
    place = (np.arange(count, dtype=np.float64) + 0.5) * (float(length) / float(count)) - 0.5
    base = np.floor(place)
    low = np.clip(base, 0, length - 1).astype(np.int64)
    inside = (place > 0.0) & (base < length - 1)
    return low, np.where(inside, low + 1, low), np.where(inside, place - base, 0.0)


def fit(
    frame: npt.NDArray[np.uint8],
    out: npt.NDArray[np.float32],
    height: int,
    width: int,
    top: int,
    left: int,
    inner_height: int,
    inner_width: int,
    mean: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    rgb: bool,
    planar: bool,
    pad: float,
) -> None:
    """See _image.pyi."""
    if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ValueError("expected a frame (h, w, 3) that is not empty")
    if frame.strides[1:] != (3, 1):
        raise ValueError("expected a frame whose pixels lie side by side in a row")
    if len(mean) != 3 or len(scale) != 3 or len(out) != 3 * height * width:
        raise ValueError("array shapes do not agree")
    inside = top >= 0 and left >= 0 and top + inner_height <= height and left + inner_width <= width
    if min(height, width, inner_height, inner_width) < 1 or not inside:
        raise ValueError("the placed image does not lie within the output")
    upper, lower, weight = _sources(inner_height, frame.shape[0])
    k = (weight * 256.0 + 0.5).astype(np.uint16)[:, None, None]
    rows = (frame[upper] * (np.uint16(256) - k) + frame[lower] * k).astype(np.float32)
    a, b, across = _sources(inner_width, frame.shape[1])
    low = rows[:, a]
    image = low + (rows[:, b] - low) * across.astype(np.float32)[None, :, None]
    image = image * (scale / np.float32(256.0)) + -mean * scale
    if rgb:
        image = image[:, :, ::-1]
    view = out.reshape((3, height, width)).transpose(1, 2, 0) if planar else out.reshape((height, width, 3))
    if (inner_height, inner_width) != (height, width):
        out[:] = pad
    view[top : top + inner_height, left : left + inner_width] = image


def suppress(
    boxes: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int32],
    limit: float,
    keep: npt.NDArray[np.uint8],
) -> None:
    """See _image.pyi."""
    n = len(boxes)
    if not len(order) == len(labels) == len(keep) == n or boxes.shape[1] != 4:
        raise ValueError("array shapes do not agree")
    if n and (order.min() < 0 or order.max() >= n):
        raise ValueError("order is not a permutation")
    keep[:] = 1
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i, a in enumerate(order.tolist()):
        if not keep[a]:
            continue
        rest = order[i + 1 :]
        size = np.minimum(boxes[a, 2:], boxes[rest, 2:]) - np.maximum(boxes[a, :2], boxes[rest, :2])
        both = size[:, 0] * size[:, 1]
        hit = (size > 0.0).all(axis=1) & (labels[rest] == labels[a])
        union = areas[a] + areas[rest] - both
        overlap = np.divide(both, union, out=np.zeros_like(both), where=hit & (union != 0.0))
        keep[rest[hit & (overlap > np.float32(limit))]] = 0
