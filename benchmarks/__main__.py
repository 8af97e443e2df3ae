"""`python -m benchmarks [--quick] [--json FILE] [--report FILE] [NAME...]`: measure operations, all by default.

The gate is `python -m benchmarks.gate`, its proof `python -m benchmarks.proof`, a profile `python -m benchmarks.hot`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import environment, hot, report
from benchmarks.compression import PeersAbsent
from benchmarks.model import FULL, QUICK, Effort, Figure, Operation, Timed, run_timed
from benchmarks.operations import OPERATIONS


def main() -> int:
    """Run what is asked for; 1 if an operation's own check failed."""
    names = [operation.name for operation in OPERATIONS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--quick", action="store_true", help="shorter, less exact")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write docs/performance.md here")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(names))
    if unknown:
        parser.error(f"no operation `{unknown[0]}`; there are {', '.join(names)}")
    effort = QUICK if chosen.quick else FULL
    made = environment.describe(quick=chosen.quick)  # before this run is itself the machine's load
    figures, failures, seconds = [], [], {}
    for operation in OPERATIONS:
        if chosen.names and operation.name not in chosen.names:
            continue
        begin = time.monotonic()
        try:
            for figure in _run(operation, effort):
                print(report.line(figure), flush=True)
                figures.append(figure)
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            print(f"{operation.name}: its own check failed: {error}", file=sys.stderr, flush=True)
            failures.append(operation.name)
        seconds[operation.name] = round(time.monotonic() - begin, 1)
    result = report.result(figures, failures, made) | {"seconds": seconds}
    if chosen.report and not chosen.names:
        try:
            result["profile"] = hot.profile(effort)
        except PeersAbsent as reason:
            print(f"profile: NOT MADE: {reason}")
    if chosen.json:
        chosen.json.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    if chosen.report:
        chosen.report.write_text(report.page(result))
    return 1 if failures else 0


def _run(operation: Operation, effort: Effort) -> list[Figure]:
    if isinstance(operation, Timed):
        return [run_timed(operation, effort)]
    return operation.measure(effort)


sys.exit(main())
