"""Integer streams, residuals and decimals of the wire codec: compiled, or the reference twins.

See the .pyi files beside this one for shapes and errors, docs/wire-format.md for the bytes.
"""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from ._decimals import from_decimal, from_ordered, to_decimal, to_ordered
    from ._int_decoder import decode_ints
    from ._int_encoder import encode_ints
    from ._residuals import decode_residuals, encode_residuals
else:
    from .reference.codec import decode_ints, encode_ints
    from .reference.decimals import from_decimal, from_ordered, to_decimal, to_ordered
    from .reference.residuals import decode_residuals, encode_residuals

__all__ = [
    "decode_ints",
    "decode_residuals",
    "encode_ints",
    "encode_residuals",
    "from_decimal",
    "from_ordered",
    "to_decimal",
    "to_ordered",
]
