"""What the agent does about its own memory: few malloc arenas, and no start-up code kept resident.

A start runs through 20 MB of libraries' code once. The kernel maps it 64 KiB at a time and leaves it mapped,
so an idle agent counts pages as resident that it never uses again. Giving them up costs a page fault, without
disk, for each that is used after all: they stay in the page cache for as long as nobody needs the room.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path

_M_ARENA_MAX = -8  # malloc.h
_MADV_DONTNEED = 4
_ARENAS = 2  # glibc would make eight a core: a dozen threads that mostly wait would hold as many
_SMAPS = Path("/proc/self/smaps")
# Libraries only: they are never unmapped, so that nothing else can take their place between look and deed.
_LIBRARY = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ +/.*\.so(?:\.[0-9.]+)?")


def bound_arenas() -> None:
    """Let threads share malloc's arenas. Before threads start; without effect where the C library has none."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _ARENAS)


def release_start_pages() -> int:
    """Give up resident pages of code and constants that start-up has read; return the bytes they had.

    Only of private mappings of libraries that cannot be written and that hold no page of our own (`Anonymous` 0:
    neither relocated nor set with a breakpoint), so that what comes back is what was there.
    """
    gc.collect()
    released = 0
    try:
        clean = list(_clean_mappings(_SMAPS.read_text(encoding="utf-8", errors="surrogateescape")))
        libc = ctypes.CDLL(None, use_errno=True)
    except OSError:
        return 0
    for start, end, resident in clean:
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED) == 0:
            released += resident
    return released


def _clean_mappings(smaps: str) -> list[tuple[int, int, int]]:
    """Return start, end and resident bytes of the mappings that may be given up."""
    found: list[tuple[int, int, int]] = []
    mapping: tuple[int, int] | None = None
    resident = 0
    for line in smaps.splitlines():
        match = _LIBRARY.fullmatch(line)
        if match is not None:
            may = "w" not in match[3] and match[3].endswith("p")
            mapping = (int(match[1], 16), int(match[2], 16)) if may else None
        elif not line[:1].isupper():  # the head of another mapping
            mapping = None
        elif mapping is not None and line.startswith("Rss:"):
            resident = int(line.split()[1]) * 1024
        elif mapping is not None and line.startswith("Anonymous:") and line.split()[1] == "0" and resident:
            found.append((*mapping, resident))
    return found
