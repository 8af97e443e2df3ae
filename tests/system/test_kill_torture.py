"""kill -9 at chosen system calls (strace) and hundreds of times at random; judged without product code.

FOREBAY_SYSCALL_KILLS (160 in the long run), FOREBAY_TORTURE_KILLS (250 of each), FOREBAY_TORTURE_ROWS,
FOREBAY_KILL_SEED.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from invariants import Verdict, judge
from kills import Kills, Torture, source_rows, write_csv
from live import COLUMNS
from plant import FOREBAY, Plant
from results import record
from tracing import busiest, traceable

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
# What moves data to disk or to the other side, names files or opens them. `openat` is that of Python's start, too.
CALLS = (
    "fdatasync",
    "pwrite64",
    "sendto",
    "recvfrom",
    "write",
    "unlink",
    "ftruncate",
    "rename",
    "fsync",
    "openat",
)
ROWS_EACH = 1_500
WAIT_S = 600  # under strace on a loaded machine

needs_strace = pytest.mark.skipif(not traceable(), reason="strace is missing or may not trace")


class Traced:
    """Starts agent or receiver under strace, to count their calls or to kill them at the n-th."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, who: str, options: list[str]) -> subprocess.Popen[bytes]:
        """Start one; with `--seccomp-bpf` strace 6.1 would lose the signals."""
        arguments = ["run", "agent.yaml", "--once"] if who == "agent" else ["receive", "receiver.yaml"]
        with (self.plant.folder / f"{who}.log").open("ab") as out:
            child = subprocess.Popen(
                ["strace", "-f", "-qq", *options, str(FOREBAY), *arguments],
                cwd=self.plant.folder,
                env=self.plant.environment,
                stdout=out,
                stderr=out,
            )
        self.started.append(child)
        return child

    def end(self, number: int = signal.SIGKILL) -> None:
        """End what still runs: killing strace alone would set its child free."""
        for child in self.started:
            if child.poll() is None:
                tracees = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
                for pid in tracees:
                    os.kill(int(pid), number)
                child.wait(WAIT_S)


class SyscallKills:
    """Gives the agent new rows in each trial, and kills it, or the receiver, at a call."""

    def __init__(self, plant: Plant, trials: int) -> None:
        self.plant, self.traced, self.rng = plant, Traced(plant), random.Random(SEED)
        self.sent = source_rows(ROWS_EACH * (trials + 2), SEED)
        self.given = 0
        self.kills: Counter[str] = Counter()
        plant.configure(CONFIG, window=2)

    def run(self, trials: int) -> None:
        """Count the calls of a run in which nothing happens; then kill at one of them in each trial."""
        try:
            most = {who: self._count(who) for who in ("receiver", "agent")}  # the first makes spool and sink
            kinds = {who: [call for call in CALLS if most[who][call]] for who in most}
            for trial in range(trials):
                who = "receiver" if trial % 3 == 2 else "agent"
                call = kinds[who][trial // 3 % len(kinds[who])]
                # Not the very last ones: now and then a run needs a few calls less than the one that was counted.
                self._trial(who, call, self.rng.randint(1, max(1, most[who][call] * 4 // 5)))
            if self.plant.receiver is None:
                self.plant.start_receiver()
            self._more_rows()
            self.plant.once()
        finally:
            self.traced.end()

    def _more_rows(self) -> None:
        self.given += ROWS_EACH
        write_csv(self.plant.folder / "pump.csv", self.sent[: self.given])  # the same lines, and more

    def _count(self, who: str) -> dict[str, int]:
        trace = self.plant.folder / f"{who}.trace"
        self._session(who, ["-o", str(trace), "-e", f"trace={','.join(CALLS)}"])
        return busiest(trace, CALLS)

    def _trial(self, who: str, call: str, when: int) -> None:
        inject = ["-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
        if self._session(who, inject) == -signal.SIGKILL:
            self.kills[f"{who} {call}"] += 1

    def _session(self, who: str, options: list[str]) -> int:
        """Run both to the agent's end, one of them under strace. Return the traced one's exit code."""
        plant = self.plant
        self._more_rows()
        if who == "agent":
            if plant.receiver is None:
                plant.start_receiver()
            return self.traced.start("agent", options).wait(WAIT_S)
        if plant.receiver is not None:
            plant.stop_receiver()
        child = self.traced.start("receiver", options)
        # Once it is killed the agent has nobody to send to; before, it is done as soon as all is delivered.
        agent = plant.start_agent("--once", "--give-up", "1500ms")
        agent.wait(WAIT_S)
        if child.poll() is None:
            self.traced.end(signal.SIGTERM)
        return child.wait(WAIT_S)


def judged(plant: Plant, sent: list[tuple]) -> Verdict:
    rows = [(number, time_ns, *rest) for time_ns, number, *rest in sent]
    verdict = judge(plant.sink, "pump", rows, COLUMNS)
    assert verdict.ok, (str(verdict), plant.log()[-2000:])
    return verdict


@needs_strace
@pytest.mark.slow
def test_kills_at_system_calls_lose_and_double_nothing(plant):
    torture = SyscallKills(plant, 9)
    torture.run(9)
    assert sum(torture.kills.values()) >= 7, torture.kills  # by luck a call of the dry run is not made again
    judged(plant, torture.sent[: torture.given])


@needs_strace
@pytest.mark.torture
def test_many_kills_at_system_calls_lose_and_double_nothing(plant):
    torture = SyscallKills(plant, SYSCALL_KILLS)
    torture.run(SYSCALL_KILLS)
    verdict = judged(plant, torture.sent[: torture.given])
    killed = sum(torture.kills.values())
    assert killed > 0.8 * SYSCALL_KILLS, torture.kills
    record(
        "kill-syscall",
        "kill -9 at a chosen system call of agent or receiver",
        f"FOREBAY_SYSCALL_KILLS={SYSCALL_KILLS} {HERE} -m torture -k system_calls",
        killed,
        verdict,
        note=f"of {SYSCALL_KILLS} injected: "
        + ", ".join(f"{n} {k}" for k, n in sorted(torture.kills.items())),
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
