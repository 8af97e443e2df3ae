"""The whole road as a user runs it: file to acknowledged, agent and receiver in processes of their own."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import reference_series
from benchmarks.gateway_site import Site, Usage, cpu_seconds_of
from benchmarks.model import Budget, Effort, Figure, cpu_seconds
from benchmarks.personal import with_personal_data
from forebay.spool import segment_path

ROAD_BUDGET = Budget(1.2)
MASKED_BUDGET = Budget(2.0)
PACE_BUDGET = Budget(400_000, most=False)


def road(effort: Effort) -> list[Figure]:
    """Measure NDJSON events of 5 readings: parse, validate, mask and guard, durable spool, CURVE, ACK."""
    series = reference_series.generate(effort.events)
    data = reference_series.ndjson(series)
    figures = _road("road", "NDJSON events of 5 readings, file to acknowledged", data, effort, ROAD_BUDGET)
    masked = with_personal_data(data)
    return figures + _road(
        "road-masked", "the same, 10 % of events with personal data in a text", masked, effort, MASKED_BUDGET
    )


def _road(name: str, what: str, data: bytes, effort: Effort, budget: Budget) -> list[Figure]:
    turns = 2 * effort.repeats  # of seconds each: neighbours on the machine come and go, and only add
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder)) as site:
        empty = min((site.run_once(b"") for _ in range(3)), key=lambda u: u.cpu_s)
        runs = [_checked(site, data, turn, effort.events) for turn in range(1, turns + 1)]
        ((wire_bytes, readings),) = site.query("SELECT sum(wire_bytes), sum(readings) FROM batches")
    best = min(runs, key=lambda u: u.cpu_s)
    fastest = min(runs, key=lambda u: u.wall_s)
    per_million = (best.cpu_s - empty.cpu_s) / effort.events * 1e6
    note = f"start-up of {empty.cpu_s:.2f} CPU-s subtracted; {effort.events} events, best of {turns}"
    return [
        Figure(
            f"{name}-cpu",
            f"{what}: agent",
            per_million,
            "CPU-s/M events",
            budget,
            {"json.loads of the same lines": _json_loads(data)},
            note,
        ),
        Figure(
            f"{name}-pace",
            f"{what}: on one core, from the agent's CPU time",
            1e6 / per_million,
            "events/s",
            PACE_BUDGET if name == "road" else None,
        ),
        Figure(
            f"{name}-wall",
            f"{what}: pace beside the receiver on the same cores",
            effort.events / (fastest.wall_s - empty.wall_s),
            "events/s",
        ),
        Figure(f"{name}-bytes", f"{what}: on the wire", wire_bytes / readings, "B/reading"),
        Figure(f"{name}-rss", f"{what}: most memory", best.max_rss / 1e6, "MB"),
    ]


class Ratio:
    """The agent's CPU time for events beside `json.loads` of the same lines, start-up subtracted, for the gate.

    Of each the lowest of several turns: what else runs on the machine can only add, and not to both alike.
    `planted` is the share of CPU time that the agent's process burns beside its work.
    """

    def __init__(self, events: int, planted: float = 0.0) -> None:
        self._data = reference_series.ndjson(reference_series.generate(events))
        self._events, self._turn = events, 0
        self._program = [sys.executable, "-m", "benchmarks.plant", str(planted)] if planted else []
        self._folder = tempfile.TemporaryDirectory()
        self._site = Site(Path(self._folder.name))

    def __enter__(self) -> Ratio:
        self._site.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._site.__exit__(*error)
        self._folder.cleanup()

    def measure(self, turns: int) -> float:
        """Return the ratio."""
        empty, beside, full = zip(*(self._measure() for _ in range(turns)), strict=True)
        return (min(full) - min(empty)) / self._events * 1e6 / min(beside)

    def _measure(self) -> tuple[float, float, float]:
        """Return CPU seconds of a run without events, of a million `json.loads`, and of a run with events."""
        self._turn += 1
        empty = self._site.run_once(b"", self._program)
        beside = _json_loads(self._data)
        run = self._site.run_once(self._data, self._program)
        ((rows,),) = self._site.query("SELECT count(*) FROM pump")
        assert rows == self._turn * self._events, f"expected {self._turn * self._events} rows, found {rows}"
        return empty.cpu_s, min(beside, _json_loads(self._data)), run.cpu_s


def _json_loads(data: bytes) -> float:
    """Return CPU-s a million events of Python's own parser: how fast this machine is at this hour."""
    lines = data[: 1 << 20].splitlines()[:-1]
    return cpu_seconds(lambda: [json.loads(line) for line in lines], 0.3) / len(lines) * 1e6


def _checked(site: Site, data: bytes, turn: int, events: int) -> Usage:
    usage = site.run_once(data)
    ((rows,),) = site.query("SELECT count(*) FROM pump")
    assert rows == turn * events, f"expected {turn * events} rows at the receiver, found {rows}"
    return usage


def start_and_rest(effort: Effort) -> list[Figure]:
    """Measure the time from start to the first durable reading, and the CPU of an idle agent."""
    data = reference_series.ndjson(reference_series.generate(50))
    with tempfile.TemporaryDirectory() as name, Site(Path(name)) as site:
        starts = [_first_durable(site, data) for _ in range(2 + effort.repeats)]
        site.write_source(data)
        site.write_agent()
        text = (site.folder / "agent.yaml").read_text()
        (site.folder / "agent.yaml").write_text(text.replace("format: jsonl", "format: jsonl, follow: true"))
        with site.agent() as process:
            _await_stored(site, process)
            time.sleep(2.0)
            before = cpu_seconds_of(process.pid)
            time.sleep(3.0)
            idle = (cpu_seconds_of(process.pid) - before) / 3.0
    return [
        Figure("start", "start to first durable reading, no vision", min(starts), "s", Budget(0.6),
               {"bare imports of its libraries": min(_bare_imports() for _ in starts)}),
        Figure("cpu-idle", "CPU of an idle agent", idle * 100, "% of a core"),
    ]  # fmt: skip


def _first_durable(site: Site, data: bytes) -> float:
    """Start an agent; return the seconds until its spool file holds a stored position."""
    site.write_source(data)
    site.write_agent()
    text = (site.folder / "agent.yaml").read_text()
    (site.folder / "agent.yaml").write_text(text.replace("    key: dev\n", "    key: dev\n    linger: 0s\n"))
    begin = time.monotonic()
    with site.agent() as process:
        _await_stored(site, process)
        return time.monotonic() - begin


def _await_stored(site: Site, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not _is_stored(site):
        assert process.poll() is None, "the agent ended"
        assert time.monotonic() < deadline, "nothing was stored in 30 s"
        time.sleep(0.01)  # two cores: looking must not slow down what is looked at


def _is_stored(site: Site) -> bool:
    path = segment_path(site.folder / "spool")
    if not path.exists():
        return False
    # it may be between its creation and its tables
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_read_only(path)) as db:
        (found,) = db.execute("SELECT EXISTS (SELECT 1 FROM ledger WHERE kind = 'accepted')").fetchone()
        return bool(found)
    return False


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)


def _bare_imports() -> float:
    """Return the seconds that an interpreter with the libraries that nobody can do without takes to start."""
    begin = time.monotonic()
    words = "import zmq, msgpack, numpy, pydantic, zstandard, sqlite3"
    subprocess.run([sys.executable, "-c", words], check=True)
    return time.monotonic() - begin
