"""`forebay demo` as a user runs it: its own process, its own folder, its exit code."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

pytest.importorskip("cv2")

COMMAND = [sys.executable, "-m", "forebay", "demo"]
OPEN_POLICY = """\
name: open
version: 1
fields: {"*": {operator: pass, unguarded: true}}
grades: {general: pass}
undeclared: {text: pass, image: pass}
images: {face: pass, plate: pass, person: pass}
"""


def run_demo(*arguments: str) -> tuple[int, dict, str]:
    done = subprocess.run(
        [*COMMAND, "--json", *arguments], capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict, str]:
    folder = tmp_path_factory.mktemp("demo") / "out"
    return folder, *run_demo("--dir", str(folder))


def test_every_check_of_the_demo_holds(demo):
    _, code, facts, _ = demo
    assert {name: c["found"] for name, c in facts["checks"].items() if not c["ok"]} == {}
    assert code == 0
    assert facts["ok"] is True


def test_the_demo_reads_the_whole_recording_and_delivers_it(demo):
    _, _, facts, _ = demo
    turbines = facts["streams"]["turbines"]
    assert facts["input"]["rows"] == {"turbines": 33_984, "visitors": 2_000, "photos": 3}
    assert turbines["rows"] == facts["input"]["rows"]["turbines"]
    assert turbines["read"] == turbines["filtered"] + turbines["delivered"]
    assert 0 < turbines["bytes_per_reading"] < 3
    assert facts["totals"]["lost"] == 0
    assert facts["anomalies"]["alarms"] > 0


def test_every_generated_identifier_is_masked_and_every_face_filled(demo):
    _, _, facts, _ = demo
    assert facts["masked"] == facts["generated_identifiers"]
    assert facts["faces_masked"] >= facts["search"]["faces_visible_in_input"] > 0
    assert facts["search"]["faces_visible_in_sink"] == 0


def test_the_demo_leaves_its_pictures_configurations_and_summary(demo):
    folder, _, facts, progress = demo
    assert (folder / "anomalies.png").read_bytes().startswith(b"\x89PNG")
    with closing(sqlite3.connect(folder / "center.db")) as db:
        stored = {image for (image,) in db.execute("SELECT image FROM photos")}
    assert (folder / "masked.jpg").read_bytes() in stored
    assert json.loads((folder / "summary.json").read_text("utf-8")) == facts
    for name in ("agent.yaml", "receiver.yaml"):
        check = subprocess.run([sys.executable, "-m", "forebay", "check", str(folder / name)], check=False)
        assert check.returncode == 0
    assert "delivery" in progress


def test_without_masking_the_search_finds_all_originals_and_the_demo_fails(tmp_path):
    policy = tmp_path / "open.yaml"
    policy.write_text(OPEN_POLICY, encoding="utf-8")
    code, facts, _ = run_demo("--dir", str(tmp_path / "out"), "--policy", str(policy))
    search = facts["search"]
    assert code == 1
    assert [name for name, check in facts["checks"].items() if not check["ok"]] == ["no original found"]
    assert search["in_spool"] == search["in_sink"] == search["originals"] > 4_000
    assert search["faces_visible_in_sink"] == search["faces_visible_in_input"] > 0


def test_ctrl_c_ends_the_demo_and_all_its_processes(tmp_path):
    demo = subprocess.Popen(
        [*COMMAND, "--dir", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Who starts the tests in the background of a shell has them ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert demo.stderr is not None
    for line in demo.stderr:
        if "spool" in line:
            break
    children = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGINT)
    rest = demo.stderr.read()
    demo.stderr.close()
    assert demo.wait(30) == 130, rest
    assert children
    assert not [child for child in children if child.is_running()]


def test_a_folder_with_foreign_files_is_refused_untouched(tmp_path):
    (tmp_path / "agent.yaml").write_text("mine", encoding="utf-8")
    done = subprocess.run([*COMMAND, "--dir", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--dir" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["agent.yaml"]
    assert (tmp_path / "agent.yaml").read_text("utf-8") == "mine"


def test_a_doubled_row_and_a_doubled_photograph_would_be_seen(demo, tmp_path):
    from forebay.demo.facts import _twice
    from forebay.demo.road import Expected, Run

    folder, _, facts, _ = demo
    copy = tmp_path / "center.db"
    with closing(sqlite3.connect(folder / "center.db")) as source, closing(sqlite3.connect(copy)) as db:
        source.backup(db)
        run = Run(0, Expected(facts["input"]["rows"]), 0, set(), {})
        assert not any(_twice(db, run).values())
        for stream in ("turbines", "visitors", "photos"):
            db.execute(f"INSERT INTO {stream} SELECT * FROM {stream} LIMIT 1")
        assert _twice(db, run) == {"batches": 0, "turbines": 1, "visitors": 1, "photos": 1}


@pytest.mark.slow
def test_the_strict_policy_nulls_what_nobody_declared_and_every_check_holds(tmp_path):
    code, facts, _ = run_demo("--dir", str(tmp_path / "out"), "--policy", "strict")
    assert code == 0
    assert facts["streams"]["photos"]["delivered"] == 0
    assert facts["streams"]["photos"]["filtered"] == facts["streams"]["photos"]["read"] > 0
