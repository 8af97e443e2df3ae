"""The compiled core of Forebay, or its reference twins under FOREBAY_PURE=1.

There is no silent fallback: without FOREBAY_PURE a missing extension is an ImportError. `IMPLEMENTATION`
says which one runs. Import a kernel module as `from forebay_core import codec`.
"""

import os

IMPLEMENTATION: str = "pure" if os.environ.get("FOREBAY_PURE", "") not in ("", "0") else "compiled"

__all__ = ["IMPLEMENTATION"]
