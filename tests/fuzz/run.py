"""Run every target for a while on the twins and on the compiled core; say what was found. `make fuzz` calls it.

    python tests/fuzz/run.py [--seconds N] [--keep] [--core DIR] [TARGET ...]

Half of a target's time goes to the twins (FOREBAY_PURE=1), whose branches guide the search, half to the core. Finds go
to .cache/fuzz/finds; a find belongs into the corpus once it is mended. `--keep` copies some
short inputs that reached new code into the corpus.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".cache" / "fuzz"
MAX_LEN = 4096
MOST_KEPT = 25  # files a target adds to the corpus
LONGEST_KEPT = 512
SECONDS_A_CALL = 20  # one input that takes longer is a find: it would hold up a source or the receiver
MEGABYTES = 2048


def fuzz(core: Path, target: str, options: list[str], *, pure: bool) -> subprocess.CompletedProcess[str]:
    """Run one libFuzzer process on the tree `core`."""
    site = ROOT / ".venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    environment = {**os.environ, "PYTHONPATH": str(site), "FOREBAY_PURE": "1" if pure else ""}
    return subprocess.run(
        [sys.executable, str(core / "tests/fuzz/fuzz.py"), target, *options],
        env=environment, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip


def search(core: Path, target: str, seconds: int) -> tuple[bool, str]:
    """Fuzz one target; return whether all held, and a line (with the trace of a find)."""
    found, new = WORK / "finds" / f"{target}-", WORK / "corpus" / target
    found.parent.mkdir(parents=True, exist_ok=True)
    new.mkdir(parents=True, exist_ok=True)
    told, runs = [], 0
    for pure, share in ((True, seconds // 2), (False, seconds - seconds // 2)):
        options = [
            f"-max_total_time={max(share, 1)}", f"-max_len={MAX_LEN}", f"-timeout={SECONDS_A_CALL}",
            f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={found}", "-print_final_stats=1", "-verbosity=0",
            str(new), str(core / "tests/fuzz/corpus" / target),
        ]  # fmt: skip
        done = fuzz(core, target, options, pure=pure)
        count = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
        runs += int(count[1]) if count else 0
        if done.returncode:
            told.append(
                f"{'twins' if pure else 'core'}: exit {done.returncode}\n{done.stdout[-6000:]}{done.stderr[-3000:]}"
            )
    line = f"{target:14} {runs:10,} runs, {len(list(new.iterdir())):5} inputs of interest"
    return not told, "\n".join([line, *told])


def keep(target: str) -> int:
    """Copy some inputs that reached new code into the corpus; return how many. The hash in the name picks them."""
    corpus, new = HERE / "corpus" / target, WORK / "corpus" / target
    short = sorted(path for path in new.iterdir() if path.stat().st_size <= LONGEST_KEPT)
    for path in short[:MOST_KEPT]:
        (corpus / path.name).write_bytes(path.read_bytes())
    return len(short[:MOST_KEPT])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument(
        "--keep", action="store_true", help="copy some of what is of interest into the corpus"
    )
    parser.add_argument("--core", type=Path, default=ROOT, help="a built tree, e.g. one with bounds checks")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    known = sorted(path.name for path in (HERE / "corpus").iterdir())
    unknown = set(options.targets) - set(known)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    start, held = time.monotonic(), True
    for target in options.targets or known:
        good, line = search(options.core.resolve(), target, options.seconds)
        held = held and good
        print(line, flush=True)
        if options.keep:
            print(f"{'':14} {keep(target)} files more in the corpus", flush=True)
    verdict = "all held" if held else f"FINDS in {WORK}/finds"
    print(f"{verdict} after {time.monotonic() - start:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
