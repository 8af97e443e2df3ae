"""Statistics of time windows that follow each other, in one pass.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._tumbling import ACCUMULATED, accumulate, finish, tumble
else:
    from forebay_core.reference.tumbling import ACCUMULATED, accumulate, finish, tumble

__all__ = ["ACCUMULATED", "accumulate", "finish", "tumble"]
