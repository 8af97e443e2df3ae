"""Bytes that an agent writes to its disk, for the table in docs/operations.md: `python tests/system/flash.py`.

Rows of five fields are appended to a file at a steady rate, an agent follows it, buffers and delivers, and the
kernel's count of what the agent handed to the block layer (/proc/PID/io, write_bytes) is read over a minute after
it has settled. Needs root or the agent's own user, and a folder on a real disk: a tmpfs counts nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

from plant import Plant, kill

SETTLE_S = 15.0
CONFIG = """\
sources:
  line: {type: file, path: line.csv, follow: true}
pipelines:
  line: {source: line%s}
masking: {policy: base}
"""


def written(pid: int) -> int:
    """Return the bytes that a process has caused to be written to disks."""
    found = re.search(r"^write_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def append(path: Path, readings_a_second: float, stop: threading.Event) -> None:
    """Append rows of five readings, evenly."""
    pause, due, row = 5 / readings_a_second, time.monotonic(), 0
    with path.open("w", buffering=1) as file:
        file.write("t,h,p,vib,st\n")
        while not stop.wait(max(0.0, due - time.monotonic())):
            file.write(f"{20 + row % 300 / 100:.2f},{40 + row % 70 / 10:.1f},{101_300 + row % 50},0.02,1\n")
            row, due = row + 1, due + pause


def measure(folder: Path, readings_a_second: float, options: str, seconds: float) -> dict[str, float]:
    """Return what one load writes."""
    plant = Plant(folder)
    plant.configure(CONFIG % options, window=64)
    agent, stop = plant.start_agent(), threading.Event()
    sender = threading.Thread(target=append, args=(plant.folder / "line.csv", readings_a_second, stop))
    try:
        sender.start()
        plant.start_receiver()
        time.sleep(SETTLE_S)
        before, read, begun = written(agent.pid), plant.status()["streams"]["line"]["read"], time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - begun
        count = plant.status()["streams"]["line"]["read"] - read
        size = written(agent.pid) - before
    finally:
        stop.set()
        sender.join()
        kill(agent)
        plant.close()
    return {
        "readings_a_second": count / took,
        "bytes_a_reading": size / max(count, 1),
        "mb_a_day": size / took * 86_400 / 1e6,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, default=Path.cwd() / ".cache")
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    for rate in (10.0, 1_000.0):
        for options in ("", ", linger: 10s"):
            folder = Path(tempfile.mkdtemp(prefix="flash-", dir=given.folder))
            try:
                found = measure(folder / "p", rate, options, given.seconds)
            finally:
                shutil.rmtree(folder)
            print(
                f"{rate:g}/s{options or ', linger 1s'}:",
                json.dumps({k: round(v, 1) for k, v in found.items()}),
            )


if __name__ == "__main__":
    main()
