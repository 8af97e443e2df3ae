"""What the agent does about its own memory: one malloc arena, no start-up code and no free heap kept resident.

A start runs through 20 MB of libraries' code once, and so does the first picture. The kernel maps it 64 KiB at a
time and leaves it mapped, so an idle agent counts pages as resident that it never uses again. Giving them up costs
a page fault, without disk, for each that is used after all: they stay in the page cache for as long as nobody needs
the room.

A model needs tens of megabytes while it runs and nothing between runs, but malloc keeps what was freed: after a
load or a run four fifths of a detector's heap are free and resident. Returned, they cost a fault a page at the next
run: up to 60 ms of CPU for 100 MB on a virtual machine. What a run frees behind a trim in its midst shows in no
size of the process, so that malloc is asked, too, how much it holds free.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

log = logging.getLogger("forebay.memory")

_M_ARENA_MAX = -8  # malloc.h
_MADV_DONTNEED = 4
# glibc would make eight a core: a dozen threads that mostly wait would hold as many. And malloc_trim gives back the
# free top of the first only: behind a picture seen by a thread of the second, 18 MB stayed.
_ARENAS = 1
_SMAPS = Path("/proc/self/smaps")
_STATM = Path("/proc/self/statm")
_GROWN_BYTES = 2 * 1024 * 1024  # less is not worth the faults
_FREED_BYTES = 512 * 1024  # of what malloc holds; all of it goes back in one call
_TRIM_PAUSE_NS = 10_000_000_000  # of a camera that never rests: 60 ms of faults each time are 0.6 % of a core
_LEAST_PAUSE_NS, _MOST_PAUSE_NS = 10_000_000_000, 600_000_000_000  # smaps of 400 mappings: 25 ms
# Libraries only: they are never unmapped, so that nothing else can take their place between look and deed.
_LIBRARY = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ +/.*\.so(?:\.[0-9.]+)?")


def bound_arenas() -> None:
    """Let threads share malloc's arena. Before threads start; without effect where the C library has none."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _ARENAS)


def release_free_heap() -> bool:
    """Return free memory of malloc to the kernel; whether the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        return False
    trim(0)
    return True


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    )  # fmt: skip


def free_heap() -> int:
    """Return the bytes that malloc holds free, resident or not; 0 where the C library does not tell (glibc < 2.33)."""
    ask = _mallinfo()
    return int(ask().fordblks) if ask is not None else 0  # of all arenas


@cache
def _mallinfo() -> Any:
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if ask is not None:
        ask.restype = _Mallinfo
    return ask


def resident() -> tuple[int, int]:
    """Return the resident bytes of the process: its own, and those of files (libraries). (0, 0) if unknown."""
    try:
        _, whole, files, *_ = map(int, _STATM.read_text("ascii").split())
    except (OSError, ValueError):
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return (whole - files) * page, files * page


def release_start_pages() -> int:
    """Give up resident pages of code and constants that start-up has read; return the bytes they had.

    Only of private mappings of libraries that cannot be written and that hold no page of our own (`Anonymous` 0:
    neither relocated nor set with a breakpoint), so that what comes back is what was there.
    """
    gc.collect()
    released = 0
    try:
        with _SMAPS.open(encoding="utf-8", errors="surrogateescape") as lines:  # whole, it is half a megabyte
            clean = _clean_mappings(lines)
        libc = ctypes.CDLL(None, use_errno=True)
    except OSError:
        return 0
    for start, end, resident in clean:
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED) == 0:
            released += resident
    return released


class Keeper:
    """Gives memory back when there is some: after a model was loaded, a picture seen, a backlog sent.

    Parameters
    ----------
    settled_ns : when, in monotonic time, a start has read what it reads once
    measure, free, trim, release : `resident`, `free_heap`, `release_free_heap` and `release_start_pages`, or what
        stands for them
    """

    def __init__(
        self,
        settled_ns: int,
        *,
        measure: Callable[[], tuple[int, int]] = resident,
        free: Callable[[], int] = free_heap,
        trim: Callable[[], object] = release_free_heap,
        release: Callable[[], object] = release_start_pages,
    ) -> None:
        self._measure, self._free, self._trim, self._release = measure, free, trim, release
        self._floor = [0, 0]  # what was left the last time, own and files
        self._free_floor, self._ask_ns = 0, settled_ns
        self._due = [settled_ns, settled_ns]
        self._pause_ns = _LEAST_PAUSE_NS

    def look(self, now_ns: int) -> None:
        """Give back what can be, if it is due. Called about once a second; costs a microsecond otherwise."""
        own, files = self._measure()
        self._floor = [min(self._floor[0], own), min(self._floor[1], files)]
        if now_ns >= self._due[1] and files > self._floor[1] + _GROWN_BYTES:
            self._release()
            log.debug("library pages that are not in use were given up")
            # Code that is in use comes back at once: each time that it is given up in vain, the next is later.
            self._due[1] = now_ns + self._pause_ns
            self._pause_ns = min(2 * self._pause_ns, _MOST_PAUSE_NS)
            self._floor[1] = self._measure()[1]
        # Last, for what was freed above.
        if now_ns >= self._due[0] and (own > self._floor[0] + _GROWN_BYTES or self._was_freed(now_ns)):
            self._trim()
            self._due[0] = self._ask_ns = now_ns + _TRIM_PAUSE_NS
            self._floor[0], self._free_floor = self._measure()[0], self._free()

    def _was_freed(self, now_ns: int) -> bool:
        """Whether malloc holds more free than it did. Asking walks along all of its free pieces: 8 ms for 50,000."""
        if now_ns < self._ask_ns:
            return False
        self._ask_ns = now_ns + _TRIM_PAUSE_NS
        free = self._free()
        self._free_floor = min(
            self._free_floor, free
        )  # what was taken of it is resident when it is free again
        return free > self._free_floor + _FREED_BYTES


def _clean_mappings(smaps: Iterable[str]) -> list[tuple[int, int, int]]:
    """Return start, end and resident bytes of the mappings that may be given up."""
    found: list[tuple[int, int, int]] = []
    mapping: tuple[int, int] | None = None
    resident = 0
    for line in smaps:
        match = _LIBRARY.fullmatch(line.rstrip("\n"))
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
