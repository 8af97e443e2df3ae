"""A site for the road: keys, configurations, a receiver and an agent as processes of their own."""

from __future__ import annotations

import compileall
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import forebay
import forebay_core
from forebay import keys

ROOT = Path(__file__).parents[1]
FOREBAY = [sys.executable, "-c", "from forebay.cli import main; main()"]
_RECEIVER = """
center: {id: dc-1}
listen: {endpoint: "tcp://127.0.0.1:PORT", key: keys/center.key, allow: keys/allowed}
sinks: {store: {type: sqlite, path: center.db}}
log: {level: error}
"""
_AGENT = """
gateway: {id: gw-1}
sources: {pump: {type: file, path: pump.jsonl, format: jsonl, time: {field: ts, unit: ms}}}
masking: {policy: base}
pipelines:
  pump:
    source: pump
    key: dev
    steps:
      - validate: {fields: [t, h, p, vib], range: [-1000, 1000000], max_rate: 100000/s}
spool: {dir: spool, sync: full}
forward: {endpoints: [ENDPOINT], keys: {own: keys/gateway.key, server: keys/center.pub}}
log: {level: error}
"""


@dataclass(frozen=True)
class Usage:
    """What a process took: CPU seconds (user and system), seconds, bytes of memory at most."""

    cpu_s: float
    wall_s: float
    max_rss: int


def _high_water(pid: int) -> int:
    """Return the most memory that a process held. ru_maxrss would count what its parent held at the fork."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def memory(pid: int) -> int:
    """Return the bytes of memory that a process holds now (RSS)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU seconds, user and system, that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """Return the environment of a program that imports from here, and else from where this process does."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


class Site:
    """A folder with keys and configurations; the receiver runs while the context is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # An installed agent has its bytecode. One whose sources have just changed would compile them at each start:
        # half a second of CPU that comes and goes, and 0.7 MB more while it rests.
        for package in (forebay, forebay_core):
            compileall.compile_dir(package.__path__[0], quiet=1)
        for name in ("gateway", "center"):
            keys.write_pair(keys.generate(name), folder / "keys")
        public = keys.read_public(folder / "keys" / "gateway.pub")
        keys.enroll("gw-1", public, folder / "keys" / "allowed")
        (folder / "receiver.yaml").write_text(_RECEIVER.replace("PORT", str(free_port())))
        self._receiver: subprocess.Popen[str] | None = None
        self.endpoint = ""

    def __enter__(self) -> Site:
        self._receiver = subprocess.Popen(
            [*FOREBAY, "receive", "receiver.yaml"], cwd=self.folder, stderr=subprocess.PIPE, text=True
        )
        assert self._receiver.stderr is not None
        for line in self._receiver.stderr:
            if line.startswith("listening on "):
                self.endpoint = line.removeprefix("listening on ").strip()
                return self
        raise AssertionError("the receiver did not start")

    def __exit__(self, kind: type[BaseException] | None, _e: object, _t: TracebackType | None) -> None:
        assert self._receiver is not None
        self._receiver.terminate()
        self._receiver.communicate(timeout=20)

    def write_agent(self, text: str = _AGENT) -> None:
        """Write agent.yaml for the receiver that runs, and begin with an empty spool."""
        (self.folder / "agent.yaml").write_text(text.replace("ENDPOINT", self.endpoint))
        spool = self.folder / "spool"
        for path in spool.glob("*") if spool.is_dir() else []:
            path.unlink()

    def write_source(self, data: bytes) -> None:
        """Write the source in a file of its own: of one that was sent the center knows, without the spool too."""
        source = self.folder / "pump.jsonl"
        if source.exists():
            source.rename(self.folder / f"pump-{time.monotonic_ns()}.sent")
        source.write_bytes(data)

    def run_once(self, data: bytes, program: Sequence[str] = ()) -> Usage:
        """Send NDJSON through a fresh agent to its end. Raises AssertionError if not all was delivered.

        `program` runs instead of `forebay`, with the same arguments.
        """
        self.write_source(data)
        self.write_agent()
        return self.run_to_end([*(program or FOREBAY), "run", "agent.yaml", "--once"])

    def run_to_end(self, command: Sequence[str]) -> Usage:
        """Run a program in the site's folder. Raises AssertionError if it fails."""
        begin = time.monotonic()
        agent = subprocess.Popen(command, cwd=self.folder, env=environment())
        max_rss, pid = 0, 0
        while not pid:
            max_rss = max(max_rss, _high_water(agent.pid))
            time.sleep(0.02)
            pid, status, usage = os.wait4(agent.pid, os.WNOHANG)
        agent.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - begin
        assert agent.returncode == 0, f"the agent ended with {agent.returncode}"
        return Usage(usage.ru_utime + usage.ru_stime, wall, max_rss)

    def query(self, sql: str) -> list[tuple[int, ...]]:
        """Ask the receiver's store."""
        with contextlib.closing(sqlite3.connect(self.folder / "center.db")) as db:
            return db.execute(sql).fetchall()

    @property
    def receiver_pid(self) -> int:
        """Process id of the receiver."""
        assert self._receiver is not None
        return self._receiver.pid

    @contextlib.contextmanager
    def agent(self, text: str = "", name: str = "agent.yaml") -> Iterator[subprocess.Popen[bytes]]:
        """Run an agent until the context ends, with `text` as its configuration `name` if it is given."""
        if text:
            (self.folder / name).write_text(text.replace("ENDPOINT", self.endpoint))
        process = subprocess.Popen([*FOREBAY, "run", name], cwd=self.folder)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
