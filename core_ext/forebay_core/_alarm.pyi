import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]

def carry(values: F64, codes: U8, groups: I32, last: F64, known: U8, out: F64, out_known: U8) -> None: ...
def latch(
    when: I8,
    clear: I8,
    time: I64,
    groups: I32,
    when_ns: int,
    clear_ns: int,
    raised: U8,
    timing: U8,
    since: I64,
    out: I8,
) -> int: ...
