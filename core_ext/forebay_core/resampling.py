"""Resampling of the rows of many keys.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._resampling import advance
else:
    from forebay_core.reference.resampling import advance

__all__ = ["advance"]
