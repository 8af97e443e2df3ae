"""From a detector's raw outputs to boxes in pixels of its input.

Each decoder is a function of the outputs (in the manifest's order), the input's height and width and the
least score; it returns boxes float32 (n, 4) x1 y1 x2 y2, scores float32 (n,), classes int32 (n,), not yet
suppressed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from forebay.errors import ModelError
from forebay.pictures import load_cv2

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Found = tuple[F32, F32, I32]
Decoder = Callable[[list[F32], int, int, float], Found]


def check_shapes(outputs: list[F32], *expected: tuple[int, ...]) -> None:
    """Raise ModelError for an output of another shape than a decoder reads; 0 stands for any size."""
    for k, (output, shape) in enumerate(zip(outputs, expected, strict=False), 1):
        fits = output.ndim == len(shape) and all(
            w in (0, s) for s, w in zip(output.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("n" if w == 0 else str(w) for w in shape)
            raise ModelError(
                f"output {k} of the manifest: expected [{wanted}], found {list(output.shape)}",
                hint="do the order of `outputs`, `decoder` and the input's size go together?",
            )


def sigmoid(x: F32) -> F32:
    """Return probabilities of logits."""
    out = 1.0 / (1.0 + np.exp(-np.clip(x, -80.0, 80.0)))
    return out.astype(np.float32)


def corners(cx: F32, cy: F32, w: F32, h: F32) -> F32:
    """Return (n, 4) x1 y1 x2 y2 of boxes given by centre and size."""
    return np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=1).astype(np.float32)


@lru_cache(maxsize=4)
def ssd_anchors(height: int, width: int) -> F32:
    """Return (n, 4) cx cy w h in 0..1: six layers, scales 0.2 to 0.95.

    The lowest layer is reduced to three boxes; each further one has five ratios and the geometric mean of its
    scale and the next (Liu et al., "SSD", 2016, section 2.2).
    """
    strides, scales = (16, 32, 64, 128, 256, 512), [0.2 + 0.15 * k for k in range(6)] + [1.0]
    out = []
    for k, stride in enumerate(strides):
        s = scales[k]
        if k == 0:
            shapes = [(0.1, 1.0), (s, 2.0), (s, 0.5)]
        else:
            shapes = [(s, r) for r in (1.0, 2.0, 0.5, 3.0, 0.3333)]
            shapes.append((float(np.sqrt(s * scales[k + 1])), 1.0))
        rows, columns = -(-height // stride), -(-width // stride)
        sizes = np.array([(s * np.sqrt(r), s / np.sqrt(r)) for s, r in shapes])
        y, x = np.meshgrid(
            (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij"
        )
        centres = np.stack([x, y], axis=2).reshape(-1, 1, 2).repeat(len(shapes), axis=1)
        out.append(np.concatenate([centres, np.broadcast_to(sizes, centres.shape)], axis=2).reshape(-1, 4))
    return np.concatenate(out).astype(np.float32)


def ssd(outputs: list[F32], height: int, width: int, threshold: float) -> Found:
    """Outputs: box codes (1, n, 4) cy cx h w times 10, 10, 5, 5; logits (1, n, c), class 0 is background."""
    anchors = ssd_anchors(height, width)
    check_shapes(outputs, (1, len(anchors), 4), (1, len(anchors), 0))
    codes, scores = outputs[0][0], sigmoid(outputs[1][0])
    rows, classes = np.nonzero(scores[:, 1:] >= threshold)
    a, c = anchors[rows], codes[rows]
    cy, cx = c[:, 0] / 10 * a[:, 3] + a[:, 1], c[:, 1] / 10 * a[:, 2] + a[:, 0]
    h, w = np.exp(np.minimum(c[:, 2] / 5, 10)) * a[:, 3], np.exp(np.minimum(c[:, 3] / 5, 10)) * a[:, 2]
    size = np.array([width, height, width, height], dtype=np.float32)
    return corners(cx, cy, w, h) * size, scores[rows, classes + 1], (classes + 1).astype(np.int32)


def centerface(outputs: list[F32], height: int, width: int, threshold: float) -> Found:
    """Outputs at a quarter of the input: heat (1, 1, h, w), log sizes, offsets (1, 2, h, w), y before x."""
    check_shapes(outputs, *((1, planes, height // 4, width // 4) for planes in (1, 2, 2)))
    heat, size, offset = outputs[0][0, 0], outputs[1][0], outputs[2][0]
    y, x = np.nonzero(heat >= threshold)
    h, w = (np.exp(np.minimum(size[k, y, x], 10)) * 4 for k in (0, 1))
    cy, cx = (y + offset[0, y, x] + 0.5) * 4, (x + offset[1, y, x] + 0.5) * 4
    boxes = corners(cx.astype(np.float32), cy.astype(np.float32), w, h)
    return boxes, heat[y, x], np.zeros(len(y), dtype=np.int32)


@lru_cache(maxsize=4)
def blazeface_anchors(height: int, width: int) -> F32:
    """Return (n, 2) centres in pixels: strides 8 (two a cell) and 16 (six a cell)."""
    out = []
    for stride, per_cell in ((8, 2), (16, 6)):
        y, x = np.meshgrid(np.arange(height // stride), np.arange(width // stride), indexing="ij")
        centres = (np.stack([x, y], axis=2).reshape(-1, 2) + 0.5) * stride
        out.append(centres.repeat(per_cell, axis=0))
    return np.concatenate(out).astype(np.float32)


def blazeface(outputs: list[F32], height: int, width: int, threshold: float) -> Found:
    """Outputs: regressors (1, n, 16), cx cy w h in pixels first; logits (1, n, 1)."""
    anchors = blazeface_anchors(height, width)
    check_shapes(outputs, (1, len(anchors), 16), (1, len(anchors), 1))
    scores = sigmoid(outputs[1][0, :, 0])
    rows = np.flatnonzero(scores >= threshold)
    r, centres = outputs[0][0][rows], anchors[rows]
    boxes = corners(r[:, 0] + centres[:, 0], r[:, 1] + centres[:, 1], r[:, 2], r[:, 3])
    return boxes, scores[rows], np.zeros(len(rows), dtype=np.int32)


@lru_cache(maxsize=16)
def retinaface_priors(height: int, width: int) -> F32:
    """Return (n, 4) cx cy w h in pixels: two square priors a cell at strides 8, 16, 32."""
    out = []
    for stride, sizes in ((8, (24, 48)), (16, (96, 192)), (32, (384, 768))):
        y, x = np.meshgrid(np.arange(-(-height // stride)), np.arange(-(-width // stride)), indexing="ij")
        centres = (np.stack([x, y], axis=2).reshape(-1, 1, 2) + 0.5) * stride
        both = np.broadcast_to(np.array(sizes)[:, None], (2, 2))
        parts = [np.broadcast_to(part, (len(centres), 2, 2)) for part in (centres, both)]
        out.append(np.concatenate(parts, axis=2).reshape(-1, 4))
    return np.concatenate(out).astype(np.float32)


def retinaface(outputs: list[F32], height: int, width: int, threshold: float) -> Found:
    """Outputs: codes (1, n, 4) with variances 0.1 and 0.2; softmax (1, n, 2). Corner points are not used."""
    priors = retinaface_priors(height, width)
    check_shapes(outputs, (1, len(priors), 4), (1, len(priors), 2))
    scores = outputs[1][0, :, 1]
    rows = np.flatnonzero(scores >= threshold)
    c, p = outputs[0][0][rows], priors[rows]
    cx, cy = p[:, 0] + c[:, 0] * 0.1 * p[:, 2], p[:, 1] + c[:, 1] * 0.1 * p[:, 3]
    w, h = (np.exp(np.minimum(c[:, k] * 0.2, 10)) * p[:, k] for k in (2, 3))
    return corners(cx, cy, w, h), scores[rows], np.zeros(len(rows), dtype=np.int32)


DB_CORE = 0.3  # probability from which a pixel belongs to the core of a line
DB_GROW = 1.6  # the core is a shrunk line: how much it is grown back (Liao et al., "DB", 2020, section 3.5)
DB_LEAST = 3  # pixels on each side of a core; less is noise


def dbnet(outputs: list[F32], height: int, width: int, threshold: float) -> Found:
    """Output: a map (1, 1, h, w) of the cores of text lines. A core's score is its mean probability."""
    check_shapes(outputs, (1, 1, height, width))
    cv2 = load_cv2("text")
    heat = np.ascontiguousarray(outputs[0][0, 0])
    count, marks, stats, _ = cv2.connectedComponentsWithStats(
        (heat >= DB_CORE).astype(np.uint8), connectivity=8
    )
    totals = np.bincount(marks.reshape(-1), weights=heat.reshape(-1), minlength=count)
    x, y, w, h, area = stats[1:].astype(np.float32).T
    scores = (totals[1:] / np.maximum(area, 1)).astype(np.float32)
    rows = np.flatnonzero((scores >= threshold) & (w >= DB_LEAST) & (h >= DB_LEAST))
    x, y, w, h = x[rows], y[rows], w[rows], h[rows]
    grow = DB_GROW * w * h / (2 * (w + h))
    boxes = np.stack([x - grow, y - grow, x + w + grow, y + h + grow], axis=1).astype(np.float32)
    return boxes, scores[rows], np.zeros(len(rows), dtype=np.int32)


DECODERS: dict[str, Decoder] = {
    "dbnet": dbnet,
    "ssd": ssd,
    "centerface": centerface,
    "blazeface": blazeface,
    "retinaface": retinaface,
}
