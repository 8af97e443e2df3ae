"""Where and with what a result was made."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import forebay_core

_PACKAGES = (
    "forebay",
    "numpy",
    "pyzmq",
    "zstandard",
    "msgpack",
    "onnxruntime",
    "opencv-python-headless",
    "pydantic",
)
_ROOT = Path(__file__).parents[1]


def describe(*, quick: bool) -> dict[str, Any]:
    """Return commit, machine and versions."""
    import sqlite3

    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": quick,
        "core": forebay_core.IMPLEMENTATION,
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": round(load(), 2),
        "python": platform.python_version(),
        "kernel": platform.release().split("-")[0],
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def load() -> float:
    """Return how many processes want a core, averaged over the last minute."""
    return os.getloadavg()[0]


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
