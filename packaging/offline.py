"""Everything for a machine without a network: wheels of all libraries, a script that installs them, one command."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
from pathlib import Path

from debian import service_configuration
from targets import Target, Tools, epoch, run, write_sums


def build_bundle(wheel: Path, sbom: Path, target: Target, out: Path, tools: Tools, root: Path) -> Path:
    """Build the bundle of a target and return it."""
    name = wheel.name.split("-")
    stem = f"forebay-{name[1]}-offline-{target.arch}"
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / stem
        wheels = stage / "wheels"
        wheels.mkdir(parents=True)
        run(str(tools.python), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest",
            str(wheels), "--python-version", target.python, *_platforms(target), "-r",
            str(tools.folder / f"runtime-{target.arch}.txt"))  # fmt: skip
        shutil.copy(wheel, wheels)
        shutil.copy(tools.folder / f"runtime-{target.arch}.txt", stage / "requirements.txt")
        shutil.copy(sbom, stage)
        for item in ("install.sh", "forebay-agent.service", "forebay-receiver.service"):
            shutil.copy(root / "packaging" / item, stage)
        for item in ("agent.yaml", "receiver.yaml"):
            (stage / item).write_text(service_configuration(root, item), encoding="utf-8")
        write_sums(sorted(p for p in stage.rglob("*") if p.is_file()), stage)
        path = out / f"{stem}.tar.gz"
        _pack(stage, path)
    return path


def _platforms(target: Target) -> list[str]:
    tags = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014",
            "manylinux_2_5", "manylinux1")  # fmt: skip
    return [part for tag in tags for part in ("--platform", f"{tag}_{target.arch}")]


def _pack(stage: Path, path: Path) -> None:
    """Write a tar.gz whose bytes depend on the content only. Wheels are compressed already: a light setting does."""
    with (
        path.open("wb") as out,
        gzip.GzipFile("", "wb", 1, out, mtime=epoch()) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for item in sorted([stage, *stage.rglob("*")]):
            entry = archive.gettarinfo(item, str(item.relative_to(stage.parent)))
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = epoch(), 0, 0, "root", "root"
            entry.mode = 0o755 if item.is_dir() or item.suffix == ".sh" else 0o644
            if item.is_dir():
                archive.addfile(entry)
                continue
            with item.open("rb") as file:
                archive.addfile(entry, file)
