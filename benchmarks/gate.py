"""`python -m benchmarks.gate`: compare with the results kept on main; 1 if something became worse.

Three measures, each with what makes it immune to noise:

- instructions (limit 3 %): counted on an emulated processor, the same under any load. They depend on the versions of
  compiler, interpreter and libraries: where these are others than those of the kept results, the ratio to the
  yardstick's instructions is compared instead, with the CPU limit, and the output says so.
- bytes (limit 1 %): sizes of fixed data.
- CPU (limit 15 %): the ratio to a peer's or the yardstick's CPU time, medians of turns in one run. The kept value is
  the highest of several runs, on a quiet machine and with every core taken. What seems worse is measured up to four
  more times, each in a fresh process; the lowest counts. Not judged, and said so: on another model of processor, and
  when memory costs so much more against computing than it ever did while renewing (`weather`) that ratios of unlike
  work mean nothing.

`--renew` writes the results to keep; commit them with the change that moved them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import environment, instructions, ratios, reference_series, road, wire
from benchmarks.model import Timed
from benchmarks.operations import OPERATIONS
from benchmarks.plant import NOTHING, Plant
from benchmarks.yardstick import busy_machine

KEPT = Path(__file__).parent / "results" / "main.json"
LIMITS = {"instructions": 0.03, "bytes": 0.01, "cpu": 0.15}
AGAIN = 4  # further measurements before a CPU ratio is called worse
QUIET_ROUNDS = 5  # of renewing; the highest ratio of all rounds is kept
BUSY_ROUNDS = 2  # with every core taken
ROAD = "road"
ROAD_EVENTS = 400_000
ROAD_REPEATS = 3


@dataclass(frozen=True)
class Finding:
    """One comparison. `limit` is how much of a rise is borne; None where nothing can be judged, and `why`."""

    measure: str
    name: str
    kept: float
    now: float
    limit: float | None
    why: str = ""

    @property
    def change(self) -> float:
        """Return the rise as a share of the kept value."""
        return self.now / self.kept - 1.0

    @property
    def is_worse(self) -> bool:
        """Return whether this is a regression."""
        return self.limit is not None and self.change > self.limit

    def line(self) -> str:
        """Return the finding for people."""
        verdict = "WORSE" if self.is_worse else "ok" if self.limit is not None else "not judged"
        why = f"  ({self.why})" if self.why else ""
        figures = f"{self.kept:14,.5g} {self.now:14,.5g} {self.change:+8.1%}"
        return f"{self.measure:<13} {self.name:<14} {figures}  {verdict}{why}"


# -- measuring ---------------------------------------------------------------------------------------------


def counted() -> list[str]:
    """Return the operations whose instructions are counted."""
    return [o.name for o in OPERATIONS if isinstance(o, Timed) and o.small]


def sizes(plant: Plant = NOTHING) -> dict[str, float]:
    """Return bytes a reading of the reference series by block size."""
    series = reference_series.generate(wire.SIZED_EVENTS)
    more = 1.0 + plant.on("bytes")
    return {
        f"bytes-{rows}": more
        * wire.size_per_reading(reference_series.blocks(series, rows), reference_series.READINGS)
        for rows in wire.SIZE_BUDGETS
    }


class Ratios:
    """CPU ratios now: of operations in fresh processes, of the road with an agent of its own each time."""

    def __init__(self, plant: Plant = NOTHING) -> None:
        self._plant = plant

    def all(self) -> dict[str, float]:
        """Return every ratio, measured once."""
        return ratios.measure(ratios.watched(), self._plant) | {ROAD: self._road()}

    def again(self, name: str) -> float:
        """Return one ratio, measured once more."""
        return self._road() if name == ROAD else ratios.measure([name], self._plant)[name]

    def weather(self) -> float:
        """Return what memory costs against computing."""
        return ratios.measure([ratios.WEATHER])[ratios.WEATHER]

    def _road(self) -> float:
        with road.Ratio(ROAD_EVENTS, self._plant.on(ROAD)) as ratio:
            return ratio.measure(ROAD_REPEATS)


# -- comparing ---------------------------------------------------------------------------------------------


def compare_instructions(
    kept: dict[str, Any], found: dict[str, instructions.Count], here: dict[str, str]
) -> Iterator[Finding]:
    """Compare counts where the tools are those of the kept results, else ratios to the yardstick."""
    there = kept["environment"]
    other = [
        f"{name} {there.get(name)} -> {value}" for name, value in here.items() if there.get(name) != value
    ]
    for name, count in found.items():
        if name not in kept["counts"]:
            yield Finding("instructions", name, count.own, count.own, None, "new: nothing is kept yet")
            continue
        before = instructions.Count(**kept["counts"][name])
        if other:
            why = f"ratio to the yardstick, as versions differ: {', '.join(other)}"
            yield Finding("instructions", name, before.ratio, count.ratio, LIMITS["cpu"], why)
        else:
            yield Finding("instructions", name, before.own, count.own, LIMITS["instructions"])


def compare_bytes(kept: dict[str, float], found: dict[str, float]) -> Iterator[Finding]:
    """Compare sizes."""
    for name, size in found.items():
        if name in kept:
            yield Finding("bytes", name, kept[name], size, LIMITS["bytes"])


def compare_cpu(kept: dict[str, Any], now: Ratios, cpu: str) -> Iterator[Finding]:
    """Compare ratios; measure again what seems worse, as long as it does."""
    for name, value in now.all().items():
        if name not in kept["ratios"]:
            yield Finding("cpu", name, value, value, None, "new: nothing is kept yet")
            continue
        highest = kept["ratios"][name]["highest"]
        if kept["cpu"] != cpu:
            yield Finding("cpu", name, highest, value, None, f"kept on another processor, {kept['cpu']}")
            continue
        finding = Finding("cpu", name, highest, value, LIMITS["cpu"])
        for tries in range(2, AGAIN + 2):
            if not finding.is_worse:
                break
            lowest = min(finding.now, now.again(name))
            finding = replace(finding, now=lowest, why=f"lowest of {tries}")
        if finding.is_worse and not _is_fair(kept["weather"], now.weather()):
            finding = replace(finding, limit=None, why="the machine is too crowded to tell")
        yield finding


def _is_fair(kept: dict[str, float], now: float) -> bool:
    """Return whether unlike kinds of work still cost in the proportion that they had while renewing."""
    return kept["lowest"] / (1.0 + LIMITS["cpu"]) <= now <= kept["highest"] * (1.0 + LIMITS["cpu"])


# -- the command -------------------------------------------------------------------------------------------


def gate(kept: dict[str, Any], measures: Iterable[str], plant: Plant) -> list[Finding]:
    """Measure and compare, a line each."""
    findings = []
    for measure in measures:
        begin = time.monotonic()
        for finding in _compare(measure, kept, plant):
            print(finding.line(), flush=True)
            findings.append(finding)
        print(f"{'':<13} {time.monotonic() - begin:.0f} s")
    return findings


def _compare(measure: str, kept: dict[str, Any], plant: Plant) -> Iterator[Finding]:
    if measure == "bytes":
        yield from compare_bytes(kept["bytes"], sizes(plant))
    elif measure == "cpu":
        here = environment.describe(quick=True)
        yield from compare_cpu(kept["cpu"], Ratios(plant), here["cpu"])
    elif not kept["instructions"]["counts"]:
        print("instructions: none are kept: the results were renewed without valgrind")
    else:
        try:
            here = instructions.environment()
            differs = kept["instructions"]["environment"] != here
            found = instructions.count(counted(), plant, beside=differs)
        except instructions.NotCountable as reason:
            print(f"instructions: NOT COMPARED: {reason}")
            return
        yield from compare_instructions(kept["instructions"], found, here)


def renew_counts() -> dict[str, Any]:
    """Count what is to be kept."""
    try:
        counts = {name: vars(count) for name, count in instructions.count(counted()).items()}
    except instructions.NotCountable as reason:
        print(f"instructions: NOT KEPT: {reason}")
        counts = {}
    return {"environment": instructions.environment(), "counts": counts}


def renew() -> dict[str, Any]:
    """Measure what is to be kept."""
    here, counts = environment.describe(quick=False), renew_counts()
    now, rounds, busy_rounds = Ratios(), [], []
    for _ in range(QUIET_ROUNDS):
        rounds.append(now.all() | {ratios.WEATHER: now.weather()})
    with busy_machine():
        for _ in range(BUSY_ROUNDS):
            busy_rounds.append(now.all() | {ratios.WEATHER: now.weather()})
    found = {}
    for name in rounds[0]:
        every = [r[name] for r in rounds + busy_rounds]
        found[name] = {
            "median": statistics.median(r[name] for r in rounds),
            "lowest": min(every),
            "highest": max(every),
        }
        print(f"{name:<14} {found[name]['median']:.5g}, {min(every):.5g} to {max(every):.5g}", flush=True)
    return {
        "environment": here,
        "instructions": counts,
        "bytes": sizes(),
        "cpu": {"cpu": here["cpu"], "weather": found.pop(ratios.WEATHER), "ratios": found},
    }


def main() -> int:
    """Compare or renew; 1 for a regression."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--renew",
        action="store_true",
        help=f"write {KEPT.name} instead of comparing with it (with --only instructions: these alone)",
    )
    parser.add_argument("--kept", type=Path, default=KEPT, metavar="FILE", help="the kept results")
    parser.add_argument("--only", choices=list(LIMITS), action="append", help="this measure only")
    parser.add_argument(
        "--plant", type=Plant.parse, default=NOTHING, metavar="NAME[=SHARE]", help="make it worse, as a proof"
    )
    chosen = parser.parse_args()
    if chosen.renew:
        only_counts = chosen.only == ["instructions"]
        new = (
            json.loads(chosen.kept.read_text()) | {"instructions": renew_counts()} if only_counts else renew()
        )
        chosen.kept.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n")
        return 0
    kept = json.loads(chosen.kept.read_text())
    made = kept["environment"]
    print(
        f"kept: commit {made['commit'][:12]}{' (changed)' if made['dirty'] else ''}, {made['date']}, {made['cpu']}"
    )
    if chosen.plant.name:
        print(f"PLANTED: {chosen.plant}")
    print(f"{'measure':<13} {'of':<14} {'kept':>14} {'now':>14} {'change':>8}")
    findings = gate(kept, chosen.only or LIMITS, chosen.plant)
    worse = [f for f in findings if f.is_worse]
    print(f"{len(findings)} compared, {len(worse)} worse" + "".join(f"\n  {f.line()}" for f in worse))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
