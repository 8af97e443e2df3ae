"""Statistics of windows, panes of time windows.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._windows import MOMENTS, moments, panes, percentiles
else:
    from forebay_core.reference.windows import MOMENTS, moments, panes, percentiles

__all__ = ["MOMENTS", "moments", "panes", "percentiles"]
