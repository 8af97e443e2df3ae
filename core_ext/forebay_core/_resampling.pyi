import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

def advance(
    time: I64,
    values: F64,
    codes: U8,
    bounds: I64,
    final: U8,
    every_ns: int,
    max_gap_ns: int,
    method: int,
    first: I64,
    made: I64,
    needed: I64,
    out_time: I64,
    out_values: F64,
    out_codes: U8,
) -> int: ...
