import numpy as np
import numpy.typing as npt

PASS: int
KEEP: int
REPLACE: int
REMOVE: int

def splice(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    spans: npt.NDArray[np.int64],
    codes: npt.NDArray[np.uint8],
    which: npt.NDArray[np.int64],
    rules: npt.NDArray[np.int64],
    new_data: npt.NDArray[np.uint8],
    new_offsets: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]: ...
