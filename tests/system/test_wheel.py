"""sdist -> wheel -> an empty environment, used from another folder: what a stranger gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOT_IN_A_WHEEL = (".c", ".pyx", ".pxd", ".pxi", ".o", ".pyc", ".tmp", ".db", ".orig", ".log")
PHONE = "13812345678"


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without anything that would lead an interpreter back to the checkout."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FOREBAY_", "PYTHON", "VIRTUAL_ENV"))}
    return kept | more


def call(*command: str | Path, cwd: Path, stdin: str = "", env: dict[str, str] | None = None) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        input=stdin,
        env=env or clean_environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, (
        f"{command}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist from a copy of the checkout's sources."""
    folder = tmp_path_factory.mktemp("sdist")
    call(ROOT / "packaging/copy_tree.sh", folder / "tree", cwd=ROOT)
    build(folder / "tree", folder / "dist", "--sdist")
    return only(folder / "dist", "*.tar.gz")


def build(source: Path, out: Path, kind: str, **env: str) -> None:
    # The environment of the tests has the build's requirements: nothing is fetched.
    call(
        sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", out, source,
        cwd=source, env=clean_environment(**env),
    )  # fmt: skip


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of a folder that fits a pattern."""
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def unpacked(sdist: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent, filter="data")
    return sdist.parent / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(unpacked: Path) -> Path:
    build(unpacked, unpacked.parent, "--wheel")
    return only(unpacked.parent, "*.whl")


@pytest.fixture(scope="module")
def pure_wheel(unpacked: Path) -> Path:
    build(unpacked, unpacked.parent / "pure", "--wheel", FOREBAY_PURE="1")
    return only(unpacked.parent / "pure", "*.whl")


def install(wheel: Path, folder: Path, extra: str = "[vision]") -> Path:
    """Make an empty environment with the wheel and what it requires, at the locked versions; return its bin."""
    uv = Path(sys.executable).with_name("uv")
    requirement = f"forebay{extra} @ {wheel.as_uri()}"
    if uv.exists():
        call(uv, "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
        pip = [uv, "pip", "install", "--quiet", "--python", folder / "bin/python"]
    else:
        call(sys.executable, "-m", "venv", folder, cwd=folder.parent)
        pip = [folder / "bin/python", "-m", "pip", "install", "--quiet"]
    call(*pip, "--constraint", ROOT / "requirements/dev.txt", requirement, cwd=folder.parent)
    return folder / "bin"


@dataclass
class Installed:
    """The product in an empty environment, used from a folder that is not the checkout."""

    binaries: Path
    elsewhere: Path

    def __call__(self, *arguments: str | Path, stdin: str = "") -> str:
        return call(self.binaries / "forebay", *arguments, cwd=self.elsewhere, stdin=stdin)

    def python(self, code: str) -> str:
        return call(self.binaries / "python", "-c", code, cwd=self.elsewhere).strip()

    def shipped(self, kind: str) -> Path:
        return Path(self.python(f"from forebay import shipped; print(shipped.path({kind!r}))"))


@pytest.fixture(scope="module")
def forebay(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("fresh")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    yield Installed(install(wheel, folder / "env"), elsewhere)
    shutil.rmtree(folder)  # half a gigabyte


def names(archive: Path) -> list[str]:
    if archive.suffix == ".whl":
        return zipfile.ZipFile(archive).namelist()
    with tarfile.open(archive) as tar:
        return [m.name.partition("/")[2] for m in tar.getmembers() if m.isfile()]


def test_the_sdist_has_all_sources_and_nothing_that_was_built(sdist: Path) -> None:
    inside = set(names(sdist))
    core = {
        p.relative_to(ROOT).as_posix() for p in (ROOT / "core_ext").rglob("*.p[yx]*") if p.suffix != ".pyc"
    }
    agent = {p.relative_to(ROOT).as_posix() for p in (ROOT / "agent").rglob("*.py")}
    assert core | agent <= inside
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.py"} <= inside
    assert [n for n in inside if n.endswith((".c", ".so", ".pyc", ".o"))] == []


def test_the_wheel_has_what_runs_and_nothing_else(wheel: Path) -> None:
    inside = names(wheel)
    assert {n.split("/")[0] for n in inside if ".dist-info/" not in n} == {"forebay", "forebay_core"}
    assert [n for n in inside if n.endswith(NOT_IN_A_WHEEL)] == []
    assert [n for n in inside if "test" in n.lower() or "/.cache/" in n] == []
    modules = {p.relative_to(ROOT / "agent").as_posix() for p in (ROOT / "agent").rglob("*.py")}
    kernels = {p.stem for p in (ROOT / "core_ext/forebay_core").glob("*.pyx")}
    assert modules <= set(inside)
    assert {n.split("/")[1].split(".")[0] for n in inside if n.endswith(".so")} == kernels | {"_cyutility"}
    assert {"forebay/py.typed", "forebay_core/py.typed"} <= set(inside)


def test_the_wheel_carries_models_policies_demo_data_and_their_licences(wheel: Path) -> None:
    inside = set(names(wheel))
    shipped = "forebay/_shipped/"
    for kind in ("models", "config"):
        for path in (ROOT / kind).rglob("*"):
            if (
                path.is_file()
                and path.suffix not in (".py", ".pyc")
                and not path.name.startswith("requirements")
            ):
                assert f"{shipped}{path.relative_to(ROOT).as_posix()}" in inside
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in inside)
    assert [n for n in inside if n.startswith(shipped) and n.endswith(".py")] == []


def test_a_wheel_without_core_is_for_any_machine_and_says_pure(pure_wheel: Path, tmp_path: Path) -> None:
    assert pure_wheel.name.endswith("-py3-none-any.whl")
    assert [n for n in names(pure_wheel) if n.endswith(".so")] == []
    with zipfile.ZipFile(pure_wheel) as archive:
        archive.extractall(tmp_path / "site")
    printed = call(
        sys.executable, "-c", "from forebay.cli import main; main()", "--version",
        cwd=tmp_path, env=clean_environment(PYTHONPATH=str(tmp_path / "site")),
    )  # fmt: skip
    assert printed.strip().endswith("(core: pure)")


def test_the_installed_command_runs_the_compiled_core_from_the_wheel(forebay: Installed, wheel: Path) -> None:
    version = wheel.name.split("-")[1]
    assert forebay("--version").strip() == f"forebay {version} (core: compiled)"
    where = forebay.python("import forebay, forebay_core; print(forebay.__file__, forebay_core.__file__)")
    assert where.count("site-packages") == 2
    assert str(ROOT) not in where


def test_the_installed_check_accepts_the_shipped_sample(forebay: Installed) -> None:
    config = forebay.shipped("config")
    assert "site-packages" in config.parts
    assert json.loads(forebay("check", "--json", config / "agent.yaml"))["ok"] is True
    assert json.loads(forebay("check", "--json", config / "receiver.yaml"))["ok"] is True


def test_the_installed_mask_hides_a_number_on_stdin(forebay: Installed) -> None:
    printed = forebay("mask", stdin='{"note": "call 13812345678 today"}\n{"note": "no number"}\n')
    lines = [json.loads(line) for line in printed.splitlines()]
    assert len(lines) == 2
    assert PHONE not in printed
    assert lines[0]["note"] != "call 13812345678 today"
    assert lines[1] == {"note": "no number"}


def test_the_installed_infer_finds_faces_in_a_shipped_photograph(forebay: Installed) -> None:
    photograph = forebay.shipped("config") / "demo/photos/astronaut.jpg"
    printed = forebay("infer", "faces", photograph, "--json")
    found = [json.loads(line) for line in printed.splitlines()]
    assert any(d["label"] == "face" and d["score"] > 0.5 for d in found)


def test_the_installed_demo_ends_well(forebay: Installed) -> None:
    from forebay.cli import app

    if not (ROOT / "agent/forebay/cli/demo.py").exists():
        assert "demo" in app.COMMANDS
        pytest.skip("this checkout has no demo yet")
    printed = forebay("demo")
    assert "zero" in printed.lower() or " 0 " in printed
