"""What an alarm keeps per key: the last value of a field (carry), whether it is raised (latch).

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._alarm import carry, latch
else:
    from forebay_core.reference.alarm import carry, latch

__all__ = ["carry", "latch"]
