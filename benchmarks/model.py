"""What an operation and a figure are, and how CPU time is taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Budget:
    """A line of DESIGN.md section 8. `most`: the figure must be at most `limit`, otherwise at least."""

    limit: float
    most: bool = True

    def is_met(self, value: float) -> bool:
        """Return whether a figure keeps the budget."""
        return value <= self.limit if self.most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.most else '>='} {self.limit:g}"


@dataclass
class Figure:
    """One measured number.

    `peers` are figures of the same job done in another way, in the same unit and the same run.
    `percentiles` holds a latency histogram, by `p50`, `p99`, ...
    """

    name: str
    what: str
    value: float
    unit: str
    budget: Budget | None = None
    peers: dict[str, float] = field(default_factory=dict)
    note: str = ""
    percentiles: dict[str, float] = field(default_factory=dict)


@dataclass
class Case:
    """An operation that is set up.

    `check` raises AssertionError for a wrong result of `run`; `figure` turns CPU seconds a call into the
    figure; `peers` do the same job in another way.
    """

    run: Callable[[], Any]
    check: Callable[[Any], None]
    figure: Callable[[float], float]
    peers: dict[str, Callable[[], Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Timed:
    """An operation that is called again and again.

    `small` prepares it in a size that an emulated processor can bear; without it instructions are not counted.
    `watched`: the gate compares its CPU time with a peer's.
    """

    name: str
    what: str
    unit: str
    prepare: Callable[[], Case]
    budget: Budget | None = None
    small: Callable[[], Case] | None = None
    watched: bool = True


@dataclass(frozen=True)
class Effort:
    """How much time a run may take."""

    seconds: float  # of CPU for one timed function
    events: int  # of one run of the road
    repeats: int  # of one run of the road


QUICK = Effort(seconds=0.15, events=200_000, repeats=1)
FULL = Effort(seconds=0.8, events=1_000_000, repeats=3)


@dataclass(frozen=True)
class Measured:
    """An operation that measures itself: processes, disks, sizes. It raises AssertionError if its job failed."""

    name: str
    what: str
    measure: Callable[[Effort], list[Figure]]


Operation = Timed | Measured


def cpu_seconds(run: Callable[[], Any], budget_s: float) -> float:
    """Return the CPU seconds of one call: the best of several rounds, each long enough for the clock.

    CPU time of the whole process, all threads: what a neighbour on the machine takes is not counted.
    """
    calls, best, spent = 1, float("inf"), 0.0
    while spent < budget_s:
        begin = time.process_time()
        for _ in range(calls):
            run()
        took = time.process_time() - begin
        spent += took
        if took < min(0.01, budget_s / 8):
            calls *= 2
            continue
        best = min(best, took / calls)
    return best if best != float("inf") else spent


def run_timed(operation: Timed, effort: Effort) -> Figure:
    """Check one call, then time it and its peers."""
    case = operation.prepare()
    case.check(case.run())
    value = case.figure(cpu_seconds(case.run, effort.seconds))
    peers = {name: case.figure(cpu_seconds(peer, effort.seconds / 2)) for name, peer in case.peers.items()}
    return Figure(operation.name, operation.what, value, operation.unit, operation.budget, peers)
