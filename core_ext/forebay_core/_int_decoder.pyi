import numpy as np
import numpy.typing as npt

def decode_ints(
    data: npt.NDArray[np.uint8] | memoryview | bytes,
    start: int,
    out: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int32] | None = None,
    n_groups: int = 0,
) -> int: ...
