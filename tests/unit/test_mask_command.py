"""`forebay mask`: formats kept, lines in are lines out, reports without values, exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from forebay.cli import mask as mask_module
from forebay.cli.mask import mask_command

PHONE = "13812345678"


@pytest.fixture
def run():
    def call(*arguments, data=b""):
        return CliRunner().invoke(mask_command, [str(a) for a in arguments], input=data)

    return call


def test_json_lines_keep_everything_but_the_masked_values(run):
    lines = [
        '{"a": 1,  "tel":"13812345678", "f": 1.50, "n": [null, true, "a@qq.com"]}',
        "",
        '{"n": 13912345678, "e": 1e3}',
        r'{"t":"\u624b\u673a13812345678","u":"\u4e2d"}',
        '{"a":"13812345678","a":"x"}',
        '{"13812345678": {"13812345678": "x"}}',
        "{broken 13812345678",
        '"13812345678"',
    ]
    result = run(data="\n".join(lines).encode())
    assert result.exit_code == 0, result.output
    assert result.stdout.split("\n") == [
        '{"a": 1,  "tel":"138****5678", "f": 1.50, "n": [null, true, "[email]"]}',
        "",
        '{"n": null, "e": 1e3}',
        r'{"t":"\u624b\u673a138****5678","u":"\u4e2d"}',
        '{"a":"138****5678","a":"x"}',
        '{"138****5678": {"138****5678": "x"}}',
        "{broken 138****5678",
        '"138****5678"',
    ]
    assert "1 broken lines" in result.stderr
    assert PHONE not in result.stderr


def test_csv_keeps_quotes_delimiters_and_line_ends(run):
    data = (
        'id;name;phone;"note"\r\n1;"张三 ""x""";138-1234-5678;1.50\r\n'
        '2;"two\r\nlines 13812345678";;"plain"\r\n3;bad"quote 13812345678;x\r\n4;e;short\r\n'
    )
    result = run(data=data.encode())
    assert result.stdout_bytes.decode() == (
        'id;name;phone;"note"\r\n1;"张三 ""x""";138-****-5678;1.50\r\n'
        '2;"two\r\nlines 138****5678";;"plain"\r\n3;bad"quote 138****5678;x\r\n4;e;short\r\n'
    )


def test_an_open_quote_takes_nothing_from_the_lines_behind_it(run):
    data = 'a,b\n1,"open 13812345678\n' + "2,13812345678\n" * 3
    result = run(data=data.encode())
    assert result.stdout == 'a,b\n1,"open 138****5678\n' + "2,138****5678\n" * 3


def test_a_cell_of_several_lines_that_is_emptied_keeps_its_lines(run):
    result = run("strict", data=b'a,b\n1,"x\ny\nz"\n2,w\n')
    assert result.stdout == 'a,b\n1,"\n\n"\n2,\n'


def test_strict_nulls_text_and_keeps_names_and_numbers(run):
    assert run("strict", data=b'{"a": 1, "b":"x", "c": true}').stdout == '{"a": 1, "b":null, "c": true}'
    assert (
        run(
            "strict",
            data=b"not json {\n",
        ).stdout
        == "null\n"
    )


def test_older_encodings_are_read_and_written_as_they_are(run):
    text = "用户名机13812345678\n"
    result = run("--format", "text", data=text.encode("gb18030"))
    assert result.stdout_bytes.decode("gb18030") == "用户名机138****5678\n"
    broken = run("--format", "text", data=b"\xff\x81 13812345678\n")
    assert broken.stdout_bytes == b"\xff\x81 138****5678\n"
    assert run(data=text.encode("utf-16")).exit_code == 1


def test_a_document_over_several_lines_keeps_its_layout(run, tmp_path):
    source, target = tmp_path / "in.json", tmp_path / "out.json"
    source.write_text('{\n  "n": 13812345678,\n  "t": ["a@qq.com"]\n}\n')
    assert run("-i", source, "-o", target).exit_code == 0
    assert target.read_text() == '{\n  "n": null,\n  "t": ["[email]"]\n}\n'


