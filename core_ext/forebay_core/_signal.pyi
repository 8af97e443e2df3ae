import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

def deadband(
    values: F64,
    codes: U8,
    time: I64,
    groups: I32,
    absolute: float,
    relative: float,
    max_silence_ns: int,
    last_value: F64,
    last_time: I64,
    reported: U8,
    out: U8,
) -> int: ...
def scale(values: F64, codes: U8, multiply: float, add: float, divide: float, out: F64) -> None: ...
def validate(
    values: F64,
    codes: U8,
    time: I64,
    groups: I32,
    low: float,
    high: float,
    max_rate: float,
    stuck_ns: int,
    rate_value: F64,
    rate_time: I64,
    stuck_value: F64,
    stuck_since: I64,
    seen: U8,
    out: U8,
) -> int: ...
