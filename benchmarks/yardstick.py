"""CPU time as a ratio: an operation beside a fixed piece of work, in turns, so that both meet the same weather.

Seconds of a shared machine say little: a neighbour on the same core makes everything slower. A neighbour that comes
and goes meets both sides of a ratio, and the median of many short turns leaves out the turns in which it did not.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import zstandard

from benchmarks import reference_series
from benchmarks.model import Case

TURNS = 25
TURN_S = 0.006  # of CPU for one side of one turn
_BURN = """
import os, sys, time
import numpy as np
until = time.monotonic() + float(sys.argv[1])
block = np.ones(1 << 20)
parent = os.getppid()
while time.monotonic() < until and os.getppid() == parent:
    block *= 1.0000001
    sum(i * i for i in range(20000))
"""


def yardstick() -> Callable[[], Any]:
    """Return work that never changes: parse text, sort numbers, compress bytes. For operations without a peer."""
    lines = reference_series.ndjson(reference_series.generate(150)).splitlines()
    numbers = np.random.default_rng(21).normal(0.0, 1.0, 4_096)
    data, squeeze = b"".join(lines), zstandard.ZstdCompressor(level=1)

    def work() -> Any:
        rows = [json.loads(line) for line in lines]
        return sorted(row["vib"] for row in rows), np.cumsum(np.sort(numbers)), squeeze.compress(data)

    return work


def beside(case: Case) -> Callable[[], Any]:
    """Return what an operation is compared with: the first of its peers, else the yardstick."""
    return next(iter(case.peers.values()), None) or yardstick()


def weather(turns: int = TURNS) -> float:
    """Return what copying memory costs in units of the yardstick: it rises when neighbours crowd caches and bus."""
    source = np.ones(1 << 20)
    target = np.empty_like(source)
    return ratio(lambda: np.copyto(target, source), yardstick(), turns)


def ratio(run: Callable[[], Any], other: Callable[[], Any], turns: int = TURNS) -> float:
    """Return CPU time of `run` over CPU time of `other`: the median over turns taken one after the other."""
    ours, theirs = _calls(run), _calls(other)
    found = []
    for _ in range(turns):
        mine = _cpu(run, ours) / ours
        found.append(mine / (_cpu(other, theirs) / theirs))
    return statistics.median(found)


def _calls(run: Callable[[], Any]) -> int:
    run()
    calls = 1
    while (took := _cpu(run, calls)) < TURN_S / 2:
        calls *= 2
    return max(1, round(calls * TURN_S / took))


def _cpu(run: Callable[[], Any], calls: int) -> float:
    begin = time.process_time()
    for _ in range(calls):
        run()
    return max(time.process_time() - begin, 1e-9)


@contextlib.contextmanager
def busy_machine(wanted: bool = True, seconds: float = 900.0) -> Iterator[None]:
    """Keep every core busy, with caches and memory, while the context is open. Ends by itself after `seconds`."""
    count = (os.cpu_count() or 2) if wanted else 0
    burners = [subprocess.Popen([sys.executable, "-c", _BURN, str(seconds)]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()
        for burner in burners:
            burner.wait(20)
