"""CPU ratios of operations, in an interpreter of their own: `python -m benchmarks.ratios [--plant P] NAME...`.

Where an array or a function happens to lie in memory is drawn anew for each process and can move a ratio by a fifth, so
a ratio that looks worse is measured again in other processes, not again in the same one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.gateway_site import ROOT
from benchmarks.model import Timed
from benchmarks.operations import OPERATIONS
from benchmarks.plant import NOTHING, Plant
from benchmarks.yardstick import beside, ratio, weather

WEATHER = "weather"
_LIMIT_S = 600


def watched() -> list[str]:
    """Return the operations whose ratio the gate looks at."""
    return [o.name for o in OPERATIONS if isinstance(o, Timed) and o.watched]


def measure(names: Sequence[str], plant: Plant = NOTHING) -> dict[str, float]:
    """Return ratios by name, measured in a fresh process."""
    planted = ["--plant", str(plant)] if plant.name else []
    command = [sys.executable, "-m", "benchmarks.ratios", *planted, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert done.returncode == 0, f"the ratios' run ended with {done.returncode}: {done.stderr[-2000:]}"
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure here and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--plant", type=Plant.parse, default=NOTHING)
    chosen = parser.parse_args()
    found = {WEATHER: weather()} if WEATHER in chosen.names else {}
    for operation in OPERATIONS:
        if isinstance(operation, Timed) and operation.name in chosen.names:
            case = operation.prepare()
            case.check(case.run())
            found[operation.name] = ratio(chosen.plant.into(operation.name, case.run), beside(case))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
