"""Rules about the repository itself that a reviewer would otherwise have to remember."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core_ext/forebay_core"
KERNELS = sorted(CORE.glob("*.pyx"))
SELECTORS = sorted(p for p in CORE.glob("*.py") if "IMPLEMENTATION ==" in p.read_text(encoding="utf-8"))
BUNDLES = sorted(p.parent for p in (ROOT / "models").glob("*/manifest.yaml"))
PAGES = sorted(
    p for p in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").rglob("*.md"))
)
SOURCES = [
    p
    for folder in ("agent", "core_ext", "benchmarks", "models")
    for pattern in ("*.py", "*.pyx", "*.pxd", "*.pxi", "*.pyi")
    for p in sorted((ROOT / folder).rglob(pattern))
]
MOST_LINES = 450


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(module: ast.Module) -> dict[str, list[str]]:
    """Return the public functions and classes of a module, functions with the names of their arguments."""
    found: dict[str, list[str]] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found[node.name] = [
                a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            ]
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found[node.name] = []
    return found


def compiled_names(path: Path) -> set[str]:
    """Return the public Python-visible names of a .pyx file, its included .pxi files too."""
    text = path.read_text(encoding="utf-8")
    for included in re.findall(r'^include "([^"]+)"', text, re.MULTILINE):
        text += (CORE / included).read_text(encoding="utf-8")
    defined = re.findall(
        r"^(?:def|cpdef\s[^(=]*?|cdef class|class)\s+([A-Za-z]\w*)\s*[(:]", text, re.MULTILINE
    )
    return set(defined)


def branches(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a selector imports when compiled and otherwise: name -> module."""
    (choice,) = (
        n for n in tree(path).body if isinstance(n, ast.If) and "IMPLEMENTATION" in ast.unparse(n.test)
    )

    def imported(nodes: list[ast.stmt]) -> dict[str, str]:
        return {
            alias.asname or alias.name: (node.module or "").removeprefix("forebay_core.")
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    return imported(choice.body), imported(choice.orelse)


def test_the_lists_that_these_tests_walk_are_not_empty() -> None:
    assert KERNELS
    assert SELECTORS
    assert BUNDLES
    assert PAGES
    assert len(SOURCES) > 100


@pytest.mark.parametrize(
    "folder", ["packaging", "config", "models", "docs", "benchmarks", "agent", "core_ext"]
)
def test_a_source_folder_is_no_package(folder: str) -> None:
    # packaging/__init__.py hides PyPI's `packaging`: setuptools and pytest then die.
    assert not (ROOT / folder / "__init__.py").exists() or folder == "benchmarks"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda p: p.stem)
def test_a_kernel_has_types_for_exactly_what_it_defines(kernel: Path) -> None:
    stub = kernel.with_suffix(".pyi")
    assert stub.exists()
    assert set(functions(tree(stub))) == compiled_names(kernel)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda p: p.stem)
def test_a_kernel_is_reached_through_a_selector_alone(kernel: Path) -> None:
    modules = {module for path in SELECTORS for module in branches(path)[0].values()}
    assert kernel.stem in modules


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda p: p.stem)
def test_a_selector_offers_the_same_names_compiled_and_pure(selector: Path) -> None:
    compiled, pure = branches(selector)
    assert set(compiled) == set(pure)
    for name in compiled:
        stub = functions(tree(CORE / f"{compiled[name]}.pyi"))
        twin = functions(tree(CORE / f"{pure[name].replace('.', '/')}.py"))
        if name in stub and name in twin:
            assert twin[name] == stub[name], f"{name}: arguments differ"


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_a_model_has_its_licence_its_card_and_a_golden_output(bundle: Path) -> None:
    for name in ("LICENCE", "CARD.md", "model.onnx", "golden.npz"):
        assert (bundle / name).stat().st_size > 200, name


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, made as code hosts make them."""
    headings = re.findall(r"^#{1,6}\s+(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        if anchor and other.suffix == ".md":
            assert anchor in anchors(other), target


def test_scripts_can_be_run() -> None:
    for script in (".ci/run", *(name_of(p) for p in (ROOT / "packaging").glob("*.sh"))):
        assert (ROOT / script).stat().st_mode & 0o111, script
        subprocess.run(["bash", "-n", ROOT / script], check=True)


def test_ci_knows_a_failed_test_from_a_log_that_its_reason_quotes(tmp_path: Path) -> None:
    log = tmp_path / "test.log"
    log.write_text(
        "FAILED tests/system/test_a.py::test_one[pipeline crash-text] - AssertionError: ('csv',\n"
        " supervise.py:205\n"
        "ERROR source: a pipeline failed\n"
        "FAILED (2)\n"
        "ERROR tests/unit/test_b.py\n"
        "1 failed, 7 passed, 1 error in 3.00s\n"
    )
    code = "source <(sed -n '/^failed_tests()/,/^}/p' .ci/run); failed_tests \"$1\""
    run = ["bash", "-c", code, "bash", str(log)]
    names = subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert names == ["tests/system/test_a.py::test_one[pipeline crash-text]", "tests/unit/test_b.py"]


def test_an_extra_installs_something() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert [name for name, wanted in extras.items() if not wanted] == []


def test_an_extra_that_a_hint_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    named = set()
    for path in (ROOT / "agent").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"forebay\[(\w+)\]", text))
        named |= set(re.findall(r'MissingExtra\([^)]*?"(\w+)"\s*\)', text))
    assert named
    assert named <= set(extras)
