"""A weak machine around one process: 256 MB, a quarter of one core, a read-only root, no network yet, no clock yet.

Memory and CPU time are bounded by a cgroup of the test's own (version 1 or 2), which takes root. Where none can be
made, `ulimit -d` and one core at nice 19 stand in: they miss the page cache and the kernel's own memory, and bound
no CPU time; the peak of resident memory is then what the test looks at. A real gateway's slow flash, small caches and
missing instructions are not imitated at all.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

MEMORY = 256 * 1024**2
CORE_SHARE = 0.25
_PERIOD_US = 20_000
_ROOT = Path("/sys/fs/cgroup")


class Cage:
    """A cgroup with bounded memory and CPU time, or what comes closest. `wrap` a command, `close` at the end."""

    def __init__(self, name: str, *, groups: bool = True) -> None:
        self.folders: list[Path] = []
        try:
            if groups:
                self._make(name)
        except OSError:
            self.close()

    def _make(self, name: str) -> None:
        quota = str(int(_PERIOD_US * CORE_SHARE))
        if (_ROOT / "cgroup.controllers").exists():
            folder = self._folder(_ROOT / name)
            for file, text in (("memory.max", f"{MEMORY}"), ("memory.swap.max", "0"),
                               ("cpu.max", f"{quota} {_PERIOD_US}")):  # fmt: skip
                (folder / file).write_text(text)
            return
        memory, cpu = self._folder(_ROOT / "memory" / name), self._folder(_ROOT / "cpu" / name)
        (memory / "memory.limit_in_bytes").write_text(f"{MEMORY}")
        (cpu / "cpu.cfs_period_us").write_text(f"{_PERIOD_US}")
        (cpu / "cpu.cfs_quota_us").write_text(quota)

    def _folder(self, path: Path) -> Path:
        path.mkdir()
        self.folders.append(path)
        return path

    def wrap(self) -> str:
        """Return shell lines that put the shell, and what it becomes, inside."""
        if not self.folders:
            return f'ulimit -d {2 * MEMORY // 1024}; set -- taskset -c 0 nice -n 19 "$@"\n'
        return "".join(f"echo $$ >{folder}/cgroup.procs\n" for folder in self.folders)

    def peak_bytes(self, pid: int) -> int:
        """Return the most memory that was in use, page cache included where a cgroup counts it."""
        for folder in self.folders:
            for name in ("memory.peak", "memory.max_usage_in_bytes"):
                with contextlib.suppress(OSError):
                    return int((folder / name).read_text())
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def was_killed(self) -> bool:
        """Tell whether the kernel ended something for want of memory."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    found = re.search(r"^oom_kill (\d+)", (folder / name).read_text(), re.MULTILINE)
                    return found is not None and found[1] != "0"
        return False

    def close(self) -> None:
        """Remove it. What ran inside must have ended."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self.folders = []


def can_unshare() -> bool:
    """Tell whether mount and network namespaces can be made here."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "mount", "ip"))):
        return False
    return subprocess.run(["unshare", "-m", "-n", "true"], capture_output=True, check=False).returncode == 0


def read_only_root(writable: Path, witness: Path) -> str:
    """Return shell lines, run in a mount namespace of their own, after which only `writable` takes writes."""
    return f"""set -e
mount --make-rprivate /
mount --bind {writable} {writable}
mount -t tmpfs -o ro,size=4k none /dev/shm
mount -o remount,bind,ro /
if touch {witness} 2>/dev/null; then echo "the root takes writes" >&2; exit 99; fi
touch {writable}/.writable && rm {writable}/.writable
"""
