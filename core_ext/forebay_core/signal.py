"""Sample by sample checks with a state per key (validate, deadband), and scale.

Compiled, or the reference twin under FOREBAY_PURE=1.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._signal import deadband, scale, validate
else:
    from forebay_core.reference.signal import deadband, scale, validate

__all__ = ["deadband", "scale", "validate"]
