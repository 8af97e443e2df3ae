"""A frame to a model's input, and suppression of overlapping boxes: the compiled kernel or its twin."""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from ._image import fit, suppress
else:
    from .reference.image import fit, suppress

__all__ = ["fit", "suppress"]
