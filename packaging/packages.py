"""Builds what is installed on gateways: wheels, Debian packages, offline bundles, for x86-64 and aarch64.

    python packaging/packages.py [--twice] [--arch ARCH]... [--sign KEY] [--out dist]

Run by `make packages` in the product's environment; tools are in .cache/packaging. Everything is built from the
sdist of the commit, with SOURCE_DATE_EPOCH set to the commit's time, so the same commit gives the same bytes;
`--twice` builds two times and compares. The checkout is copied once, before the first build: who works on meanwhile
changes nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))

from debian import build_deb  # noqa: E402 - beside this file, which is no package
from offline import build_bundle  # noqa: E402
from sbom import write_sbom  # noqa: E402
from targets import EXTRAS, GLIBC, TARGETS, Target, Tools, digest, run, sign, write_sums  # noqa: E402


def main() -> int:
    """Build; 1 when two builds differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--twice", action="store_true", help="build two times and compare")
    parser.add_argument("--arch", action="append", choices=[t.arch for t in TARGETS], help="default: both")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="also write SHA256SUMS.sig: Ed25519, PEM")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    chosen = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = commit_time()
    tools = Tools(ROOT / ".cache" / "packaging")
    chosen.out.mkdir(parents=True, exist_ok=True)
    for old in (*chosen.out.glob("forebay[-_]*"), *chosen.out.glob("SHA256SUMS*")):
        old.unlink()
    made: list[Path] = []
    differing: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"
        run(str(ROOT / "packaging/copy_tree.sh"), str(checkout))
        for target in [t for t in TARGETS if not chosen.arch or t.arch in chosen.arch]:
            begin = time.monotonic()
            first = build(checkout, target, chosen.out, tools)
            print(f"{target.arch}: {time.monotonic() - begin:.0f} s")
            for path in first:
                print(f"{path.stat().st_size:>12,}  {digest(path)[:16]}  {path.name}", flush=True)
            differing += unlike(first, checkout, target, tools) if chosen.twice else []
            made += first
    sums = write_sums(made, chosen.out)
    if chosen.sign:
        sign(sums, chosen.sign)
    if chosen.twice:
        print(
            f"differ between two builds: {', '.join(differing)}"
            if differing
            else "two builds: the same bytes"
        )
    return 1 if differing else 0


def unlike(first: list[Path], checkout: Path, target: Target, tools: Tools) -> list[str]:
    """Build a target again, as another user of another place would; return the names of files that differ."""
    before, begin = os.umask(0o077), time.monotonic()
    os.environ["TZ"] = "Asia/Shanghai"
    try:
        with tempfile.TemporaryDirectory() as folder:
            second = build(checkout, target, Path(folder), tools)
            differing = [a.name for a, b in zip(first, second, strict=True) if digest(a) != digest(b)]
    finally:
        os.umask(before)
        del os.environ["TZ"]
    took = f"{time.monotonic() - begin:.0f} s"
    print(f"{target.arch} again: {took}, {', '.join(differing) or 'the same bytes'}", flush=True)
    return differing


def commit_time() -> str:
    """Return the time of the commit, or of the sources where there is no repository."""
    try:
        return run("git", "-C", str(ROOT), "log", "-1", "--format=%ct", capture=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return str(int((ROOT / "pyproject.toml").stat().st_mtime))


def build(checkout: Path, target: Target, out: Path, tools: Tools) -> list[Path]:
    """Build everything for a target into `out`; return the files."""
    with tempfile.TemporaryDirectory() as folder:
        sources = unpacked_sources(checkout, Path(folder))
        wheel = build_wheel(sources, target, out, tools)
        tree = install_tree(checkout, wheel, target, Path(folder) / f"tree-{target.arch}", tools)
        sbom = write_sbom(tree, out / f"forebay-{target.arch}.cdx.json", target)
        return [
            wheel,
            sbom,
            build_deb(tree, sbom, target, out, checkout),
            build_bundle(wheel, sbom, target, out, tools, checkout),
        ]


def unpacked_sources(checkout: Path, folder: Path) -> Path:
    """Return the sdist of a checkout, unpacked: what is not in it cannot get into a package."""
    os.umask(0o022)  # modes of files get into wheels
    copy = folder / "checkout"  # setuptools would leave its own files in the checkout
    shutil.copytree(checkout, copy)
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(folder), str(copy))
    (archive,) = folder.glob("forebay-*.tar.gz")
    shutil.unpack_archive(archive, folder)
    (sources,) = (p for p in folder.glob("forebay-*") if p.is_dir())
    for path in sources.rglob("*"):  # a checkout's modes depend on who made it
        path.chmod(0o755 if path.is_dir() else 0o644)
    return sources


