"""The whole road as a user runs it: file to acknowledged, agent and receiver in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import reference_series
from benchmarks.gateway_site import Site, Usage
from benchmarks.model import Budget, Effort, Figure, cpu_seconds
from benchmarks.personal import with_personal_data
from benchmarks.plant import plant
from forebay.spool import segment_path

ROAD_BUDGET = Budget(1.2)
MASKED_BUDGET = Budget(2.0)
_IDLE_AGENT = """
gateway: {id: gw-1}
sources:
  mq: {type: mqtt, broker: "mqtt://127.0.0.1:MQTT", topics: ["plant/{dev}"], version: 3.1.1}
  mb: {type: modbus, host: 127.0.0.1, port: MODBUS, registers: [{name: temperature, address: 0}]}
pipelines:
  mq: {source: mq, key: dev}
  mb: {source: mb}
masking: {policy: base}
spool: {dir: spool, sync: full}
forward: {endpoints: [ENDPOINT], keys: {own: keys/gateway.key, server: keys/center.pub}}
log: {level: error}
"""


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
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder)) as site:
        empty = min((site.run_once(b"") for _ in range(2)), key=lambda u: u.cpu_s)
        runs = [_checked(site, data, turn, effort.events) for turn in range(1, effort.repeats + 1)]
        ((wire_bytes, readings),) = site.query("SELECT sum(wire_bytes), sum(readings) FROM batches")
    best = min(runs, key=lambda u: u.cpu_s)
    fastest = min(runs, key=lambda u: u.wall_s)
    per_million = (best.cpu_s - empty.cpu_s) / effort.events * 1e6
    note = f"start-up of {empty.cpu_s:.2f} CPU-s subtracted; {effort.events} events, best of {effort.repeats}"
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
            f"{name}-wall",
            f"{what}: pace beside the receiver on the same cores",
            effort.events / (fastest.wall_s - empty.wall_s),
            "events/s",
        ),
        Figure(f"{name}-bytes", f"{what}: on the wire", wire_bytes / readings, "B/reading"),
        Figure(f"{name}-rss", f"{what}: most memory", best.max_rss / 1e6, "MB"),
    ]


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
    """Measure the time from start to the first durable reading, and memory and CPU of an idle agent."""
    data = reference_series.ndjson(reference_series.generate(50))
    with tempfile.TemporaryDirectory() as name, Site(Path(name)) as site:
        (site.folder / "pump.jsonl").write_bytes(data)
        starts = [_first_durable(site) for _ in range(2 + effort.repeats)]
        with plant() as (mqtt_port, modbus_port):
            text = _IDLE_AGENT.replace("MQTT", str(mqtt_port)).replace("MODBUS", str(modbus_port))
            site.write_agent(text)
            with site.agent() as process:
                _await_stored(site, process)
                time.sleep(5.0)
                before = _cpu_ticks(process.pid)
                time.sleep(3.0)
                idle = (_cpu_ticks(process.pid) - before) / os.sysconf("SC_CLK_TCK") / 3.0
                rss = _rss(process.pid)
    return [
        Figure("start", "start to first durable reading, no vision", min(starts), "s", Budget(0.6),
               {"bare imports of its libraries": min(_bare_imports() for _ in starts)}),
        Figure(
            "rss-idle",
            "memory of an idle agent with MQTT and Modbus sources",
            rss / 1e6,
            "MB",
            Budget(58),
            note="clean code pages of the start given up, as the agent does 3 s after it",
        ),
        Figure("cpu-idle", "its CPU, with one poll a second", idle * 100, "% of a core"),
    ]  # fmt: skip


def _first_durable(site: Site) -> float:
    """Start an agent; return the seconds until its spool file holds a stored position."""
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


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
