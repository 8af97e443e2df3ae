import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

ACCUMULATED: int

def accumulate(values: F64, codes: U8, groups: I32, kind: U8, state: F64, out: F64) -> None: ...
def finish(state: F64, groups: I64, out: F64) -> None: ...
def tumble(
    time: I64,
    groups: I32,
    pane_ns: int,
    max_back: int,
    max_rows: int,
    open_pane: I64,
    open_rows: I64,
    kind: U8,
    closed_pane: I64,
    closed_group: I32,
) -> int: ...
