import numpy as np
import numpy.typing as npt

def gather(
    values: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    max_bytes: int,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None: ...
def with_runs(
    values: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.uint8],
    least: int,
) -> npt.NDArray[np.int64]: ...
