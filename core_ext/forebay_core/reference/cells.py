"""Reference twin of _cells.pyx."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt


def _check_offsets(values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
    if not len(offsets) or offsets[0] < 0 or offsets[-1] > len(values) or (np.diff(offsets) < 0).any():
        raise ValueError("expected ascending offsets within the values")


def gather(
    values: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    max_bytes: int,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None:
    """Return the cells at `index`, None if they would exceed max_bytes."""
    _check_offsets(values, offsets)
    if len(index) and (index.min() < 0 or index.max() >= len(offsets) - 1):
        raise ValueError(f"expected an index from 0 to {len(offsets) - 2}")
    lengths = np.diff(offsets)[index]
    taken = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(lengths, out=taken[1:])
    if taken[-1] > max_bytes:
        return None
    data, starts = values.tobytes(), offsets[:-1][index].tolist()
    cells = b"".join(data[a : a + size] for a, size in zip(starts, lengths.tolist(), strict=True))
    return np.frombuffer(bytearray(cells), dtype=np.uint8), taken


def with_runs(
    values: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.uint8],
    least: int,
) -> npt.NDArray[np.int64]:
    """Return the cells that hold `least` wanted bytes in a row."""
    _check_offsets(values, offsets)
    if len(wanted) != 256 or least < 1:
        raise ValueError("expected a table of 256 bytes and a run of at least 1")
    found = []
    for row, (start, end) in enumerate(pairwise(offsets.tolist())):
        others = np.flatnonzero(wanted[values[start:end]] == 0)
        edges = np.concatenate([[-1], others, [end - start]])
        if int(np.diff(edges).max()) > least:
            found.append(row)
    return np.array(found, dtype=np.int64)
