"""Exponential smoothing, gaps, level crossings.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._filters import crossings, gaps, smooth
else:
    from forebay_core.reference.filters import crossings, gaps, smooth

__all__ = ["crossings", "gaps", "smooth"]
