import numpy as np
import numpy.typing as npt

def scan(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    classes: int,
    context: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]: ...
def decimal_text(
    values: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]: ...
def long_floats(
    values: npt.NDArray[np.float64], least: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...
def long_ints(
    values: npt.NDArray[np.int64], least: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...
