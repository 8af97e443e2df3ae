"""`python -m benchmarks.proof`: show that the gate passes without a plant, quiet and loaded, and fails with one.

Writes results/proof.json, which docs/performance.md is generated from. 20 repeats take about 40 minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.yardstick import busy_machine

RESULT = Path(__file__).parent / "results" / "proof.json"
_ROOT = Path(__file__).parents[1]
BUSY_EVERY = 5
# What is planted, and which measure must find it.
PLANTS = (
    ("encode=0.08", "instructions"),
    ("worker=0.04", "instructions"),
    ("bytes=0.02", "bytes"),
    ("text-mask=0.5", "cpu"),
    # Threads of two processes on a crowded machine: by CPU time the whole road swings by half. What is less shows in
    # the instructions of its parts.
    ("road=1", "cpu"),
)
_WORSE = re.compile(r"^(instructions|bytes|cpu) +(\S+) .* ([+-][0-9.]+%) +WORSE", re.MULTILINE)


def run_gate(arguments: Sequence[str], busy: bool) -> dict[str, Any]:
    """Run the gate once; return its exit code, what it called worse, its seconds and its last line."""
    begin = time.monotonic()
    with busy_machine(busy):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.gate", *arguments],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    worse = sorted({(m[1], m[2], m[3]) for m in _WORSE.finditer(done.stdout)})
    return {
        "arguments": list(arguments),
        "busy": busy,
        "exit": done.returncode,
        "worse": [list(w) for w in worse],
        "not_judged": done.stdout.count("not judged"),
        "seconds": round(time.monotonic() - begin),
        "load": round(environment.load(), 1),
        "error": done.stderr[-500:],
    }


def main() -> int:
    """Prove; 1 if a repeat failed or a plant was not found."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.proof", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--repeats", type=int, default=20, help="without a plant, every fifth one on a busy machine"
    )
    parser.add_argument("--result", type=Path, default=RESULT, metavar="FILE")
    chosen = parser.parse_args()
    runs: list[dict[str, Any]] = []
    made, bad = environment.describe(quick=False), 0
    for plant, measure in PLANTS:
        runs.append(run_gate(["--only", measure, "--plant", plant], busy=False))
        bad += not _found(runs[-1], plant, measure)
        _keep(chosen.result, made, runs)
    for turn in range(chosen.repeats):
        runs.append(run_gate([], busy=turn % BUSY_EVERY == BUSY_EVERY - 1))
        bad += runs[-1]["exit"] != 0
        _keep(chosen.result, made, runs)
    print(f"{len(runs)} runs, {bad} not as they should be")
    return 1 if bad else 0


def _found(run: dict[str, Any], plant: str, measure: str) -> bool:
    """Return whether the gate failed, and for what was planted."""
    name = plant.partition("=")[0]
    return run["exit"] == 1 and any(w[0] == measure and w[1].startswith(name) for w in run["worse"])


def _keep(path: Path, made: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Write what is there so far: a proof that is cut off counts for the runs that it made."""
    print(len(runs), runs[-1], flush=True)
    path.write_text(json.dumps({"environment": made, "runs": runs}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
