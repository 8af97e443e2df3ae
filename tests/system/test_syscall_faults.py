"""Agent and receiver killed, or told EIO and ENOSPC, at chosen system calls (strace); judged without product code.

Each trial gives the agent new rows, with an identifier in each. A run in which nothing happens is traced first, and a
fault is put at one of the calls that it made; calls on files are only those on spool, sink and what lies beside them
(Python opens a thousand files before the first of ours). Only faults that strace says it injected are counted.

FOREBAY_SYSCALL_KILLS (240 in the long run), FOREBAY_SYSCALL_ERRORS (240), FOREBAY_KILL_SEED.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import planted
import pytest
from invariants import Verdict, judge
from kills import source_rows, write_csv
from live import COLUMNS
from plant import FOREBAY, Plant
from results import record
from tracing import busiest, traceable

SEED = int(os.environ.get("FOREBAY_KILL_SEED", "20262"))
KILLS = int(os.environ.get("FOREBAY_SYSCALL_KILLS", "240"))
ERRORS = int(os.environ.get("FOREBAY_SYSCALL_ERRORS", "240"))
HERE = ".venv/bin/python -m pytest tests/system/test_syscall_faults.py"
CONFIG = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump: {source: pump, linger: 20ms}
"""
ON_FILES = ("fdatasync", "fsync", "pwrite64", "write", "ftruncate", "openat", "rename", "unlink", "mmap")
ON_SOCKETS = ("sendto", "recvfrom")  # what libzmq moves bytes with
FAILING = ("fdatasync", "fsync", "pwrite64", "write", "ftruncate", "openat", "rename", "unlink")
KILL, EIO, ENOSPC = "signal=KILL", "error=EIO", "error=ENOSPC"
ROWS_EACH = 700
WAIT_S = 600  # under strace on a loaded machine

pytestmark = pytest.mark.skipif(not traceable(), reason="strace is missing or may not trace")


def data_files(plant: Plant) -> list[Path]:
    """Return what agent and receiver keep data in."""
    segments = [plant.spool / f"segment-{n:06d}.db" for n in range(1, 4)]
    suffixes = ("", "-wal", "-shm", "-journal", ".new", ".new-journal")
    names = [p.with_name(p.name + suffix) for p in [*segments, plant.sink] for suffix in suffixes]
    beside = ("", "control.bak", "control.tmp", "place", "lock", "link.json", "link.tmp", "link.json.new")
    return [*names, *(plant.spool / name for name in beside)]


class Traced:
    """Starts agent or receiver under strace, to count their calls or to fail them at the n-th."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, who: str, options: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start one; with `--seccomp-bpf` strace 6.1 would lose the signals."""
        arguments = (
            ["run", "agent.yaml", "--once", "--give-up", "20s"]
            if who == "agent"
            else ["receive", "receiver.yaml"]
        )
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
        self.started.clear()


