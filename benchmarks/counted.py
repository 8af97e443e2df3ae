"""Runs operations on the emulated processor: `valgrind --tool=callgrind ... python -m benchmarks.counted NAME...`.

Callgrind counts only between requests that this program makes, so that the start of the interpreter, imports, setting
up and checking are not in a figure. A request is a sequence of instructions that does nothing on a real processor
(valgrind.h, "client request"); here it stands in a page of memory that ctypes calls, x86-64 only.
Each operation is called CALLS times, then its totals are dumped under its name.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import mmap
from collections.abc import Callable
from typing import Any

from benchmarks.operations import OPERATIONS
from benchmarks.plant import NOTHING, Plant
from benchmarks.yardstick import beside

CALLS = 25
BESIDE_CALLS = 1
WARM_UP = 10  # the interpreter specialises code that ran a few times
BESIDE_WARM_UP = 3
_BASE = ord("C") << 24 | ord("T") << 16
_ZERO, _DUMP, _START, _STOP = (_BASE + number for number in (1, 3, 4, 5))
_CODE = bytes.fromhex(
    "4889f8"  # mov rax, rdi: the request and its arguments
    "4889f2"  # mov rdx, rsi: the answer if nobody takes it
    "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi by 3, 13, 61, 51: 128 in all, so nothing
    "4887db"  # xchg rbx, rbx: here the emulator looks
    "4889d0 c3"  # mov rax, rdx; ret
)
_NOBODY = 7


class Callgrind:
    """The emulator that this process runs on."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_CODE)
        self._hold = ctypes.c_char.from_buffer(self._page)
        kind = ctypes.PYFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
        self._call = kind(ctypes.addressof(self._hold))
        if self._request(_ZERO) == _NOBODY:
            raise SystemExit("this is to be run under valgrind: see benchmarks/instructions.py")

    def _request(self, number: int, argument: int = 0) -> int:
        words = (ctypes.c_uint64 * 6)(number, argument, 0, 0, 0, 0)
        return int(self._call(ctypes.addressof(words), _NOBODY))

    def count(self, name: str, run: Callable[[], Any], calls: int, warm_up: int) -> None:
        """Count `calls` calls and dump the total under `name`."""
        label = ctypes.create_string_buffer(name.encode())
        for _ in range(warm_up):
            run()
        gc.collect()
        gc.disable()
        self._request(_START)
        self._request(_ZERO)
        for _ in range(calls):
            run()
        self._request(_DUMP, ctypes.addressof(label))
        self._request(_STOP)
        gc.enable()


def main() -> None:
    """Count the operations named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counted", description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--plant", type=Plant.parse, default=NOTHING)
    parser.add_argument("--beside", action="store_true", help="count what the operations stand beside, too")
    chosen = parser.parse_args()
    emulator = Callgrind()
    for operation in OPERATIONS:
        small = getattr(operation, "small", None)
        if operation.name not in chosen.names or small is None:
            continue
        case = small()
        case.check(case.run())
        emulator.count(operation.name, chosen.plant.into(operation.name, case.run), CALLS, WARM_UP)
        if chosen.beside:
            emulator.count(f"{operation.name}/beside", beside(case), BESIDE_CALLS, BESIDE_WARM_UP)


if __name__ == "__main__":
    main()
