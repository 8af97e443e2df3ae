"""What `make packages` promises, as far as a few seconds and no network allow: same sources, same bytes.

All of it, for both architectures, compares `make packages ARGS=--twice`; what is installed, `make test-install`.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EPOCH = 1_700_000_000
# As one builds, and as another one does somewhere else.
BUILDERS = (("a", 0o022, "UTC"), ("b/c", 0o077, "Asia/Shanghai"))

needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="no dpkg-deb here: Debian's package dpkg"
)


@contextmanager
def imported(patch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Give a function that imports a module of packaging/, which is no package; it is forgotten afterwards."""
    patch.syspath_prepend(str(ROOT / "packaging"))
    patch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    for name in ("FOREBAY_DEBUG", "FOREBAY_TRACE", "PYTHONPATH"):
        patch.delenv(name, raising=False)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(ROOT / "packaging") in (getattr(sys.modules[name], "__file__", "") or ""):
            del sys.modules[name]


@pytest.fixture
def packaging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    with imported(monkeypatch) as module:
        yield module


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Two wheels of the same sources, without compiled core: that takes a minute with every compiler there is."""
    folder, before = tmp_path_factory.mktemp("wheels"), os.umask(0o022)
    made = []
    with pytest.MonkeyPatch.context() as patch, imported(patch) as module:
        for place, umask, zone in BUILDERS:
            here = folder / place
            here.mkdir(parents=True)
            os.umask(umask)
            patch.setenv("TZ", zone)
            targets, packages = module("targets"), module("packages")
            targets.run(str(ROOT / "packaging/copy_tree.sh"), str(here / "checkout-of-mine"))
            sources = packages.unpacked_sources(here / "checkout-of-mine", here)
            made.append(packages.raw_wheel(sources, here / "out", FOREBAY_PURE="1"))
    os.umask(before)
    yield made
    shutil.rmtree(folder)


def test_the_same_sources_give_the_same_wheel_wherever_and_whoever_builds(wheels: list[Path]) -> None:
    first, second = (zipfile.ZipFile(wheel).infolist() for wheel in wheels)
    told = [
        [(i.filename, i.CRC, i.date_time, oct(i.external_attr >> 16)) for i in side]
        for side in (first, second)
    ]
    assert told[0] == told[1]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


@needs_dpkg
def test_the_same_tree_gives_the_same_debian_package_with_all_that_it_promises(
    wheels: list[Path], tmp_path: Path, packaging: Callable[[str], Any]
) -> None:
    debian, targets = packaging("debian"), packaging("targets")
    made = []
    for wheel, (place, umask, _zone) in zip(wheels, BUILDERS, strict=True):
        before = os.umask(umask)
        try:
            tree, out = tmp_path / place / "tree", tmp_path / place / "out"
            out.mkdir(parents=True)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(tree)
            sbom = tmp_path / place / "forebay.cdx.json"
            sbom.write_text("{}")
            made.append(debian.build_deb(tree, sbom, targets.TARGETS[0], out, ROOT))
        finally:
            os.umask(before)
    assert made[0].read_bytes() == made[1].read_bytes()

    folder = tmp_path / "inside"
    subprocess.run(["dpkg-deb", "--raw-extract", made[0], folder], check=True, timeout=60)
    control = (folder / "DEBIAN/control").read_text()
    version = re.search(r"^Version: (.+)$", control, re.MULTILINE)
    assert version is not None
    assert made[0].name == f"forebay_{version[1]}_amd64.deb"
    assert "@" not in re.sub(r"<[^>]*@[^>]*>", "", control), "a place that nobody filled"
    conffiles = (folder / "DEBIAN/conffiles").read_text().split()
    assert conffiles == ["/etc/forebay/agent.yaml", "/etc/forebay/receiver.yaml"]
    for name in (*conffiles, "/usr/bin/forebay", "/usr/share/doc/forebay/copyright"):
        assert (folder / name[1:]).is_file(), name
    for unit in (ROOT / "packaging").glob("*.service"):
        assert (folder / "lib/systemd/system" / unit.name).read_bytes() == unit.read_bytes()
    for script in ("preinst", "postinst", "prerm", "postrm", "config"):
        path = folder / "DEBIAN" / script
        assert os.access(path, os.X_OK), script
        assert not re.search(r"@[A-Z_]+@", path.read_text()), script
    owners = subprocess.run(
        ["dpkg-deb", "--contents", made[0]], check=True, timeout=60, capture_output=True, text=True
    ).stdout.splitlines()
    assert {line.split()[1] for line in owners} == {"root/root"}
    assert not [line for line in owners if line[0] == "-" and line[8] == "w"], "nobody else writes"


def test_the_bill_knows_the_native_libraries_of_what_is_installed_by_their_hash(
    packaging: Callable[[str], Any],
) -> None:
    sbom = packaging("sbom")
    site = Path(importlib.import_module("numpy").__file__ or "").parents[1]
    packages = {found["name"]: found for found in sbom._packages(site)}
    assert {"numpy", "pyzmq", "zstandard", "onnxruntime", "pydantic", "pyyaml"} <= set(packages)
    assert all(found["version"] and found["license"] for found in packages.values() if found["native"])
    zmq = {part["name"]: part for part in packages["pyzmq"]["native"]}
    assert re.fullmatch(r"5\.\d+\.\d+", zmq["libzmq"]["version"])
    assert "libsodium" in zmq
    for part in (zmq["libzmq"], zmq["libsodium"]):
        assert hashlib.sha256((site / part["file"]).read_bytes()).hexdigest() == part["sha256"]
    (zstd,) = packages["zstandard"]["static"]
    assert re.fullmatch(r"1\.\d+\.\d+", zstd["version"]), "linked into the module: its text tells"
