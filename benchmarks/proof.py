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
    ("road=0.5", "cpu"),
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
    runs, bad = [], 0
    for turn in range(chosen.repeats):
        runs.append(run_gate([], busy=turn % BUSY_EVERY == BUSY_EVERY - 1))
        bad += runs[-1]["exit"] != 0
        print(turn + 1, runs[-1], flush=True)
    for plant, measure in PLANTS:
        runs.append(run_gate(["--only", measure, "--plant", plant], busy=False))
        name = plant.partition("=")[0]
        found = runs[-1]["exit"] == 1 and any(
            w[0] == measure and w[1].startswith(name) for w in runs[-1]["worse"]
        )
        bad += not found
        print(plant, runs[-1], flush=True)
    result = {"environment": environment.describe(quick=False), "runs": runs}
    chosen.result.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(runs)} runs, {bad} not as they should be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
