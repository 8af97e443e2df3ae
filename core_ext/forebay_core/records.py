"""Bounds of records: the compiled kernel, or its twin under FOREBAY_PURE=1."""

from typing import TYPE_CHECKING

from forebay_core import IMPLEMENTATION

if TYPE_CHECKING or IMPLEMENTATION == "compiled":
    from forebay_core._records import split_array, split_csv, split_lines
else:
    from forebay_core.reference.records import split_array, split_csv, split_lines

__all__ = ["split_array", "split_csv", "split_lines"]
