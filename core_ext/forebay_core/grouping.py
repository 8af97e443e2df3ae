"""Rows to groups: dictionary codes of a key column, and the order that puts each group together.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._grouping import factorize, group_rows
else:
    from forebay_core.reference.grouping import factorize, group_rows

__all__ = ["factorize", "group_rows"]
