"""Frames per CPU second from a video file to acknowledged rows, and the share that is not the models' time.

    python -m benchmarks.video VIDEO [--frames 100]

An agent decodes the video, looks at each frame, masks it, encodes it, stores it durably and sends it to a receiver.
The agent is `forebay run --once`, with a clock around each run of a model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway_site import Site, environment

_AGENT = """
gateway: {id: gw-1}
masking: {policy: base}
spool: {dir: spool, sync: full}
forward: {endpoints: [ENDPOINT], keys: {own: keys/gateway.key, server: keys/center.pub}}
log: {level: error}
sources: {yard: {type: file, path: VIDEO, format: video, every: EVERY}}
pipelines:
  yard: {source: yard, steps: [STEPS]}
"""
_INFER = "{infer: {model: street-objects, field: image}}"
ROADS = {
    "objects found, no picture leaves": _INFER + ", {drop: {fields: [image]}}",
    "faces and plates masked, each frame sent": "",
    "both": _INFER,
}


@dataclass(frozen=True)
class Result:
    """CPU seconds of an agent with its children, of these in ONNX Runtime, and what was delivered."""

    cpu_s: float
    model_s: float
    frames: int


def main() -> None:
    """Run the roads and print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--frames", type=int, default=100, help="about so many, evenly spread")
    options = parser.parse_args()
    every = max(1, _frames_of(options.video) // options.frames)
    for what, steps in ROADS.items():
        found = measure(options.video, every, steps)
        empty = measure(options.video, 1_000_000, steps)  # one frame: what the start and loading cost
        count = found.frames - empty.frames
        cpu, model = found.cpu_s - empty.cpu_s, found.model_s - empty.model_s
        print(
            f"{what}: {count} frames, {1e3 * cpu / count:.1f} ms of CPU a frame, {count / cpu:.1f} frames per"
            f" CPU second, not model {1 - model / cpu:.1%}"
        )


def _frames_of(video: Path) -> int:
    from forebay.videos import Video

    return Video(video).announced


def measure(video: Path, every: int, steps: str) -> Result:
    """Send every so-manieth frame through an agent. Raises AssertionError if not all was delivered."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(video, folder / video.name)
        with Site(folder) as site:
            text = _AGENT.replace("VIDEO", video.name).replace("EVERY", str(every)).replace("STEPS", steps)
            site.write_agent(text)
            command = [sys.executable, "-m", "benchmarks.video_agent", "facts.json"]
            agent = subprocess.Popen(
                [*command, "run", "agent.yaml", "--once"],
                cwd=folder,
                env=environment(),
            )
            _, status, usage = os.wait4(agent.pid, 0)
            agent.returncode = os.waitstatus_to_exitcode(status)
            assert agent.returncode == 0, f"the agent ended with {agent.returncode}"
            ((frames,),) = site.query("SELECT count(*) FROM yard")
        facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
        return Result(usage.ru_utime + usage.ru_stime, facts["model_s"], frames)


if __name__ == "__main__":
    main()
