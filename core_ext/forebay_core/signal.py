"""Sample by sample checks with a state per key (validate, deadband, carry, latch), and scale.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._signal import carry, deadband, latch, scale, validate
else:
    from forebay_core.reference.signal import carry, deadband, latch, scale, validate

__all__ = ["carry", "deadband", "latch", "scale", "validate"]
