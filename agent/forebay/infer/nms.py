"""Boxes: overlap, and suppression of those that say the same thing twice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forebay_core import image as kernel

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

MAX_CANDIDATES = 4_000  # greedy suppression is quadratic; a hostile picture must not stop the stream


def suppress(boxes: F32, scores: F32, labels: I32, limit: float) -> npt.NDArray[np.int64]:
    """Return the indices of the boxes to keep, best first.

    Parameters
    ----------
    boxes : float32 (n, 4), x1 y1 x2 y2
    scores : float32 (n,)
    labels : int32 (n,); only boxes of one label compete
    limit : intersection over union above which the lesser goes

    Notes
    -----
    Of more than MAX_CANDIDATES boxes the best are taken.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    chosen = np.ascontiguousarray(boxes[order], dtype=np.float32)
    keep = np.empty(len(order), dtype=np.uint8)
    ranks = np.arange(len(order), dtype=np.int64)
    kernel.suppress(chosen, ranks, np.ascontiguousarray(labels[order], dtype=np.int32), limit, keep)
    kept: npt.NDArray[np.int64] = order[keep.astype(bool)]
    return kept


def drop_parts(
    boxes: F32, scores: F32, labels: I32, passes: I32, limit: float, lesser: float
) -> npt.NDArray[np.bool_]:
    """Return which boxes are not mostly inside a better or larger one that another pass saw.

    A tile's edge cuts an object in two; the part then overlaps the whole too little for suppression.

    Parameters
    ----------
    limit : share of a box inside a larger one from which it is a part of that
    lesser : share of a box inside one of a higher score from which it is the same thing seen worse
    """
    keep = np.ones(len(boxes), dtype=bool)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in range(len(boxes)):
        size = np.minimum(boxes[i, 2:], boxes[:, 2:]) - np.maximum(boxes[i, :2], boxes[:, :2])
        share = np.clip(size, 0, None).prod(axis=1) / max(float(areas[i]), 1e-6)
        other = (labels == labels[i]) & (passes != passes[i])
        part = (share > limit) & (areas > areas[i])
        worse = (share > lesser) & (scores > scores[i])
        keep[i] = not bool((other & (part | worse)).any())
    return keep
