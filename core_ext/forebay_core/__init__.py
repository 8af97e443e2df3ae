"""The compiled core of Forebay, or its reference twins under FOREBAY_PURE=1 or in a build made with it.

There is no silent fallback: otherwise a missing extension is an ImportError. `IMPLEMENTATION`
says which one runs. Import a kernel module as `from forebay_core import codec`.
"""

import os

_WANTED_PURE = os.environ.get("FOREBAY_PURE", "") not in ("", "0")
_BUILT_PURE = os.path.exists(os.path.join(os.path.dirname(__file__), "PURE"))  # setup.py writes it

IMPLEMENTATION: str = "pure" if _WANTED_PURE or _BUILT_PURE else "compiled"

__all__ = ["IMPLEMENTATION"]
