import numpy as np
import numpy.typing as npt

from forebay_core.row_codes import Buffer

def split_lines(data: Buffer, start: int, final: bool, spans: npt.NDArray[np.int64]) -> int:
    """Find lines from `start` on; a carriage return before the line end is part of it.

    Parameters
    ----------
    data : bytes or uint8 (n,).  IN
    start : offset of the first line
    final : True: what stands after the last line end is a line too
    spans : int64 (m, 4), caller-allocated.  OUT
        start, end (without the line end), where the next record starts, lines before it in this call

    Returns
    -------
    int
        spans written, at most m
    """

def split_csv(data: Buffer, start: int, final: bool, delimiter: int, spans: npt.NDArray[np.int64]) -> int:
    """Find CSV records: as `split_lines`, but a line end inside a quoted cell does not end a record."""

def split_array(data: Buffer, spans: npt.NDArray[np.int64]) -> int:
    """Find the elements of a JSON array by brackets and quotes, not yet judging them.

    Returns how many there are, which may be more than `spans` has room for (call again with more); -1 if
    the text is not one array.
    """
