"""`forebay replay`: what a configuration would do with a recording, and what another would do differently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forebay.cli.app import run

CONFIG = """\
gateway: {id: gw-1}
sources:
  pump: {type: file, path: pump.csv, format: csv, follow: true, time: {field: ts, unit: s}}
  live: {type: system}
pipelines:
  pump: {source: pump, key: dev, steps: [{deadband: {field: value, absolute: %s}}]}
  live: {source: live}
spool: {dir: never-made}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [f"{i},{'ab'[i % 2]},{i // 10},13800138{i:03d}" for i in range(100)]
    (tmp_path / "pump.csv").write_text("ts,dev,value,phone\n" + "\n".join(rows) + "\n")
    (tmp_path / "one.yaml").write_text(CONFIG % "0")
    (tmp_path / "two.yaml").write_text(CONFIG % "3")
    return tmp_path


def ask(capsys, *arguments: str) -> tuple[int, dict]:
    code = run(["replay", *arguments, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else {"error": said.err}


def test_a_replay_counts_what_would_be_stored_and_stores_nothing(folder, capsys):
    code, facts = ask(capsys, "one.yaml")
    assert code == 0
    (streams,) = facts["runs"]
    assert streams["pump"]["read"] == 200  # value and phone; time and key are no readings
    assert streams["pump"]["filtered:mask"] == 100  # a number that is a mobile's
    assert streams["pump"]["accepted"] + streams["pump"]["filtered:deadband"] == 100
    assert streams["pump"]["rows"] == streams["pump"]["accepted"] == 20
    assert not (folder / "never-made").exists()


def test_two_configurations_are_compared_row_by_row_in_what_is_masked(folder, capsys):
    code, facts = ask(capsys, "one.yaml", "two.yaml")
    assert code == 1
    difference = facts["difference"]
    # One sends every new tens digit of both devices, the other every third one.
    assert difference["only_first"] == {"pump": 20 - facts["runs"][1]["pump"]["rows"]}
    assert difference["only_second"] == {}
    assert all(example["second"] is None for example in difference["examples"])
    assert "1380013" not in json.dumps(difference["examples"])
    assert ask(capsys, "one.yaml", "one.yaml")[0] == 0


def test_a_recording_stands_in_for_a_source(folder, capsys):
    (folder / "other.jsonl").write_text(
        '{"t": 5, "dev": "a", "value": 1}\n{"t": 6, "dev": "a", "value": 2}\n'
    )
    code, facts = ask(capsys, "one.yaml", "--pipeline", "live", "-i", "other.jsonl", "--time", "t:s")
    assert code == 0
    assert facts["runs"][0]["live"]["rows"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("one.yaml", "--pipeline", "live"), "is no file"),
        (("one.yaml", "--pipeline", "nosuch"), "there is no pipeline `nosuch`"),
        (("one.yaml", "--time", "t"), "goes with --input"),
        (("one.yaml", "-i", "x.csv", "--time", "t:days"), "ns"),
        (("one.yaml", "-i", "missing.csv"), "no such file"),
        (("missing.yaml",), "missing.yaml"),
    ],
)
def test_what_cannot_be_replayed_is_said(folder, capsys, arguments, said):
    code, facts = ask(capsys, *arguments)
    assert code in (1, 2)
    assert said in facts["error"]
