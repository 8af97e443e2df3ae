"""Reference twin of forebay_core._grouping; see there for the conventions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def factorize(
    values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Give every distinct cell of a str column a code, in order of first appearance."""
    if len(offsets) == 0:
        raise ValueError("expected at least one offset, found none")
    data, ends = values.tobytes(), offsets.tolist()
    codes = np.empty(len(ends) - 1, dtype=np.int32)
    known: dict[bytes, int] = {}
    first: list[int] = []
    for row in range(len(ends) - 1):
        start, end = ends[row], ends[row + 1]
        if not 0 <= start <= end <= len(data):
            raise ValueError("offsets decrease or point outside the values")
        code = known.setdefault(data[start:end], len(known))
        if code == len(first):
            first.append(row)
        codes[row] = code
    return codes, np.array(first, dtype=np.int64)


def group_rows(
    codes: npt.NDArray[np.int32], groups: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the stable order that puts the rows of each group together."""
    if groups < 0:
        raise ValueError("the number of groups is negative")
    if len(codes) and (codes.min() < 0 or codes.max() >= groups):
        raise ValueError("a code is outside the number of groups")
    bounds = np.zeros(groups + 1, dtype=np.int64)
    np.cumsum(np.bincount(codes, minlength=groups)[:groups], out=bounds[1:])
    return np.argsort(codes, kind="stable").astype(np.int64), bounds
