"""A profile of the whole road: where the agent's and the receiver's CPU time goes, sampled by py-spy.

py-spy (from the peers environment) looks at the stacks of threads that run, from outside. A sample counts for the
function of Forebay's that is innermost on the stack, so a function carries the kernels and libraries that it calls.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import reference_series
from benchmarks.compression import PEERS_ENV, PeersAbsent, peers_python
from benchmarks.gateway_site import FOREBAY, Site
from benchmarks.model import Effort

_HZ = 250
_RECEIVER_S = 30
TOP = 5
_START = "start: interpreter, imports"
_WAITS = {"wait", "poll", "_wait_for_tstate_lock", "join", "acquire"}


def profile(effort: Effort) -> dict[str, Any]:
    """Return the shares of the most expensive functions of agent and receiver. Raises PeersAbsent."""
    peers_python()
    events = max(400_000, effort.events)
    data = reference_series.ndjson(reference_series.generate(events))
    spy = [str(PEERS_ENV / "bin" / "py-spy"), "record", "--format", "raw", "--function", "--rate", str(_HZ)]
    with tempfile.TemporaryDirectory() as name, Site(Path(name)) as site:
        folder = Path(name)
        (folder / "pump.jsonl").write_bytes(data)
        site.write_agent()
        other = subprocess.Popen(
            [
                *spy,
                "--output",
                "receiver.txt",
                "--duration",
                str(_RECEIVER_S),
                "--pid",
                str(site.receiver_pid),
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        agent = [*spy, "--output", "agent.txt", "--", *FOREBAY, "run", "agent.yaml", "--once"]
        done = subprocess.run(agent, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        other.send_signal(2)  # it writes what it has
        other.wait(60)
        if done.returncode or not (folder / "agent.txt").exists():
            raise PeersAbsent(f"py-spy could not look at the agent: {done.stderr.strip()[-300:]}")
        ((rows,),) = site.query("SELECT count(*) FROM pump")
        assert rows == events, f"expected {events} rows at the receiver, found {rows}"
        found = {
            "agent": (folder / "agent.txt").read_text(),
            "receiver": (folder / "receiver.txt").read_text(),
        }
    return {
        "events": events,
        "rate_hz": _HZ,
        **{name: shares(text.splitlines()) for name, text in found.items()},
    }


def shares(lines: Iterable[str]) -> dict[str, Any]:
    """Return samples, and functions with their share of them, dearest first, from collapsed stacks."""
    costs: Counter[str] = Counter()
    rooms: Counter[str] = Counter()
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        if stack and not _waits(stack.rpartition(";")[2]):
            function, room = _innermost(stack.split(";"))
            costs[function] += int(samples)
            rooms[room] += int(samples)
    total = sum(costs.values())
    assert total > 0, "py-spy saw nothing"
    top = [{"function": name, "share": round(n / total, 4)} for name, n in costs.most_common(2 * TOP)]
    by_room = {room: round(n / total, 4) for room, n in rooms.most_common()}
    return {"samples": total, "top": top, "rooms": by_room}


def _waits(frame: str) -> bool:
    """Return whether a stack ends in a wait: py-spy cannot always tell a thread that runs from one that sleeps."""
    name, _, place = frame.partition(" (")
    return (name in _WAITS or name.split(".")[-1] in _WAITS) and ("threading" in place or "zmq" in place)


def _innermost(frames: list[str]) -> tuple[str, str]:
    """Return the function of ours nearest to the end of a stack, and its room or module."""
    for frame in reversed(frames):
        name, _, place = frame.partition(" (")
        place = place.rstrip(")")
        if "forebay" not in place or "site-packages" in place:
            continue
        inside = place[place.index("forebay") :].partition(":")[0]
        if "<module>" in name:
            break
        return f"{name} ({inside})", inside.split("/")[1].removesuffix(".py")
    return _START, _START


def main() -> int:
    """Print a profile."""
    from benchmarks.model import FULL

    found = profile(FULL)
    for side in ("agent", "receiver"):
        print(f"{side}: {found[side]['samples']} samples")
        for entry in found[side]["top"]:
            print(f"  {entry['share']:6.1%}  {entry['function']}")
        print("  " + ", ".join(f"{room} {share:.1%}" for room, share in found[side]["rooms"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
