"""kill -9 at chosen system calls (strace) and hundreds of times at random; judged without product code.

FOREBAY_SYSCALL_KILLS (160 in the long run), FOREBAY_TORTURE_KILLS (250 of each), FOREBAY_TORTURE_ROWS,
FOREBAY_KILL_SEED.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from invariants import Verdict, judge
from kills import Kills, Torture, source_rows, write_csv
from live import COLUMNS
from plant import FOREBAY, Plant
from results import record

SEED = int(os.environ.get("FOREBAY_KILL_SEED", "20262"))
SYSCALL_KILLS = int(os.environ.get("FOREBAY_SYSCALL_KILLS", "160"))
KILLS = int(os.environ.get("FOREBAY_TORTURE_KILLS", "250"))
ROWS = int(os.environ.get("FOREBAY_TORTURE_ROWS", str(400 * KILLS)))
HERE = ".venv/bin/python -m pytest tests/system/test_kill_torture.py"
CONFIG = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump: {source: pump, linger: 20ms}
"""
# What moves data to disk or to the other side, and up to which call of a thread (a run of a few batches has no more).
SYSCALLS = {
    "fdatasync": 2,
    "pwrite64": 8,
    "sendto": 2,
    "recvfrom": 2,
    "write": 3,
    "unlink": 1,
    "ftruncate": 1,
    "rename": 1,
    "fsync": 1,
}
ROWS_EACH = 1_500
WAIT_S = 120


def _traceable() -> bool:
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False)
    return done.returncode == 0


needs_strace = pytest.mark.skipif(not _traceable(), reason="strace is missing or may not trace")


class Traced:
    """Starts a command that is killed at the n-th call of a kind."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, log: str, syscall: str, when: int, *arguments: str) -> subprocess.Popen[bytes]:
        inject = ["-e", f"trace={syscall}", "-e", f"inject={syscall}:signal=KILL:when={when}"]
        command = [
            "strace",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-o",
            os.devnull,
            *inject,
            str(FOREBAY),
            *arguments,
        ]
        with (self.plant.folder / f"{log}.log").open("ab") as out:
            child = subprocess.Popen(
                command, cwd=self.plant.folder, env=self.plant.environment, stdout=out, stderr=out
            )
        self.started.append(child)
        return child

    def close(self) -> None:
        """End what still runs: killing strace alone would set its child free."""
        for child in self.started:
            if child.poll() is None:
                tracees = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
                for pid in tracees:
                    os.kill(int(pid), signal.SIGKILL)
                child.wait(WAIT_S)


def kill_at_syscalls(plant: Plant, trials: int, *, first: bool = False) -> tuple[int, dict[str, int], int]:
    """Give the agent new rows in each trial and kill it, or the receiver, at a call. Return kills and rows."""
    traced = Traced(plant)
    try:
        return _kill_at_syscalls(plant, traced, trials, first)
    finally:
        traced.close()


def _kill_at_syscalls(
    plant: Plant, traced: Traced, trials: int, first: bool
) -> tuple[int, dict[str, int], int]:
    rng = random.Random(SEED)
    sent = source_rows(ROWS_EACH * trials, SEED)
    plant.configure(CONFIG, window=2)
    kills: dict[str, int] = {}
    plant.start_receiver()
    for trial in range(trials):
        write_csv(plant.folder / "pump.csv", sent[: ROWS_EACH * (trial + 1)])  # the same lines, and more
        syscall = list(SYSCALLS)[trial % len(SYSCALLS)]
        when = 1 if first else rng.randint(1, SYSCALLS[syscall])
        who = "receiver" if trial % 4 == 3 else "agent"
        if who == "agent":
            child = traced.start("agent", syscall, when, "run", "agent.yaml", "--once")
            killed = child.wait(WAIT_S) == -9
        else:
            plant.stop_receiver()
            child = traced.start("receiver", syscall, when, "receive", "receiver.yaml")
            agent = plant.start_agent("--once", "--give-up", "3s")
            agent.wait(WAIT_S)
            plant.receiver = None
            killed = child.poll() == -9
            traced.close()
            plant.start_receiver()
        if killed:
            kills[f"{who} {syscall}"] = kills.get(f"{who} {syscall}", 0) + 1
    plant.once()
    return sum(kills.values()), kills, len(sent)


def judged(plant: Plant, sent: list[tuple]) -> Verdict:
    rows = [(number, time_ns, *rest) for time_ns, number, *rest in sent]
    verdict = judge(plant.sink, "pump", rows, COLUMNS)
    assert verdict.ok, (str(verdict), plant.log()[-2000:])
    return verdict


@needs_strace
@pytest.mark.slow
def test_kills_at_system_calls_lose_and_double_nothing(plant):
    killed, _, rows = kill_at_syscalls(plant, 7, first=True)
    assert killed >= 1
    judged(plant, source_rows(rows, SEED))


@needs_strace
@pytest.mark.torture
def test_many_kills_at_system_calls_lose_and_double_nothing(plant):
    killed, kinds, rows = kill_at_syscalls(plant, SYSCALL_KILLS)
    verdict = judged(plant, source_rows(rows, SEED))
    record(
        "kill-syscall",
        "kill -9 at a chosen system call of agent or receiver",
        f"FOREBAY_SYSCALL_KILLS={SYSCALL_KILLS} {HERE} -m torture -k system_calls",
        killed,
        verdict,
        note=", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())),
    )


@pytest.mark.torture
def test_five_hundred_kills_at_random_lose_and_double_nothing(plant):
    sent = source_rows(ROWS, SEED)
    write_csv(plant.folder / "pump.csv", sent)
    plant.configure(CONFIG, window=1)
    report = Torture(plant, "pump", ROWS, Kills(KILLS, KILLS, SEED)).run(60 + 20 * KILLS)
    verdict = judged(plant, sent)
    record(
        "kill-random",
        f"kill -9 at random: agent {report.kills['agent']}, receiver {report.kills['receiver']} times",
        f"FOREBAY_TORTURE_KILLS={KILLS} {HERE} -m torture -k at_random",
        sum(report.kills.values()),
        verdict,
        note=f"{report.starting} of them while starting; {report.seconds:.0f} s; {verdict.stored} rows",
    )
