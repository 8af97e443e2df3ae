"""`forebay mask` on text: `--explain` for each form of input, progress, identifiers over lines. Never a value."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from forebay.cli import mask as mask_module
from forebay.cli.mask import mask_command
from forebay.mask import files as mask_files
from forebay.mask import load_policy
from forebay.mask import masker as masker_module
from forebay.mask.records import Leaf, RecordMasker

PHONE = "13812345678"
KEEP = "keep, classes.mobile (base.yaml:9:3)"


@pytest.fixture
def run():
    def call(*arguments, data=b""):
        return CliRunner().invoke(mask_command, [str(a) for a in arguments], input=data)

    return call


def explained(result):
    assert result.exit_code == 0, result.output
    assert PHONE not in result.stderr
    return [line for line in result.stderr.splitlines() if ": " in line and line[0] not in " p"]


def test_hits_of_json_lines_are_told_in_the_order_of_the_lines(run):
    lines = [
        '{"b":"x 13812345678","a":"li@qq.com"}',
        "{broken 13812345678",
        '{"n":13812345678,"b":"13812345678","13812345678":1}',
    ]
    told = explained(run("--explain", data="\n".join(lines).encode()))
    assert told == [
        f"line 1: b: bytes 2-13: mobile: {KEEP}",
        "line 1: a: bytes 0-9: email: tag, classes.email (base.yaml:19:3)",
        f"line 2: line: bytes 8-19: mobile: {KEEP}",
        f"line 3: (name): bytes 0-11: mobile: {KEEP}",
        f"line 3: b: bytes 0-11: mobile: {KEEP}",
        "line 3: n: bytes 0-11: mobile: suppress, classes.mobile (base.yaml:9:3)",
    ]


def test_hits_of_a_document_over_several_lines_are_told_with_their_lines(run, tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{\n  "x": {"p": "13812345678"},\n  "y": [null,\n    "13812345678"]\n}\n')
    told = explained(run("--explain", "-i", path))
    assert told == [
        f"line 2: x.p: bytes 0-11: mobile: {KEEP}",
        f"line 4: y: bytes 0-11: mobile: {KEEP}",
    ]
    other = tmp_path / "folder"
    other.mkdir()
    (other / "a.json").write_text(path.read_text())
    (other / "b.jsonl").write_text('{"p":"13812345678"}\n')
    told = explained(run("--explain", "-i", other, "-o", tmp_path / "out"))
    assert told[-1] == f"b.jsonl:1: p: bytes 0-11: mobile: {KEEP}"  # not with the lines of the file before


def test_hits_of_csv_and_text_are_told_alike(run):
    table = 'id,phone,note\n1,13812345678,\n2,,"x\n13812345678"\n3,bad"13812345678,\n'
    assert explained(run("--explain", "--format", "csv", data=table.encode())) == [
        f"line 2: phone: bytes 0-11: mobile: {KEEP}",
        f"line 3: note: bytes 2-13: mobile: {KEEP}",
        f"line 5: line: bytes 6-17: mobile: {KEEP}",
    ]
    text = "ok\ncall 13812345678\n"
    assert explained(run("--explain", data=text.encode())) == [f"line 2: line: bytes 5-16: mobile: {KEEP}"]


def test_values_that_go_whole_are_told_as_such(run):
    result = run("strict", "--explain", data=b'{"note":"running","t":21.5}\n')
    assert explained(result) == [
        "line 1: note: whole: undeclared: suppress, undeclared.text (strict.yaml:7:3)"
    ]
    assert result.stdout == '{"note":null,"t":21.5}\n'


def test_what_the_second_look_takes_is_told(monkeypatch):
    told = []
    masker = RecordMasker(load_policy("base", Path()), "", lambda *hit: told.append(hit))
    none = np.zeros((0, 3), np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint8)
    monkeypatch.setattr(masker_module, "search", lambda *_: none)  # masking that misses everything
    assert masker.mask([Leaf(4, 0, "note", PHONE), Leaf(5, 0, "note", "ok")]) == {(4, 0): None}
    masker.tell()
    assert told == [(5, "note", 0, 0, "guard", "suppress, the second look found an identifier")]


def test_names_of_fields_that_hold_an_identifier_are_not_told(run):
    explained(run("--explain", data=b'{"13812345678":{"x":"li@qq.com"}}\n'))


def test_text_that_goes_on_in_the_next_line_is_masked_and_lines_stay_lines(run):
    text = "请回电1381234\r\n5678，谢谢\r\n座机0752-\n2861234\n好 138\n完\n"
    result = run(data=text.encode())
    out = result.stdout_bytes.decode()
    assert out == "请回电138****\r\n5678，谢谢\r\n座机[landline]\n\n好 138\n完\n"
    assert out.count("\n") == text.count("\n")


def test_an_identifier_over_two_batches_of_lines_is_found(run, monkeypatch):
    monkeypatch.setattr(mask_files, "_BATCH_LINES", 3)
    text = "a\nb\n请回电1381234\n5678，谢谢\nc\nd\n请回电1381234\n5678，谢谢\n"
    result = run("--explain", data=text.encode())
    assert "1381234" not in result.stdout
    assert [line.partition(":")[0] for line in explained(result)] == ["line 3", "line 7"]
    assert result.stdout.count("\n") == 8


def test_progress_tells_how_much_of_a_file_of_lines_is_done(run, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(mask_module.Progress, "_show", lambda _self, text: told.append(text))
    monkeypatch.setattr(mask_files, "_BATCH_LINES", 10)
    path = tmp_path / "a.csv"
    path.write_text("n,note\n" + "1,ok\n" * 100)
    report = tmp_path / "report.json"
    assert run("-i", path, "-o", tmp_path / "b.csv", "--progress", "--report", report).exit_code == 0
    parts = [int(text.rstrip(" %")) for text in told if text.endswith("%")]
    assert parts == sorted(parts)
    assert len(parts) >= 9
    assert json.loads(report.read_text())["lines"] == 101
    run("--progress", data=path.read_bytes())
    assert any(text.endswith("MB") for text in told)  # how long a pipe is, nobody knows


@pytest.mark.parametrize(
    ("record", "masked"),
    [
        ({"driver": "张伟"}, {"driver": "张*"}),
        ({"user": {"name": "张伟"}}, {"user": {"name": "张*"}}),
        ({"user": {"tel": "2861234"}}, {"user": {"tel": "[landline]"}}),
        ({"name": "水泵", "owner": "水务"}, {"name": "水泵", "owner": "水务"}),
        ({"name": "江北站", "x": "张伟"}, {"name": "江北站", "x": "张伟"}),
        ({"id_card": "110105194912310020"}, {"id_card": "110*************20"}),
        ({"mac": "001a2b3c4d5e"}, {"mac": "[mac]"}),
    ],
)
def test_the_name_of_a_field_stands_for_the_word_in_text(run, record, masked):
    result = run(data=json.dumps(record, ensure_ascii=False).encode())
    assert json.loads(result.stdout) == masked
