import numpy as np
import numpy.typing as npt

def encode_residuals(residuals: npt.NDArray[np.uint64], entropy: bool = True) -> tuple[int, bytes]: ...
def decode_residuals(
    data: npt.NDArray[np.uint8] | memoryview | bytes,
    start: int,
    coder: int,
    out: npt.NDArray[np.uint64],
) -> int: ...
