import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

MOMENTS: tuple[str, ...]

def moments(values: F64, starts: I64, ends: I64, out: F64) -> None: ...
def panes(
    time: I64,
    groups: I32,
    pane_ns: int,
    max_back: int,
    max_rows: int,
    open_pane: I64,
    open_rows: I64,
    pane: I64,
    kind: U8,
) -> None: ...
def percentiles(values: F64, starts: I64, ends: I64, probabilities: F64, out: F64) -> None: ...
