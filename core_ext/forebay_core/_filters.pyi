import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

def crossings(values: F64, starts: I64, ends: I64, levels: F64, hysteresis: float, out: I64) -> None: ...
def gaps(
    time: I64,
    groups: I32,
    every_ns: int,
    longest_ns: int,
    back_ns: int,
    last_time: I64,
    seen: U8,
    since: I64,
    missed: I32,
) -> int: ...
def smooth(
    values: F64,
    codes: U8,
    time: I64,
    groups: I32,
    tau_ns: float,
    level: F64,
    level_time: I64,
    seen: U8,
    out: F64,
) -> None: ...
