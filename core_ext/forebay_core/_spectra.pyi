import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

def band_energies(spectra: F64, n: int, firsts: I64, lasts: I64, out: F64) -> None: ...
def goertzel(windows: F64, turns: F64, out: F64) -> None: ...
