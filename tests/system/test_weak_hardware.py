"""A gateway of the weakest kind: little memory, a slow core, read-only root, no network and no clock when it starts."""

from __future__ import annotations

import os
import subprocess
import threading
import time

import pytest
from plant import FOREBAY, kill, rows_of
from results import record
from test_clock import Shift, library
from test_service import append, arrived, eventually, ids, stopped
from weak import CORE_SHARE, MEMORY, Cage, can_unshare, read_only_root

__all__ = ["library"]

HERE = ".venv/bin/python -m pytest tests/system/test_weak_hardware.py"
CONFIG = """\
sources:
  a: {type: file, path: a.csv, format: csv, follow: true}
  me: {type: agent, every: 1s}
  box: {type: system, every: 1s, metrics: [cpu, memory]}
pipelines:
  a: {source: a, linger: 200ms, steps: [validate: {field: value, range: [0, 1000000]}, alarm: {when: "value > 24000"}]}
  agent: {source: me}
  box: {source: box}
masking: {policy: base}
"""
ROWS = 100_000


@pytest.fixture
def cage(request):
    made = Cage(f"forebay-test-{os.getpid()}", groups=getattr(request, "param", True))
    yield made
    made.close()


def start(plant, lines: str, *before: str) -> subprocess.Popen[bytes]:
    """Start the agent behind shell lines, as the same process."""
    plant._log_start = len(plant.log())
    with (plant.folder / "agent.log").open("ab") as out:
        child = subprocess.Popen(
            [*before, "sh", "-c", f'{lines}exec "$@"', "sh", FOREBAY, "run", "agent.yaml"],
            cwd=plant.folder, env=plant.environment, stdout=out, stderr=out,
        )  # fmt: skip
    plant.children.append(child)
    return child


@pytest.mark.slow
@pytest.mark.parametrize("cage", [True, False], ids=["groups", "ulimit"], indirect=True)
def test_it_runs_within_256_mb_and_a_quarter_of_a_core(plant, cage):
    append(plant, "a", 0, ROWS)
    plant.configure(CONFIG, window=64)
    plant.start_receiver()
    child = start(plant, cage.wrap())
    try:
        eventually(arrived(plant, "a", ROWS), "the rows that waited at the start")
        stop = threading.Event()

        def live() -> None:
            for first in range(ROWS, ROWS + 2_000, 20):
                append(plant, "a", first, first + 20)
                stop.wait(0.1)

        feeder = threading.Thread(target=live)
        feeder.start()
        try:
            eventually(arrived(plant, "a", ROWS + 2_000), "live rows")
        finally:
            stop.set()
            feeder.join()
        peak = cage.peak_bytes(child.pid)
        assert peak <= MEMORY
        assert not cage.was_killed()
        assert ids(plant, "a") == list(range(ROWS + 2_000))
        assert plant.status()["balanced"]
        stopped(plant, child)
    finally:
        kill(child)
    how = "a cgroup" if cage.folders else "ulimit -d, one core at nice 19"
    record(
        "weak-memory" if cage.folders else "weak-memory-ulimit",
        f"agent held to {MEMORY // 2**20} MB and {CORE_SHARE:g} core by {how}",
        f"{HERE} -k quarter",
        1,
        note=f"{ROWS + 2_000} rows sent, each stored once; peak {peak / 2**20:.0f} MiB, page cache included",
    )


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="needs root and namespaces of mounts and networks")
def test_it_boots_on_a_read_only_root_without_network_and_without_a_clock(plant, cage, library):
    shift = Shift(plant.folder, library)
    shift.set(-int(time.time()) + 60, synced=False)  # a minute past midnight, 1970
    append(plant, "a", 0, 500)
    plant.configure(CONFIG)
    plant.spool.mkdir()
    receiver_environment = dict(plant.environment)
    plant.environment = plant.environment | shift.environment
    lines = cage.wrap() + read_only_root(plant.spool, plant.folder / "witness")
    child = start(plant, lines, "unshare", "-m", "-n")
    try:
        eventually(lambda: "agent runs" in plant.log(), "the agent's start")
        eventually(lambda: plant.status()["streams"].get("a", {}).get("accepted") == 1500, "rows, buffered")
        facts = plant.live()
        assert facts["link"]["state"] == "down"
        assert facts["clock"] == "unsynced"
        assert facts["spool"]["state"] == "ok"
        eventually(lambda: plant.status()["streams"].get("agent", {}).get("accepted"), "a word on itself")

        # the network comes up, and a while later somebody tells the time
        inside = ["nsenter", "-t", str(child.pid), "-n"]
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        with (plant.folder / "receiver.log").open("ab") as out:
            receiver = subprocess.Popen(
                [*inside, FOREBAY, "receive", "receiver.yaml"],
                cwd=plant.folder, env=receiver_environment, stdout=out, stderr=out,
            )  # fmt: skip
        plant.children.append(receiver)
        eventually(arrived(plant, "a", 500), "the rows of 1970")
        shift.set(0)
        eventually(lambda: plant.live()["clock"] == "synced", "the clock")
        append(plant, "a", 500, 600)
        eventually(arrived(plant, "a", 600), "rows of now")
        assert ids(plant, "a") == list(range(600))
        early, late = rows_of(plant.sink, "SELECT min(time), max(time) FROM a")[0]
        assert time.gmtime(early // 10**9).tm_year == 1970, "stamped as the gateway saw it"
        assert time.gmtime(late // 10**9).tm_year == time.gmtime().tm_year
        true = rows_of(plant.sink, "SELECT min(corrected_time), max(corrected_time) FROM a_corrected")[0]
        assert all(abs(t / 1e9 - time.time()) < 3600 for t in true), "the center knows when it was"
        assert rows_of(plant.sink, "SELECT 1 FROM agent WHERE link_up = 0 AND clock_synced = 0")
        assert not (plant.folder / "witness").exists()
        assert plant.status()["balanced"]
        stopped(plant, child)
    finally:
        kill(child)
    record(
        "weak-boot",
        "agent starts on a read-only root, without network, in 1970; network and clock come later",
        f"{HERE} -k boots",
        1,
        note="600 rows sent, each stored once, with their true times in the view",
    )
