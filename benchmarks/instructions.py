"""Instructions of operations, counted by callgrind: the same on a quiet and on a loaded machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.counted import BESIDE_CALLS, CALLS
from benchmarks.plant import NOTHING, Plant

_ROOT = Path(__file__).parents[1]
_LIMIT_S = 900
_PACKAGES = ("cython", "numpy", "zstandard", "msgpack")
_DUMP = re.compile(r"^desc: Trigger: Client Request: (\S+)$", re.MULTILINE)
_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)


class NotCountable(Exception):
    """There is no emulator here; the message says what to do."""


@dataclass(frozen=True)
class Count:
    """Instructions of one call, and of one call of what the operation stands beside."""

    own: float
    beside: float

    @property
    def ratio(self) -> float:
        """Return how many of the other's calls one of ours is."""
        return self.own / self.beside


def environment() -> dict[str, str]:
    """Return what instruction counts depend on beside the sources."""
    found = {name: version(name) for name in _PACKAGES}
    found |= {"python": platform.python_version(), "machine": platform.machine()}
    found |= {
        "libc": "-".join(platform.libc_ver()),
        "cc": _first_line(os.environ.get("CC", "cc"), "--version"),
    }
    return found | {"valgrind": _first_line("valgrind", "--version")}


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()


def count(names: Sequence[str], plant: Plant = NOTHING, *, beside: bool = True) -> dict[str, Count]:
    """Count operations by name; without `beside` the yardsticks are left out, which halves the time.

    Raises
    ------
    NotCountable
        There is no valgrind, or this is not an x86-64 processor.
    """
    if platform.machine() != "x86_64":
        raise NotCountable(f"instructions are counted on x86-64 only, this is {platform.machine()}")
    if shutil.which("valgrind") is None:
        raise NotCountable(
            "valgrind is not installed: make system-packages (Debian: apt-get install valgrind)"
        )
    with tempfile.TemporaryDirectory() as folder:
        totals = _run(Path(folder), names, plant, beside)
    missing = [name for name in names if name not in totals]
    assert not missing, f"callgrind gave no total for {', '.join(missing)}"
    return {n: Count(totals[n] / CALLS, totals.get(f"{n}/beside", 0) / BESIDE_CALLS) for n in names}


def _run(folder: Path, names: Sequence[str], plant: Plant, beside: bool) -> dict[str, int]:
    out = folder / "callgrind.out"
    command = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    command += [sys.executable, "-m", "benchmarks.counted", *names]
    command += ["--plant", str(plant)] if plant.name else []
    command += ["--beside"] if beside else []
    # One seed for hashes; no threads of the linear algebra library, whose waits would be counted.
    fixed = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env=os.environ | fixed,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"the counted run ended with {done.returncode}: {done.stderr[-2000:]}"
    totals = {}
    for path in folder.iterdir():
        text = path.read_text(errors="replace")
        name, total = _DUMP.search(text), _TOTAL.search(text)
        if name and total:
            totals[name[1]] = int(total[1])
    return totals
