"""Hampel identifier over a trailing window.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._hampel import hampel
else:
    from forebay_core.reference.hampel import hampel

__all__ = ["hampel"]
