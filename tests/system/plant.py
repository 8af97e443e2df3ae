"""A gateway and a center in one folder, run as the child processes that a customer runs.

Everything that they write is under the folder: spools, sink, logs, and TMPDIR too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

FOREBAY = Path(sys.executable).with_name("forebay")
START_S = 60.0  # a shared machine may be busy; nothing waits for it when all is well

RECEIVER = """\
center: {{id: dc-1}}
listen: {{endpoint: "tcp://127.0.0.1:{port}", key: keys/center.key, allow: keys/allowed}}
sinks:
  store: {{type: sqlite, path: center.db}}
"""

FORWARD = """
forward:
  endpoints: ["tcp://127.0.0.1:{port}"]
  keys: {{own: keys/gateway.key, server: keys/center.pub}}
  window: {window}
  ack_timeout: 5s
  retry_min: 20ms
  retry_max: 200ms
"""


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def rows_of(database: Path, sql: str, *values: Any) -> list[tuple]:
    """Return a query's rows, read without product code; an empty list while there is no such table."""
    if not database.exists():
        return []
    db = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    try:
        return db.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        db.close()


class Plant:
    """One agent, one receiver, their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.children: list[subprocess.Popen[bytes]] = []
        self.receiver: subprocess.Popen[bytes] | None = None
        (folder / "tmp").mkdir(parents=True)
        self.environment = os.environ | {"TMPDIR": str(folder / "tmp")}
        self.cli("keys", "new", "gateway", "--dir", "keys")
        self.cli("keys", "new", "center", "--dir", "keys")
        self.cli("keys", "enroll", "gw-1", "keys/gateway.pub", "--allow", "keys/allowed")
        (folder / "receiver.yaml").write_text(RECEIVER.format(port=self.port))

    def reset(self) -> None:
        """End everything and forget what was stored: keys, configurations and input stay."""
        self.close()
        shutil.rmtree(self.spool, ignore_errors=True)
        for path in self.folder.glob("center.db*"):
            path.unlink()

    # -- files ----------------------------------------------------------------------------------------------

    @property
    def sink(self) -> Path:
        return self.folder / "center.db"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def segment(self) -> Path:
        return max(self.spool.glob("segment-*.db"), default=self.spool / "segment-000001.db")

    def log(self, name: str = "agent") -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def configure(
        self,
        sources_and_pipelines: str,
        *,
        rest: str = "",
        spool: str = "",
        window: int = 8,
        forward: bool = True,
        name: str = "agent.yaml",
    ) -> Path:
        """Write the agent's configuration and return its path."""
        text = f"gateway: {{id: gw-1, site: lab}}\n{sources_and_pipelines}\n{rest}\n"
        text += f"spool: {{dir: spool{', ' + spool if spool else ''}}}\n"
        text += FORWARD.format(port=self.port, window=window) if forward else ""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    # -- commands -------------------------------------------------------------------------------------------

    def cli(self, *arguments: object, expect: int | None = 0) -> str:
        """Run a short command to its end and return its output; `last_error` is what it said on stderr.

        In this process, by the entry point of the `forebay` script: a process of its own costs half a second.
        """
        from forebay.cli.app import run

        out, error = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), redirect_stdout(out), redirect_stderr(error):
            code = run([str(a) for a in arguments])
        self.last_error = error.getvalue()
        assert expect is None or code == expect, (arguments, code, self.last_error[-3000:])
        return out.getvalue()

    def process(self, *arguments: object, expect: int, timeout: float = 120.0) -> str:
        """Run a command as a process of its own and return both of its streams."""
        done = subprocess.run(
            [FOREBAY, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        told = done.stdout.decode("utf-8", "replace")
        assert done.returncode == expect, (arguments, done.returncode, told[-3000:])
        return told

    def once(self, *, expect: int | None = 0, timeout: float = 120.0, options: tuple[str, ...] = ()) -> str:
        """Run the agent to its end; return what it logged in this run."""
        child = self.start_agent("--once", *options)
        try:
            child.wait(timeout)
        finally:
            kill(child)
        log = self.log()[self._log_start :]
        assert expect is None or child.returncode == expect, (child.returncode, log[-3000:])
        return log

    def status(self) -> dict[str, Any]:
        """Return `forebay status --json`."""
        return json.loads(self.cli("status", "agent.yaml", "--json"))

    def live(self) -> dict[str, Any]:
        """Return the same as the running agent tells it: one that starts or is busy leaves it to the files at first."""
        deadline = time.monotonic() + START_S
        while "link" not in (facts := self.status()):
            assert time.monotonic() < deadline, f"the agent does not answer: {self.log()[-3000:]}"
            time.sleep(0.05)
        return facts

    def ledger(self, stream: str) -> dict[str, Any]:
        """Return a stream's ledger, having asserted that it balances."""
        facts = self.status()
        assert facts["balanced"], facts
        return facts["streams"][stream]

    # -- processes ------------------------------------------------------------------------------------------

    def _start(self, log: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{log}.log").open("ab") as out:
            child = subprocess.Popen(
                [FOREBAY, *arguments], cwd=self.folder, env=self.environment, stdout=out, stderr=out
            )
        self.children.append(child)
        return child

    def start_agent(self, *options: str) -> subprocess.Popen[bytes]:
        """Start `forebay run`."""
        self._log_start = len(self.log())
        return self._start("agent", "run", "agent.yaml", *options)

    def start_receiver(self, *, wait: bool = True) -> subprocess.Popen[bytes]:
        """Start `forebay receive`; return once it listens, unless told not to wait."""
        before = self.log("receiver").count("listening on")
        child = self.receiver = self._start("receiver", "receive", "receiver.yaml")
        deadline = time.monotonic() + START_S
        while wait and self.log("receiver").count("listening on") == before:
            assert child.poll() is None, self.log("receiver")[-3000:]
            assert time.monotonic() < deadline, "the receiver does not listen"
            time.sleep(0.01)
        return child

    def stop_receiver(self) -> None:
        """End the receiver with SIGTERM; it must exit 0."""
        assert self.receiver is not None
        self.receiver.terminate()
        assert self.receiver.wait(20) == 0
        self.receiver = None

    def close(self) -> None:
        """Kill what still runs."""
        for child in self.children:
            kill(child)


def kill(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL and reap; nothing if it has ended."""
    if child.poll() is None:
        child.send_signal(signal.SIGKILL)
        child.wait(10)
