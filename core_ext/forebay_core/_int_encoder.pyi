import numpy as np
import numpy.typing as npt

def encode_ints(
    values: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int32] | None = None,
    n_groups: int = 0,
    entropy: bool = True,
    kind: int = 0,
) -> bytes: ...