class Faults:
    """Gives the agent new rows in each trial, and fails it, or the receiver, at a call.

    Attributes
    ----------
    hit : faults that took place, by who and call
    ended : how many processes a failed call ended; one that is killed ends always
    """

    def __init__(self, plant: Plant, trials: int, kinds: Sequence[str], calls: Sequence[str]) -> None:
        self.plant, self.traced, self.rng = plant, Traced(plant), random.Random(SEED)
        self.kinds, self.calls = kinds, calls
        self.sent = source_rows(ROWS_EACH * (trials + 8), SEED)
        self.given = 0
        self.hit: Counter[str] = Counter()
        self.ended = 0
        self.missed: list[str] = []
        self._files = [part for path in data_files(plant) for part in ("-P", str(path))]
        self._trace = plant.folder / "trace"
        plant.configure(CONFIG, window=2)

    def run(self, trials: int) -> None:
        """Count the calls of runs in which nothing happens; then fail one of them in each trial."""
        try:
            for who in ("receiver", "agent"):  # the first makes spool and sink
                self._session(who, ["-o", os.devnull, "-e", "trace=none"])
            most = {who: self._count(who) for who in ("receiver", "agent")}
            plan = [
                (who, call, kind)
                for call in self.calls
                for kind in self.kinds
                for who, of in (("agent", 2), ("receiver", 1))
                for _ in range(of)  # the agent has more to lose
                if most[who][call]
            ]
            for trial in range(trials):
                who, call, kind = plan[trial % len(plan)]
                # Not the very last ones: now and then a run needs a few calls less than the one that was counted.
                self._trial(who, call, kind, self.rng.randint(1, max(1, most[who][call] * 4 // 5)))
            if self.plant.receiver is None:
                self.plant.start_receiver()
            self._more_rows()
            self.plant.once(timeout=WAIT_S)
        finally:
            self.traced.end()

    def _more_rows(self) -> None:
        self.given += ROWS_EACH
        write_csv(self.plant.folder / "pump.csv", self.sent[: self.given], canaries=True)

    def _options(self, calls: Sequence[str]) -> list[str]:
        on_files = self._files if calls[0] in ON_FILES else []
        return ["-o", str(self._trace), *on_files, "-e", f"trace={','.join(calls)}"]

    def _count(self, who: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for calls in (ON_FILES, ON_SOCKETS):
            self._session(who, self._options(calls))
            found |= busiest(self._trace, calls)
        return found

    def _trial(self, who: str, call: str, kind: str, when: int) -> None:
        inject = [*self._options((call,)), "-e", f"inject={call}:{kind}:when={when}"]
        code = self._session(who, inject)
        name = f"{kind.partition('=')[2]} {who} {call}"
        is_hit = code == -signal.SIGKILL if kind == KILL else b"(INJECTED)" in self._trace.read_bytes()
        if is_hit:
            self.hit[name] += 1
            self.ended += code != 0
        else:
            self.missed.append(f"{name} {when}")

    def _session(self, who: str, options: Sequence[str]) -> int:
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
        # Once it has ended the agent has nobody to send to; before, it is done as soon as all is delivered.
        agent = plant.start_agent("--once", "--give-up", "1500ms")
        agent.wait(WAIT_S)
        if child.poll() is None:
            self.traced.end(signal.SIGTERM)
        return child.wait(WAIT_S)


def judged(faults: Faults) -> Verdict:
    """Compare source and sink, and look for identifiers in everything that the run left."""
    plant = faults.plant
    rows = [(number, time_ns, *rest) for time_ns, number, *rest in faults.sent[: faults.given]]
    verdict = judge(plant.sink, "pump", rows, COLUMNS)
    assert verdict.ok, (str(verdict), faults.hit, plant.log()[-2000:])
    plant.close()
    planted.check(plant)
    return verdict


def listed(hit: Counter[str]) -> str:
    """Return counts in words."""
    return ", ".join(f"{n} {name}" for name, n in sorted(hit.items()))


@pytest.mark.slow
def test_kills_at_system_calls_lose_and_double_nothing(plant):
    faults = Faults(plant, 9, [KILL], ON_FILES[:3])
    faults.run(9)
    assert sum(faults.hit.values()) >= 7, faults.missed  # by luck a call of the dry run is not made again
    judged(faults)


@pytest.mark.slow
def test_failing_system_calls_of_agent_and_receiver_lose_and_double_nothing(plant):
    faults = Faults(plant, 9, [EIO, ENOSPC], ("pwrite64", "openat"))
    faults.run(9)
    assert sum(faults.hit.values()) >= 7, faults.missed
    judged(faults)


@pytest.mark.torture
def test_hundreds_of_kills_at_system_calls_lose_and_double_nothing(plant):
    faults = Faults(plant, KILLS, [KILL], ON_FILES + ON_SOCKETS)
    faults.run(KILLS)
    verdict = judged(faults)
    killed = sum(faults.hit.values())
    assert killed > 0.8 * KILLS, faults.missed
    record(
        "kill-syscall",
        "kill -9 at a chosen system call of agent or receiver",
        f"FOREBAY_SYSCALL_KILLS={KILLS} FOREBAY_KILL_SEED={SEED} {HERE} -m torture -k hundreds_of_kills",
        killed,
        verdict,
        note=f"of {KILLS} tried: {listed(faults.hit)}; {verdict.sent} rows sent, {verdict.stored} stored",
    )


@pytest.mark.torture
def test_hundreds_of_failing_system_calls_lose_and_double_nothing(plant):
    faults = Faults(plant, ERRORS, [EIO, ENOSPC], FAILING)
    faults.run(ERRORS)
    verdict = judged(faults)
    failed = sum(faults.hit.values())
    assert failed > 0.8 * ERRORS, faults.missed
    record(
        "error-syscall",
        "EIO or ENOSPC at a chosen system call on a file of agent or receiver",
        f"FOREBAY_SYSCALL_ERRORS={ERRORS} FOREBAY_KILL_SEED={SEED} {HERE} -m torture -k hundreds_of_failing",
        failed,
        verdict,
        note=f"of {ERRORS} tried: {listed(faults.hit)}; {faults.ended} ended the process, which was started again,"
        f" the others went on; {verdict.sent} rows sent, {verdict.stored} stored",
    )
