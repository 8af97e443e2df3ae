"""strace: whether it works here, and how many system calls a run makes."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


@functools.cache
def traceable() -> bool:
    """Return whether strace is there and may trace."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False)
    return done.returncode == 0


def busiest(trace: Path, calls: Iterable[str]) -> dict[str, int]:
    """Return how often the thread that makes most calls of a kind makes them: `when=` counts by thread."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        thread, _, rest = line.partition(" ")
        name = rest.lstrip().partition("(")[0]
        counts[name, thread] += 1  # the line `<... name resumed>` has another one
    return {call: max((n for (name, _), n in counts.items() if name == call), default=0) for call in calls}