def test_field_rules_reach_nested_names_and_csv_columns(run, tmp_path):
    (tmp_path / "p.yaml").write_text(
        "name: p\nversion: 1\nextends: base\nfields:\n"
        "  person.name: {operator: keep, first: 1}\n  姓名: {operator: suppress}\n"
    )
    policy = tmp_path / "p.yaml"
    assert run(policy, data='{"person":{"name":"张三丰"}}'.encode()).stdout == '{"person":{"name":"张**"}}'
    assert run(policy, data="id,姓名\n1,张三\n".encode()).stdout == "id,姓名\n1,\n"


def test_the_report_has_counts_and_no_values(run, tmp_path):
    target, report = tmp_path / "out.jsonl", tmp_path / "r.json"
    result = run("-o", target, "--json", "--report", report, data=b'{"a":"13812345678"}\n')
    body = json.loads(result.stdout)
    assert body == json.loads(report.read_text())
    assert (body["lines"], body["hits"]) == (1, {"mobile:keep": 1})
    assert len(body["policy_hash"]) == 64
    assert PHONE not in result.output


def test_explain_names_line_place_class_and_operator(run):
    result = run("--explain", data=b'{"a":1}\n{"a":"tel 13812345678"}\nx 13812345678\n')
    assert "line 2: a: bytes 4-15: mobile: keep" in result.stderr
    assert "line 3: line: bytes 2-13: mobile: keep" in result.stderr
    assert PHONE not in result.stderr


def test_input_and_output_may_be_one_file_and_a_failure_leaves_it(run, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a":"13812345678"}\n')
    assert run("-i", path, "-o", path).exit_code == 0
    assert path.read_text() == '{"a":"138****5678"}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["no-such-policy"], 2),
        (["--format", "xml"], 2),
        (["-i", "/no/such/file"], 2),
        (["-i", "."], 2),
        (["-o", "/no/such/folder/x"], 2),
    ],
)
def test_bad_usage_exits_2(run, arguments, code):
    assert run(*arguments).exit_code == code


def test_a_line_beyond_the_limit_is_nulled_and_counted(run, monkeypatch):
    monkeypatch.setattr(mask_module.mask_files, "MAX_LINE_BYTES", 100)
    result = run("--format", "jsonl", data=b'{"a":1}\n' + b"13812345678" * 50 + b'\n{"b":2}\n')
    assert result.stdout == '{"a":1}\nnull\n{"b":2}\n'
    assert "1 oversized" in result.stderr


# --- pictures


class _Faces:
    def detect(self, frame):
        return np.array([[10, 10, 30, 30, 0.9]], np.float32)


class _Broken:
    def detect(self, frame):
        raise RuntimeError


def _all(detector):
    return {"face": detector, "plate": detector}


@pytest.fixture
def pictures(tmp_path):
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    frame = np.full((60, 80, 3), 200, np.uint8)
    cv2.imwrite(str(folder / "a.png"), frame)
    cv2.imwrite(str(folder / "sub" / "b.jpg"), frame)
    (folder / "notes.csv").write_text("a,b\n1,13812345678\n")
    (folder / "tool.exe").write_bytes(b"x")
    return folder


