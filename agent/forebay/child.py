"""How modules of ours are run in processes of their own: with this interpreter, and with what this one imports from.

A package may stand outside the interpreter's own folders (a checkout, /usr/lib/forebay), so the search path is handed
on. The working directory is not searched: a file there could pass for a module.
"""

from __future__ import annotations

import os
import sys


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Return the environment that goes with it."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
