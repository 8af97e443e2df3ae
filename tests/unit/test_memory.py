"""What the agent does about its own memory."""

import subprocess
import sys

import pytest

from forebay.memory import Keeper, _clean_mappings, resident

ENTRY = """\
{start}-{end} {mode} 00000000 fe:01 1234 {path}
Size:                 64 kB
Rss:                  {rss} kB
Private_Dirty:         0 kB
Anonymous:            {anonymous} kB
VmFlags: rd ex mr mw me
"""
LIBRARY = {
    "start": "7f0000000000", "end": "7f0000010000", "mode": "r-xp", "rss": 48, "anonymous": 0,
    "path": "                 /usr/lib/libone.so.5.2",
}  # fmt: skip


def clean(smaps):
    return _clean_mappings(smaps.splitlines(keepends=True))


def test_clean_code_of_a_library_may_be_given_up():
    assert clean(ENTRY.format(**LIBRARY)) == [(0x7F0000000000, 0x7F0000010000, 48 * 1024)]


@pytest.mark.parametrize(
    "other",
    [
        {"mode": "rw-p"},  # written by this process
        {"mode": "r-xs"},  # shared: not ours alone
        {"anonymous": 4},  # relocated, or a breakpoint: what is on disk is something else
        {"rss": 0},
        {"path": "                 /var/lib/data.bin"},
        {"path": "                 /usr/lib/libone.so (deleted)"},
        {"path": ""},
        {"path": "                 [heap]"},
    ],
)
def test_whatever_is_not_clean_code_of_a_library_stays(other):
    assert clean(ENTRY.format(**{**LIBRARY, **other})) == []


def test_a_mapping_does_not_count_for_the_one_before():
    anonymous = ENTRY.format(**{**LIBRARY, "mode": "rw-p", "path": ""})
    without_sizes = ENTRY.format(**LIBRARY).splitlines()[0] + "\n"
    assert clean(without_sizes + anonymous) == []


@pytest.mark.skipif(sys.platform != "linux", reason="smaps is Linux")
def test_a_process_goes_on_with_less_memory():
    code = """
import numpy as np, sqlite3, zmq, zstandard, pydantic
from forebay.memory import bound_arenas, release_start_pages
def resident():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssFile")).split()[1]) * 1024
bound_arenas()
before = resident()
released = release_start_pages()
assert released > 4_000_000, released
assert resident() < before - released // 2
assert np.linalg.norm(np.arange(3.0)) > 2
assert sqlite3.connect(":memory:").execute("SELECT 1 + 1").fetchone() == (2,)
assert zstandard.ZstdDecompressor().decompress(zstandard.ZstdCompressor().compress(b"x" * 99)) == b"x" * 99
zmq.Context().term()
print("well")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "well\n", done.stderr


SECOND, MEGABYTE = 1_000_000_000, 1024 * 1024


class Process:
    """A process whose memory is what it is told to be; giving back leaves `rest`."""

    def __init__(self):
        self.own, self.files, self.rest = 50 * MEGABYTE, 40 * MEGABYTE, (30 * MEGABYTE, 10 * MEGABYTE)
        self.trims = self.releases = 0
        self.free = 0
        self.keeper = Keeper(
            3 * SECOND, measure=self.measure, free=lambda: self.free, trim=self.trim, release=self.release
        )

    def measure(self):
        return self.own, self.files

    def trim(self):
        self.own, self.trims = self.rest[0], self.trims + 1

    def release(self):
        self.files, self.releases = self.rest[1], self.releases + 1


def test_nothing_is_given_back_before_the_start_is_over_and_once_after_it():
    process = Process()
    for second in range(10):
        process.keeper.look(second * SECOND)
        assert (process.trims, process.releases) == ((0, 0) if second < 3 else (1, 1))


def test_what_a_picture_left_goes_back_and_a_process_that_stands_still_is_left_alone():
    process = Process()
    process.keeper.look(3 * SECOND)
    process.own += 80 * MEGABYTE
    process.keeper.look(4 * SECOND)
    assert process.trims == 1, "not so soon again"
    for second in range(8, 3000):
        process.keeper.look(second * SECOND)
    assert (process.trims, process.releases) == (2, 1)


def test_code_that_comes_back_each_time_is_given_up_less_and_less_often():
    process = Process()
    for second in range(3, 3600):
        process.files = process.rest[1] + 20 * MEGABYTE
        process.keeper.look(second * SECOND)
    assert 5 < process.releases < 15


def test_memory_that_went_by_itself_counts_as_growth_when_it_comes_back():
    process = Process()
    process.keeper.look(3 * SECOND)
    process.own = 5 * MEGABYTE
    process.keeper.look(60 * SECOND)
    process.own, process.rest = 20 * MEGABYTE, (6 * MEGABYTE, process.rest[1])
    process.keeper.look(120 * SECOND)
    assert process.trims == 2


def test_what_a_run_frees_after_a_trim_in_its_midst_goes_back_though_the_process_never_grew_again():
    process = Process()
    process.rest = (110 * MEGABYTE, 10 * MEGABYTE)
    process.own = 130 * MEGABYTE
    process.keeper.look(3 * SECOND)  # the run still holds all it needs
    process.free = 20 * MEGABYTE  # it has ended: freed, and resident
    for second in range(4, 3000):
        process.keeper.look(second * SECOND)
    assert process.trims == 2


def test_free_heap_that_was_taken_and_freed_again_is_given_back():
    process = Process()
    process.free = 20 * MEGABYTE
    process.keeper.look(3 * SECOND)
    process.free = 10 * MEGABYTE
    process.keeper.look(20 * SECOND)
    process.free = 20 * MEGABYTE
    process.keeper.look(40 * SECOND)
    assert process.trims == 2


def test_malloc_is_asked_seldom():
    process, asked = Process(), []
    keeper = Keeper(
        3 * SECOND, measure=process.measure, free=lambda: asked.append(0) or 0, trim=process.trim,
        release=process.release,
    )  # fmt: skip
    for second in range(3, 103):
        keeper.look(second * SECOND)
    assert len(asked) <= 11


def both_or_neither(code: str) -> None:
    """Run a program of its own that prints whether the C library can do something, and whether it did."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() in (["True", "True"], ["False", "False"]), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim and statm are Linux")
