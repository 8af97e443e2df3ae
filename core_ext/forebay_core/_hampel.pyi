import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

def hampel(
    values: F64,
    codes: U8,
    order: I64,
    bounds: I64,
    slots: I64,
    window: int,
    n_sigmas: float,
    min_deviation: float,
    history: F64,
    filled: I64,
    spikes: U8,
    medians: F64,
) -> int: ...
