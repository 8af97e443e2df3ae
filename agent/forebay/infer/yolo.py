"""Decoding of YOLO-style heads, for models of your own. No weights come with Forebay: see docs/images-and-video.md.

| version | output | box | score |
|---|---|---|---|
| v5, v6, v7 | (1, n, 5 + classes) | cx cy w h | objectness x class |
| x (YOLOX) | (1, n, 5 + classes) | cx cy w h in cells of strides 8, 16, 32, sizes as logarithm | objectness x class |
| v8, v9, v11, v12 | (1, 4 + classes, n), or transposed | cx cy w h | class |
| v10, and any version exported with its own suppression | (1, n, 6) | x1 y1 x2 y2 | score, then the class's number |
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from forebay.errors import ModelError
from forebay.infer.decoders import F32, Decoder, Found, corners, sigmoid
from forebay.infer.manifest import YoloDecoding

STRIDES = (8, 16, 32)


def make(options: YoloDecoding, classes: int) -> Decoder:
    """Return the decoder of a manifest.

    Parameters
    ----------
    options : its `decoding`
    classes : number of its labels

    Notes
    -----
    The decoder raises ModelError where the output's shape does not fit version and labels.
    """

    def decode(outputs: list[F32], height: int, width: int, threshold: float) -> Found:
        rows = _rows(outputs[0], options.version, classes)
        if options.version == "v10":
            boxes, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5]
            keep = scores >= threshold
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
            return _pixels(boxes, options, height, width), scores, labels.astype(np.int32)
        first = 5 if options.version in _WITH_OBJECTNESS else 4
        told = rows[:, 4:] if options.scores == "probability" else sigmoid(rows[:, 4:])
        each = told[:, first - 4 :]
        labels = each.argmax(axis=1).astype(np.int32)
        scores = np.take_along_axis(each, labels[:, None], axis=1)[:, 0]
        if first == 5:
            scores = scores * told[:, 0]
        keep = scores >= threshold
        centres = rows[:, :4]
        if options.version == "x":
            centres = _from_cells(centres, height, width)
        cx, cy, w, h = centres[keep].T
        return _pixels(corners(cx, cy, w, h), options, height, width), scores[keep], labels[keep]

    return decode


_WITH_OBJECTNESS = ("v5", "v6", "v7", "x")
_PLANAR = ("v8", "v9", "v11", "v12")


def _rows(output: F32, version: str, classes: int) -> F32:
    """Return the output as (n, values of a box). Raises ModelError."""
    values = 6 if version == "v10" else (5 if version in _WITH_OBJECTNESS else 4) + classes
    shape = output.shape
    made: F32 | None = None
    if output.ndim == 3 and shape[0] == 1:
        if version in _PLANAR and shape[1] == values:
            made = output[0].T
        elif shape[2] == values:
            made = output[0]
    if made is not None:
        return made
    raise ModelError(
        f"expected YOLO {version} output of {values} values a box, found {list(output.shape)}",
        hint=f"`labels` has {classes} names; does `decoding.version` fit the export?",
    )


def _pixels(boxes: F32, options: YoloDecoding, height: int, width: int) -> F32:
    if options.boxes == "share":
        boxes = boxes * np.array([width, height, width, height], dtype=np.float32)
    return np.ascontiguousarray(boxes, dtype=np.float32)


@lru_cache(maxsize=4)
def _cells(height: int, width: int) -> F32:
    """Return (n, 3): column, row and stride of each cell."""
    out = []
    for stride in STRIDES:
        y, x = np.meshgrid(np.arange(height // stride), np.arange(width // stride), indexing="ij")
        out.append(np.stack([x.reshape(-1), y.reshape(-1), np.full(x.size, stride)], axis=1))
    return np.concatenate(out).astype(np.float32)


def _from_cells(codes: F32, height: int, width: int) -> F32:
    cells = _cells(height, width)
    if len(cells) != len(codes):
        raise ModelError(
            f"expected {len(cells)} boxes for an input of {width} x {height}, found {len(codes)}"
        )
    stride = cells[:, 2:]
    centres = (codes[:, :2] + cells[:, :2]) * stride
    sizes = np.exp(np.minimum(codes[:, 2:], 10)) * stride
    return np.concatenate([centres, sizes], axis=1).astype(np.float32)