def test_free_heap_goes_back_to_the_kernel():
    code = """
import ctypes
from forebay.memory import release_free_heap, resident
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(64_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 64_000)
for block in blocks[:-1]:  # the last one keeps malloc from giving the top back by itself
    libc.free(block)
before = resident()[0]
print(release_free_heap(), before - resident()[0] > 40_000_000)
"""
    both_or_neither(code)
    assert resident()[0] > 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim and statm are Linux")
def test_what_a_thread_freed_goes_back_too():
    # malloc_trim keeps the top of every arena but the first: a picture's 18 MB stayed, by chance of its thread.
    code = """
import ctypes, threading, time
from forebay.memory import bound_arenas, release_free_heap, resident
bound_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.free(libc.malloc(20_000_000))  # from now on malloc keeps so much, too
def use():
    blocks = [libc.malloc(64_000) for _ in range(400)]
    for block in blocks:
        ctypes.memset(block, 1, 64_000)
    held.append(libc.malloc(64))
    for block in blocks:
        libc.free(block)
held, done = [], threading.Event()
before = resident()[0]
threads = [threading.Thread(target=lambda: (use(), done.wait())) for _ in range(4)]
for thread in threads:
    thread.start()
while len(held) < 4:
    time.sleep(0.01)
deadline = time.monotonic() + 30
while not (well := release_free_heap() and resident()[0] - before < 8_000_000) and time.monotonic() < deadline:
    time.sleep(0.05)
print(hasattr(libc, "malloc_trim"), well)
done.set()
"""
    both_or_neither(code)


@pytest.mark.skipif(sys.platform != "linux", reason="mallinfo2 is glibc")
def test_malloc_tells_what_it_holds_free():
    code = """
import ctypes
from forebay.memory import free_heap
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(64_000) for _ in range(1000)]
before = free_heap()
for block in blocks[:-1]:
    libc.free(block)
print(hasattr(libc, "mallinfo2"), free_heap() - before > 60_000_000)
"""
    both_or_neither(code)