def build_wheel(sources: Path, target: Target, out: Path, tools: Tools) -> Path:
    """Compile for a target and return its manylinux wheel."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        shutil.copytree(sources, work)
        compiler = str(Path(__file__).parent / "zigcc.sh")
        environment = {
            "CC": compiler,
            "LDSHARED": f"{compiler} -shared",
            "ZIG_PYTHON": str(tools.python),
            "ZIG_TARGET": f"{target.arch}-linux-gnu.{GLIBC}",
            "_PYTHON_HOST_PLATFORM": f"linux-{target.arch}",
            "SETUPTOOLS_EXT_SUFFIX": f".cpython-{sys.version_info[0]}{sys.version_info[1]}-{target.arch}-linux-gnu.so",
        }
        raw = raw_wheel(work, Path(folder), **environment)
        # --plat would offer this machine's platforms only; `auto` reads the wheel's own, and what its symbols want.
        run(str(tools.bin / "auditwheel"), "repair", "--wheel-dir", str(out), str(raw),
            PATH=f"{tools.bin}:{os.environ['PATH']}")  # fmt: skip
    (wheel,) = out.glob(f"forebay-*{target.arch}.whl")
    if "manylinux" not in wheel.name:
        raise SystemExit(f"{wheel.name} is for this machine's C library only")
    return wheel


def raw_wheel(sources: Path, out: Path, **environment: str) -> Path:
    """Build sources as setup.py does, and return the wheel."""
    command = ("-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(sources))
    run(sys.executable, *command, **environment)
    (raw,) = out.glob("*.whl")
    return raw


def install_tree(checkout: Path, wheel: Path, target: Target, tree: Path, tools: Tools) -> Path:
    """Install the wheel with all its libraries for a target into a folder, versions as locked."""
    locked, project = tree.with_suffix(".txt"), str(checkout / "pyproject.toml")
    extras = [part for extra in EXTRAS for part in ("--extra", extra)]
    platform = ("--python-version", target.python, "--python-platform", target.uv_platform)
    run(str(tools.bin / "uv"), "pip", "compile", "--quiet", "--no-header", *platform, *extras, "--constraints",
        str(checkout / "requirements/dev.txt"), "--output-file", str(locked), project)  # fmt: skip
    install = (
        str(tools.bin / "uv"),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--target",
    )
    run(*install, str(tree), *platform, "-r", str(locked))
    run(*install, str(tree), *platform, str(wheel))
    shutil.rmtree(tree / "bin", ignore_errors=True)
    for cache in tree.rglob("__pycache__"):
        shutil.rmtree(cache)
    for info in tree.glob("*.dist-info"):
        without(info, "direct_url.json", "uv_cache.json")  # where and when it was built
    shutil.copy(locked, tools.folder / f"runtime-{target.arch}.txt")
    return tree


def without(info: Path, *names: str) -> None:
    """Take files out of a package's metadata and out of their list, and from the list the commands, which are gone.

    The sums of these would tell where it was built: a command begins with the path of its interpreter.
    """
    for name in names:
        (info / name).unlink(missing_ok=True)
    record = info / "RECORD"
    lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
    gone = ("bin/", *(f"{info.name}/{name}," for name in names))
    kept = [line for line in lines if not line.startswith(gone)]
    record.write_text("".join(kept), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
