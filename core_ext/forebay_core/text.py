"""Find identifiers in a UTF-8 column: the compiled kernel, or its twin under FOREBAY_PURE=1."""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._text import decimal_text, long_floats, long_ints, scan
else:
    from forebay_core.reference.text import decimal_text, long_floats, long_ints, scan

__all__ = ["decimal_text", "long_floats", "long_ints", "scan"]
