"""Records to columns: the compiled kernel, or its twin under FOREBAY_PURE=1."""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay_core import IMPLEMENTATION

Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]
TakenColumn: TypeAlias = tuple[bytes, bytes | None, bytes | None]

if TYPE_CHECKING:
    from forebay_core._rows import RowParser
elif IMPLEMENTATION == "compiled":
    from forebay_core._rows import RowParser
else:
    from forebay_core.reference.rows import RowParser

__all__ = ["Buffer", "RowParser", "TakenColumn"]
