"""Runs tests on another architecture: what the arm64 package installs, under qemu, in a Debian root of that machine.

    python tests/system/emulated.py [PYTEST_ARGUMENT...]

Run by `make test-aarch64` on the package in dist/. The emulator is registered in a namespace of its own, so that
nothing on this machine changes. The tests see the package in /usr/lib/forebay, not the checkout's code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache/chroot"
SUITE, ARCH, MACHINE = "bookworm", "arm64", "aarch64"
EMULATOR = f"/usr/bin/qemu-{MACHINE}-static"
INCLUDED = "python3,libgomp1,openssl"
TOOLS = ("debootstrap", "dpkg-deb", "unshare", EMULATOR)
# What tests import beside the product, at the locked versions.
TEST_LIBRARIES = (
    "pytest",
    "pytest-benchmark",
    "pytest-xdist",
    "hypothesis",
    "jsonschema",
    "prometheus-client",
    "faker",
)
# The sources of the product stay away: what is tested is the package.
COPIED = ("tests", "benchmarks", "config", "docs", "models", "pyproject.toml", "README.md")
# Kernels on both their twins, decoders, wire, spool, masking, models: what a compiler or another processor could
# break. Timing, brokers and whole processes are not the emulator's business.
TESTS = ("tests/core", "tests/property", "tests/unit")
LEFT_OUT = ("tests/unit/test_packaging.py", "tests/unit/test_repository.py", "tests/unit/test_import_layers.py",
            "tests/unit/test_bench_gate.py", "tests/unit/test_readme.py", "tests/unit/test_docs_images.py",
            "tests/unit/test_reliability_page.py", "tests/unit/test_configuration_reference.py")  # fmt: skip

# binfmt_misc of a user namespace is that namespace's own (Linux 6.7 and later). F: the emulator is opened now, so
# that it is found inside the root, too.
INSIDE = r"""
set -e
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' ':forebay:M::MAGIC:MASK:EMULATOR:F' >/proc/sys/fs/binfmt_misc/register
root=$1
shift
for folder in proc dev; do mount --rbind /$folder "$root/$folder"; done
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 "$@"
"""
# The head of a little-endian 64-bit ELF program for this machine; of its type and ABI any.
MAGIC = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
INSIDE = INSIDE.replace("MAGIC", MAGIC).replace("MASK", MASK).replace("EMULATOR", EMULATOR)


def main() -> int:
    """Prepare the root and run the tests; pytest's exit code."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    packages = sorted((ROOT / "dist").glob(f"forebay_*_{ARCH}.deb"))
    if absent or not packages or os.geteuid() != 0:
        needs = [f"{tool} (make install-tools)" for tool in absent]
        needs += [] if packages else [f"an {ARCH} package in dist/ (make packages ARGS='--arch {MACHINE}')"]
        print("test-aarch64 needs:", ", ".join(needs or ["root"]), file=sys.stderr)
        return 2
    root = debian()
    put_in(root, packages[-1])
    skipped = [part for path in LEFT_OUT for part in ("--ignore", path)]
    python = (
        "/usr/bin/env",
        "--chdir=/src",
        "PYTHONPATH=/usr/lib/forebay:/opt/tests",
        "PYTHONDONTWRITEBYTECODE=1",
        "python3",
    )
    told = in_root(
        root, *python, "-c", "import platform, forebay_core as c; print(platform.machine(), c.IMPLEMENTATION)"
    )
    print(told.stdout.strip(), packages[-1].name, flush=True)
    if told.stdout.split() != [MACHINE, "compiled"]:
        print(told.stderr, file=sys.stderr)
        return 1
    chosen = sys.argv[1:] or [
        *TESTS,
        *skipped,
        "-q",
        "-n",
        str(os.cpu_count() or 1),
        "-m",
        "not slow and not torture",
    ]
    return in_root(root, *python, "-m", "pytest", *chosen, capture=False).returncode


def debian() -> Path:
    """Return a root of the other architecture: packages unpacked, not configured, which needs no emulator."""
    folder = CACHE / f"{SUITE}-{ARCH}"
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["debootstrap", f"--arch={ARCH}", "--foreign", "--variant=minbase", f"--include={INCLUDED}", SUITE, folder],
            check=True, stdout=sys.stderr, timeout=900,
        )  # fmt: skip
        for archive in sorted((folder / "var/cache/apt/archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", archive, folder], check=True, timeout=120)
        shutil.rmtree(folder / "var/cache/apt")
        shutil.rmtree(folder / "debootstrap")
        # uid 0 is the only user in the namespace, and it must be able to write here.
        for name in ("tmp", "src", "dev", "proc"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "etc/passwd").write_text("root:x:0:0:root:/tmp:/bin/sh\n")
        (folder / ".complete").touch()
    return folder


def put_in(root: Path, package: Path) -> None:
    """Install package and tests into the root."""
    for old in ("usr/lib/forebay", "opt/tests", "src"):
        shutil.rmtree(root / old, ignore_errors=True)
    subprocess.run(["dpkg-deb", "--extract", package, root], check=True, timeout=300)
    uv = Path(sys.executable).with_name("uv")
    platform = ("--python-platform", f"{MACHINE}-manylinux_2_28", "--only-binary", ":all:")
    locked = ("--constraints", ROOT / "requirements/dev.txt")
    command = (
        uv,
        "pip",
        "install",
        "--quiet",
        "--target",
        root / "opt/tests",
        *platform,
        *locked,
        *TEST_LIBRARIES,
    )
    subprocess.run(command, check=True, timeout=600)
    for name in COPIED:
        source, target = ROOT / name, root / "src" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def in_root(root: Path, *command: str, capture: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of the other architecture, seeing only the root."""
    unshared = (
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "sh",
        "-c",
        INSIDE,
        "sh",
    )
    return subprocess.run([*unshared, str(root), *command], text=True, check=False, capture_output=capture)


if __name__ == "__main__":
    sys.exit(main())
