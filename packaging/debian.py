"""A Debian package: the libraries in /usr/lib/forebay, the command, the units, examples as conffiles."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from targets import Target, epoch, run

# Of 378 MB: gzip -6 makes 145 in 19 CPU-s, zstd -10 126 in 19, xz -1 122 in 55; xz -6 takes many minutes. Unpacking
# zstd is the fastest. dpkg knows it wherever there is a Python that the package takes (Debian 12, Ubuntu 22.04).
COMPRESS = ("-Zzstd", "-z10", "--threads-max=2")
SERVICE_PATHS = {
    "own: keys/gateway.key": 'own: "credential:gateway.key"',
    "key: keys/center.key": 'key: "credential:center.key"',
    "path: center.db": "path: /var/lib/forebay-receiver/center.db",
    "path: pump.csv": "path: /var/lib/forebay/pump.csv",
}
# What no gateway runs: the installer that sqlite-utils asks for, and tests of libraries.
NEEDLESS = ("pip", "pip-*.dist-info", "*/tests", "numpy/**/tests", "onnxruntime/**/test")
LAUNCHER = """#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/forebay")
from forebay.cli import main

sys.exit(main())
"""


def build_deb(tree: Path, sbom: Path, target: Target, out: Path, root: Path) -> Path:
    """Build the package of a target and return it."""
    stage = tree.with_name(f"deb-{target.arch}")
    shutil.copytree(tree, stage / "usr/lib/forebay")
    for pattern in NEEDLESS:
        for folder in (stage / "usr/lib/forebay").glob(pattern):
            shutil.rmtree(folder)
    version = _version(root)
    _write(stage / "usr/bin/forebay", LAUNCHER, 0o755)
    for unit in ("forebay-agent.service", "forebay-receiver.service"):
        _write(stage / "lib/systemd/system" / unit, (root / "packaging" / unit).read_text())
    conffiles = [f"/etc/forebay/{name}" for name in ("agent.yaml", "receiver.yaml")]
    for path in conffiles:
        _write(stage / path[1:], service_configuration(root, Path(path).name))
    about = stage / "usr/share/doc/forebay"
    for name in ("LICENSE", "README.md", "CHANGELOG.md"):
        _write(about / ("copyright" if name == "LICENSE" else name), (root / name).read_text())
    shutil.copy(sbom, about / "forebay.cdx.json")
    control = stage / "DEBIAN"
    size = sum(p.stat().st_size for p in stage.rglob("*") if p.is_file()) // 1024
    values = {"VERSION": version, "ARCH": target.debian, "SIZE": str(size), **_pythons(target)}

    def fill(name: str) -> str:
        text = (root / "packaging/deb" / name).read_text(encoding="utf-8")
        return re.sub(r"@([A-Z_]+)@", lambda m: values[m[1]], text)

    _write(control / "control", fill("control"))
    _write(control / "conffiles", "".join(f"{name}\n" for name in conffiles))
    _write(control / "templates", fill("templates"))
    for script in ("preinst", "postinst", "prerm", "postrm", "config"):
        _write(control / script, fill(script), 0o755)
    _same_times(stage)
    package = out / f"forebay_{version}_{target.debian}.deb"
    run("dpkg-deb", "--root-owner-group", *COMPRESS, "--build", str(stage), str(package))
    return package


def _version(root: Path) -> str:
    found = re.search(
        r'^__version__ = "([^"]+)"$', (root / "agent/forebay/__init__.py").read_text(), re.MULTILINE
    )
    assert found is not None
    return found[1]


def _pythons(target: Target) -> dict[str, str]:
    major, minor = target.python.split(".")
    return {"PYTHON": target.python, "NEXT_PYTHON": f"{major}.{int(minor) + 1}"}


def service_configuration(root: Path, name: str) -> str:
    """Return an example as the service's own configuration: keys come from systemd, data goes under /var/lib."""
    text = (root / "config" / name).read_text(encoding="utf-8")
    for example, service in SERVICE_PATHS.items():
        text = text.replace(example, service)
    return text


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _same_times(stage: Path) -> None:
    """Give every file the commit's time and a mode that does not depend on who builds."""
    when = epoch()
    for path in sorted(stage.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (when, when), follow_symlinks=False)
    stage.chmod(0o755)
    os.utime(stage, (when, when))
