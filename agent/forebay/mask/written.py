"""Which lines of text in a picture hold an identifier: what was read goes through the same search as text.

A line that nobody could read is covered as well: it was not looked at. Lines that stand beside each other are
searched as one text, so that a label vouches for what stands behind it on a form.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forebay.blocks import Column, Type
from forebay.errors import MaskError
from forebay.mask.policy import Policy
from forebay.mask.search import search
from forebay_core import text_tables as tables

Boxes = npt.NDArray[np.float64]

LEAST_SCORE = 0.5  # of a reading that can be searched: below, what it says is a guess
UNREAD = 0  # in the place of a class code
_SAME_ROW = 0.5  # share of the lower of two lines that both take in height


class Written:
    """Finds identifiers among the lines of a picture. Used by one thread.

    Parameters
    ----------
    policy : classes that it lets pass, in a stream, stay
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._classes: dict[str, int] = {}

    def find(self, boxes: Boxes, texts: Sequence[str], stream: str = "") -> Boxes:
        """Return the lines to cover, float64 (m, 6): box, score and class code, UNREAD for what could not be read.

        Parameters
        ----------
        boxes : (n, 5), x1 y1 x2 y2 in pixels and the score of the reading
        texts : n, what stands there
        stream : whose classes count

        Raises
        ------
        MaskError
            As many texts as boxes are needed.
        """
        if len(boxes) != len(texts):
            raise MaskError(f"a reader answered with {len(boxes)} boxes and {len(texts)} texts")
        read = np.array([bool(text.strip()) for text in texts], dtype=bool) & (boxes[:, 4] >= LEAST_SCORE)
        codes = np.full(len(boxes), -1)
        codes[~read] = UNREAD
        rows = _rows(boxes, np.flatnonzero(read).tolist())
        column = Column.of(Type.STR, [" ".join(texts[k] for k in row) for row in rows])
        spans, found, _ = search(column, self._wanted(stream), 0)
        for (row, start, end), code in zip(spans.tolist(), found.tolist(), strict=True):
            at = 0
            for k in rows[row]:
                size = len(texts[k].encode())
                if start < at + size and end > at:
                    codes[k] = code
                at += size + 1
        hit = codes >= 0
        return np.concatenate([boxes[hit, :5], codes[hit, None].astype(np.float64)], axis=1)

    def _wanted(self, stream: str) -> int:
        if stream not in self._classes:
            view = self._policy.for_stream(stream)
            if len(self._classes) >= 1024:
                self._classes.clear()
            self._classes[stream] = sum(1 << tables.CODES[name] for name in view.scanned_classes)
        return self._classes[stream]


def _rows(boxes: Boxes, lines: list[int]) -> list[list[int]]:
    """Return the lines, those at one height together and from left to right, from the top down."""
    rows: list[list[int]] = []
    for k in sorted(lines, key=lambda k: float(boxes[k, 1] + boxes[k, 3])):
        top, bottom = boxes[k, 1], boxes[k, 3]
        for row in rows:
            first = boxes[row[0]]
            both = min(bottom, first[3]) - max(top, first[1])
            if both > _SAME_ROW * min(bottom - top, first[3] - first[1]):
                row.append(k)
                break
        else:
            rows.append([k])
    return [sorted(row, key=lambda k: float(boxes[k, 0])) for row in rows]
