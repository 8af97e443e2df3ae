"""The layers of DESIGN.md section 3, held by walking every import with ast, and by what really gets loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay_core import IMPLEMENTATION

PACKAGE = Path(__file__).parents[2] / "agent" / "forebay"
CORE = Path(__file__).parents[2] / "core_ext" / "forebay_core"
ROOMS = {"sources", "preprocess", "infer", "mask", "spool", "wire", "forward", "receive", "web"}
SHARED = {
    "audit",
    "blocks",
    "quality",
    "errors",
    "stages",
    "clock",
    "config",
    "telemetry",
    "advice",
    "shipped",
    "secrets",
    "keys",
    "pictures",
    "videos",
    "signing",
    "child",
    "harden",
    "redact",
    "memory",
}
# What a room may import of another: the wire format is the language that both ends and the seal speak.
ALLOWED = {("forward", "wire"), ("receive", "wire")}
OWNERS = {
    "onnxruntime": ("infer/",),
    "sqlite3": ("spool/", "receive/sqlite", "cli/spool.py", "demo/"),
    "sqlite_utils": ("receive/sqlite", "spool/migrate.py"),
    "zmq": ("forward/", "receive/", "sources/zmq_push.py", "wire/curve.py", "config/", "cli/live"),
    "cv2": ("pictures.py", "sources/", "mask/", "infer/", "cli/infer.py", "cli/mask", "demo/"),
    "paho": ("sources/mqtt",),
    "pymodbus": ("sources/modbus",),
    "psutil": ("sources/system.py",),
    "waitress": ("web/",),
    "psycopg": ("receive/postgres.py",),
    "pyarrow": ("receive/parquet.py",),
    "nats": ("receive/nats_publisher.py",),
    "opentelemetry": ("web/otlp.py",),
    "zstandard": ("wire/",),
}
HEAVY = {
    "cv2",
    "onnxruntime",
    "paho",
    "pymodbus",
    "asyncio",
    "scipy",
    "sqlite_utils",
    "PIL",
    "matplotlib",
    "waitress",
    "psycopg",
    "pyarrow",
    "nats",
    "opentelemetry",
}
HEAVY_AT_TOP_ALLOWED = {  # modules that are themselves only imported when configured
    ("sqlite_utils", "receive/sqlite_schema.py"),
    ("psycopg", "receive/postgres.py"),
    ("pyarrow", "receive/parquet.py"),
    ("nats", "receive/nats_publisher.py"),
    ("asyncio", "receive/nats_publisher.py"),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[tuple[str, int]]:
    """Yield dotted names of what a file imports, with the line; TYPE_CHECKING blocks are left out at top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[ast.AST] = list(tree.body) if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 and parts[0] in ROOMS else ""


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_no_other_room(path):
    room = room_of(path)
    if not room:
        return
    wrong = []
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] != "forebay" or len(parts) < 2 or parts[1] == room:
            continue
        if parts[1] in ROOMS and (room, parts[1]) not in ALLOWED:
            wrong.append(f"{name_of(path)}:{line} imports {name}")
        if parts[1] in {"cli", "pipeline", "runtime", "central", "worker", "supervise"}:
            wrong.append(f"{name_of(path)}:{line} imports {name}, which is above the rooms")
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_shared_modules_import_no_room(path):
    parts = path.relative_to(PACKAGE).parts
    if parts[0].removesuffix(".py") not in SHARED:
        return
    wrong = [f"{name_of(path)}:{n}" for name, n in imports(path) if _second(name) in ROOMS]
    assert not wrong


def _second(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "forebay" and len(parts) > 1 else ""


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_each_library_has_its_owners(library):
    wrong = [
        f"{name_of(path)}:{line}"
        for path in FILES
        for name, line in imports(path)
        if name.split(".")[0] == library and not name_of(path).startswith(OWNERS[library])
    ]
    assert not wrong, f"{library} is imported where it does not belong"


def test_heavy_libraries_are_not_imported_at_module_level():
    wrong = [
        f"{name_of(path)}:{line} imports {name}"
        for path in FILES
        for name, line in imports(path, top_level_only=True)
        if name.split(".")[0] in HEAVY
        and (name.split(".")[0], name_of(path)) not in HEAVY_AT_TOP_ALLOWED
        # live sources are modules that the pipeline imports only when they are configured
        and not name_of(path).startswith(("sources/mqtt", "sources/modbus", "infer/session.py"))
    ]
    assert not wrong


def test_the_core_knows_nothing_of_the_agent():
    files = [*CORE.rglob("*.py"), *CORE.rglob("*.pyx")]
    assert files
    wrong = [
        str(f)
        for f in files
        if "import forebay." in f.read_text()
        or "from forebay " in f.read_text()
        or "from forebay." in f.read_text()
    ]
    assert not wrong


def loaded_after(code: str, folder: Path) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after `code`."""
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


AGENT = """
gateway: {id: gw-1}
sources: {pump: {type: file, path: pump.csv, time: {field: ts, unit: ms}}}
pipelines:
  pump:
    source: pump
    fields: {t: {type: f64}, state: {type: str}}
    steps: [{deadband: {field: t, absolute: 1}}]
spool: {dir: spool}
"""
RUN = """
from forebay.config.loader import load_agent
from forebay.runtime import Agent
agent = Agent(load_agent("agent.yaml"), once=True)
agent.start()
outcome = agent.drain()
assert not outcome.complete and "forward" in outcome.reason, outcome
assert agent.stop()
"""


def test_importing_the_cli_loads_no_heavy_library(tmp_path):
    loaded = loaded_after("import forebay.cli, forebay.cli.app", tmp_path)
    assert "click" in loaded
    assert not loaded & (HEAVY | {"numpy", "pydantic", "zmq", "sqlite3", "cryptography"})


def test_a_configuration_without_vision_never_loads_vision_or_models(tmp_path):
    (tmp_path / "agent.yaml").write_text(AGENT)
    (tmp_path / "pump.csv").write_text("ts,t\n1,1\n2,5\n")
    loaded = loaded_after(RUN, tmp_path)
    assert "sqlite3" in loaded
    assert not loaded & HEAVY


def test_an_agent_keeps_no_memory_for_what_its_data_and_its_configuration_do_not_need(tmp_path):
    (tmp_path / "agent.yaml").write_text(AGENT)
    (tmp_path / "pump.csv").write_text("ts,t,state\n1,1,running since 2024-05-06 07:08\n2,5,idle\n")
    loaded = loaded_after(RUN, tmp_path)
    assert "forebay.mask.masker" in loaded, "texts are masked"
    # hints about mistakes, tables of Chinese names: 2 MB
    wrong = {"difflib"} | ({"forebay_core.text_people"} if IMPLEMENTATION == "compiled" else set())
    assert not loaded & wrong
