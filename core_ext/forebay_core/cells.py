"""Cells of string and bytes columns: compiled, or the reference twin under FOREBAY_PURE=1."""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._cells import gather, with_runs
else:
    from forebay_core.reference.cells import gather, with_runs

__all__ = ["gather", "with_runs"]