def test_a_folder_of_pictures_and_tables_is_masked_and_the_unknown_left_behind(
    run, pictures, tmp_path, monkeypatch
):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(mask_module, "load_detectors", lambda _: _all(_Faces()))
    result = run("-i", pictures, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert (body["images"], body["skipped"]) == (2, ["tool.exe"])
    for name in ("a.png", "sub/b.jpg"):
        masked = cv2.imread(str(tmp_path / "out" / name))
        assert masked[12:28, 12:28].max() < 30
        assert masked[45:].min() > 150
    assert (tmp_path / "out" / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "out" / "notes.csv").read_text() == "a,b\n1,138****5678\n"


def test_explain_of_pictures_tells_class_detector_place_score_and_rule(run, pictures, tmp_path, monkeypatch):
    class Named(_Faces):
        model = "faces@1.0.0#01234567"

    monkeypatch.setattr(mask_module, "load_detectors", lambda _: {"face": Named(), "plate": _Faces()})
    (tmp_path / "p.yaml").write_text(
        "name: p\nversion: 1\nextends: base\nimages:\n  plate: pixelate\n"
        "  zones: [{name: sky, polygon: [[0, 0], [1, 0], [1, 0.5]]}]\n"
    )
    result = run(tmp_path / "p.yaml", "--explain", "-i", pictures, "-o", tmp_path / "out", "--json")
    face = "faces@1.0.0#01234567: pixels 8,8-32,32: face: fill, score 0.90, images.face ("
    assert f"a.png: {face}" in result.stderr
    assert f"sub/b.jpg: {face}" in result.stderr
    assert "a.png: detector: pixels 8,8-32,32: plate: pixelate, score 0.90, images.plate (" in result.stderr
    assert "p.yaml:5:" in result.stderr
    assert "a.png: sky: pixels 0,0-80,30: zone: fill, images.zones (" in result.stderr
    assert json.loads(result.stdout)["hits"]["detector:faces@1.0.0#01234567"] == 2
    one = run("--explain", "-i", pictures / "a.png", "-o", tmp_path / "one.png")
    assert f"picture: {face}" in one.stderr


def test_a_detector_that_fails_writes_no_picture_and_exits_1(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(mask_module, "load_detectors", lambda _: _all(_Broken()))
    result = run("-i", pictures, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert not (tmp_path / "out" / "a.png").exists()
    assert "failed, not written: a.png" in result.stderr
    assert run("-i", pictures / "a.png", "-o", tmp_path / "one.png").exit_code == 1
    assert not (tmp_path / "one.png").exists()


def test_explain_of_a_folder_names_the_file_on_a_line_of_its_own(run, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.jsonl").write_text('{"a":"tel 13812345678"}\n')
    (tmp_path / "in" / "deep" / "b.jsonl").write_text('{"a":1}\n{"a":"li@example.com"}\n')
    result = run("--explain", "--progress", "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0
    lines = [line.rpartition("\r")[2] for line in result.stderr.split("\n")]
    assert any(line.startswith("a.jsonl:1: a: bytes 4-15: mobile: keep") for line in lines), lines
    assert any(line.startswith("deep/b.jsonl:2: a: bytes 0-14: email: tag") for line in lines), lines


@pytest.mark.parametrize("before", ["NaN", "Infinity", "-Infinity", "[NaN, 1e400]", '{"NaN": NaN}'])
def test_numbers_that_json_does_not_have_shift_nothing(run, before):
    result = run(
        "--format", "jsonl", data=f'{{"n":{before},"tel":"{PHONE}","m":-Infinity,"a":"b"}}\n'.encode()
    )
    assert result.stdout == f'{{"n":{before},"tel":"138****5678","m":-Infinity,"a":"b"}}\n'


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.txt"])
def test_text_of_two_bytes_a_letter_is_refused_and_not_passed_on(run, tmp_path, encoding, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(f'["姓名","张三","{PHONE}"]\n'.encode(encoding))
    result = run("-i", tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "UTF-16" in result.stderr
    assert not (tmp_path / "out" / name).exists()
    alone = run("-i", tmp_path / "in" / name, "-o", tmp_path / name)
    assert alone.exit_code != 0
    assert not (tmp_path / name).exists()


def test_a_zero_byte_in_a_line_is_no_other_encoding(run):
    result = run("--format", "text", data=f"a\0b {PHONE}\n".encode())
    assert (result.exit_code, result.stdout) == (0, "ab 138****5678\n")


def test_a_number_with_its_power_of_ten_is_searched_where_all_its_digits_are_there(run):
    text = "a\n1.3812345678E+10\n1.3812345678e10\n1.38E+10\n2.1E-3\n1.3812345678E-05\n"
    out = run("--format", "csv", data=text.encode()).stdout_bytes
    assert out.decode() == "a\n\n\n1.38E+10\n2.1E-3\n1.3812345678E-05\n"


def test_a_table_without_a_header_is_told_of(run):
    told = "hold an identifier in their first line"
    assert told in run("--format", "csv", data="13812345678,张三\n13912345678,李四\n".encode()).stderr
    assert told not in run("--format", "csv", data="tel,name\n13912345678,李四\n".encode()).stderr
