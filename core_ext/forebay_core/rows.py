"""Records to columns: the compiled kernel, or its twin under FOREBAY_PURE=1."""

from typing import TYPE_CHECKING

from forebay_core import IMPLEMENTATION

if TYPE_CHECKING or IMPLEMENTATION == "compiled":
    from forebay_core._rows import RowParser
else:
    from forebay_core.reference.rows import RowParser

__all__ = ["RowParser"]
