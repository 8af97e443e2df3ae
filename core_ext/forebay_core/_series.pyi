import numpy as np
import numpy.typing as npt

TRACK_WIDTH: int

def windows(
    values: npt.NDArray[np.float64],
    time: npt.NDArray[np.int64],
    series: npt.NDArray[np.int32],
    ring: npt.NDArray[np.float32],
    stamp: npt.NDArray[np.int64],
    track: npt.NDArray[np.float64],
    memory: float,
    out: npt.NDArray[np.float32],
    ready: npt.NDArray[np.uint8],
) -> None:
    """Write the model input of each cell and take the cell into its series' state.

    Parameters
    ----------
    values : float64 (n,), cells in order of arrival; one that is NaN or beyond 1e150 is passed over.  IN
    time : int64 (n,), ns.  IN
    series : int32 (n,), row of the cell's series in the state arrays.  IN
    ring : float32 (k, width), last differences of each series, oldest first.  IN and OUT
    stamp : int64 (k,), ns, time of each series' last value.  IN and OUT
    track : float64 (k, TRACK_WIDTH), what each series has learned.  IN and OUT
    memory : values after which the running means forget exponentially
    out : float32 (n, width + 2), 0 where not ready.  OUT
    ready : uint8 (n,), 1 where the window is full.  OUT

    Raises
    ------
    ValueError
        If shapes do not agree or a series number is out of range; nothing is changed then.

    Notes
    -----
    O(n * width). A gap of 20 mean intervals empties the window. A series that has never changed is not ready.
    """

def surprise(
    error: npt.NDArray[np.float32],
    series: npt.NDArray[np.int32],
    track: npt.NDArray[np.float64],
    memory: float,
    calibration: float,
    score: npt.NDArray[np.float64],
) -> None:
    """Write the score 0..1 of each error and take the error into its series' state.

    Parameters
    ----------
    error : float32 (n,), the model's output in order of arrival; one that is not finite is passed over.  IN
    series : int32 (n,).  IN
    track : float64 (k, TRACK_WIDTH).  IN and OUT
    memory : errors after which what was learned is forgotten exponentially
    calibration : errors of a series before its first score
    score : float64 (n,), -1 where there is none.  OUT

    Raises
    ------
    ValueError
        If shapes do not agree or a series number is out of range; nothing is changed then.

    References
    ----------
    H. Robbins, S. Monro, "A stochastic approximation method", Ann. Math. Stat. 22 (1951).
    """
