"""Replace found spans of a column: the compiled kernel, or its twin under FOREBAY_PURE=1."""

from forebay_core import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from forebay_core._splice import KEEP, PASS, REMOVE, REPLACE, splice
else:
    from forebay_core.reference.splice import KEEP, PASS, REMOVE, REPLACE, splice

__all__ = ["KEEP", "PASS", "REMOVE", "REPLACE", "splice"]
