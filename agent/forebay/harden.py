"""No core dump of a process that sees data before it is masked: it would put all of its memory on disk."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def no_core_dumps() -> None:
    """Shut this process's core dumps off. A program that it runs anew must call this, too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A core pattern that pipes to a program ignores the limit; a process that is not dumpable has no core.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
