import numpy as np
import numpy.typing as npt

def factorize(
    values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]: ...
def group_rows(
    codes: npt.NDArray[np.int32], groups: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...
