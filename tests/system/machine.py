"""A Debian machine in a folder: made by debootstrap once, copied for each test, booted with systemd as PID 1.

It has no network. Root, debootstrap and systemd-nspawn are needed; `missing()` says what is not there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache/chroot"
SUITE = "bookworm"
# What a minimal Debian server has, and what the package depends on: it is installed without a network.
INCLUDED = "systemd-sysv,python3,adduser,debconf,dbus,systemd"
TOOLS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "dpkg-deb": "dpkg",
    "nsenter": "util-linux",
}
PATIENCE_S = 120.0  # a loaded machine; nothing waits for it when all is well


def missing(*more: str) -> str:
    """Return what tests on a machine miss here, "" if nothing."""
    tools = TOOLS | dict.fromkeys(more, "")
    absent = [f"{tool} ({package or tool})" for tool, package in tools.items() if shutil.which(tool) is None]
    reasons = [f"not here: {', '.join(absent)}; make install-tools"] if absent else []
    if os.geteuid() != 0:
        reasons.append("needs root")
    return "; ".join(reasons)


def package(pattern: str) -> Path:
    """Return what `make packages` has put into dist/, or skip the test."""
    found = sorted((ROOT / "dist").glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} in dist/: make packages ARGS='--arch x86_64'")
    return found[-1]


def base() -> Path:
    """Return a freshly installed Debian; downloaded the first time."""
    folder = CACHE / f"{SUITE}-amd64"
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ("debootstrap", "--variant=minbase", f"--include={INCLUDED}", SUITE, str(folder))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            pytest.skip(f"debootstrap: {done.stdout[-300:]} {done.stderr[-300:]}")
        shutil.rmtree(folder / "var/cache/apt")
        for item in (folder / "var/lib/apt/lists").glob("*_*"):
            item.unlink()
        (folder / "etc/machine-id").write_text("")
        (folder / ".complete").touch()
    return folder


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """Copy the freshly installed Debian to a folder and boot it; it is gone afterwards."""
    subprocess.run(["cp", "-a", f"{base()}/.", str(folder)], check=True, timeout=300)
    machine = Machine(folder)
    try:
        machine.boot()
        yield machine
    finally:
        machine.stop()
        shutil.rmtree(folder)


class Machine:
    """A folder with a Debian in it, and the processes that run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._container: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Start systemd; return once it has started what is enabled."""
        with self._log().open("wb") as log:
            self._container = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--boot", f"--directory={self.folder}", "--private-network",
                 "--register=no", "--keep-unit", f"--machine=forebay-{os.getpid()}", "--console=read-only"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        children = Path(f"/proc/{self._container.pid}/task/{self._container.pid}/children")
        wait(lambda: self._started(children), "systemd is PID 1")
        wait(
            lambda: self.try_run("systemctl", "is-system-running")[1].strip() in ("running", "degraded"),
            "boot",
        )

    def _started(self, children: Path) -> bool:
        assert self._container is not None
        assert self._container.poll() is None, self._log().read_text(errors="replace")[-2000:]
        pids = children.read_text().split()
        self._init = int(pids[0]) if pids else 0
        return bool(pids) and Path(f"/proc/{self._init}/comm").read_text() == "systemd\n"

    def _log(self) -> Path:
        return self.folder.with_suffix(".console")

    def stop(self) -> None:
        """Shut down in order, by force when that takes too long."""
        if self._container is None:
            return
        self._container.send_signal(signal.SIGTERM)
        try:
            self._container.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._container.kill()
            self._container.wait()
        self._container = None

    def try_run(self, *command: str, timeout: float = PATIENCE_S, **environment: str) -> tuple[int, str]:
        """Run a command as root on the machine; return its exit code and both of its streams."""
        variables = [f"{k}={v}" for k, v in {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}.items()]
        done = subprocess.run(
            ["nsenter", f"--target={self._init}", "--all", "env", "-i", "--chdir=/", *variables, *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=timeout,
        )  # fmt: skip
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def run(self, *command: str, timeout: float = PATIENCE_S, **environment: str) -> str:
        """Run a command that must succeed, and return its output."""
        code, told = self.try_run(*command, timeout=timeout, **environment)
        assert code == 0, (command, code, told[-3000:])
        return told

    def put(self, file: Path, name: str = "") -> str:
        """Copy a file into the machine's /root; return its path there."""
        target = self.folder / "root" / (name or file.name)
        shutil.copy(file, target)
        return f"/root/{target.name}"

    def path(self, inside: str) -> Path:
        """Return where a file of the machine is."""
        return self.folder / inside.removeprefix("/")

    def write(self, inside: str, text: str) -> None:
        """Write a file of root's that everybody reads."""
        self.path(inside).write_text(text, encoding="utf-8")

    def journal(self, unit: str) -> str:
        """Return the end of what a unit has logged."""
        return self.try_run("journalctl", "--no-pager", "-n", "60", "-u", unit)[1]


def wait(condition: Callable[[], object], what: str, *, told: Callable[[], str] = str) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}\n{told()}"
        time.sleep(0.05)


if __name__ == "__main__":
    absent = [missing("podman")] if missing("podman") else []
    wanted = ("forebay_*_amd64.deb", "forebay-*-offline-x86_64.tar.gz")
    absent += [f"no {p} in dist/: make packages" for p in wanted if not list((ROOT / "dist").glob(p))]
    sys.exit(f"test-install: {'; '.join(absent)}" if absent else 0)
