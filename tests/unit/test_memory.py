"""What the agent does about its own memory."""

import subprocess
import sys

import pytest

from forebay.memory import _clean_mappings

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


def test_clean_code_of_a_library_may_be_given_up():
    assert _clean_mappings(ENTRY.format(**LIBRARY)) == [(0x7F0000000000, 0x7F0000010000, 48 * 1024)]


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
    assert _clean_mappings(ENTRY.format(**{**LIBRARY, **other})) == []


def test_a_mapping_does_not_count_for_the_one_before():
    anonymous = ENTRY.format(**{**LIBRARY, "mode": "rw-p", "path": ""})
    without_sizes = ENTRY.format(**LIBRARY).splitlines()[0] + "\n"
    assert _clean_mappings(without_sizes + anonymous) == []


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
