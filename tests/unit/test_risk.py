"""`forebay audit risk`: k-anonymity of a sample."""

from __future__ import annotations

import json

import pytest

from forebay import risk
from forebay.cli import app
from forebay.errors import InputError

ROWS = [
    {"zip": "310", "age": "30", "sex": "f", "ill": "flu"},
    {"zip": "310", "age": "30", "sex": "f", "ill": "flu"},
    {"zip": "310", "age": "40", "sex": "m", "ill": "cold"},
    {"zip": "310", "age": "40", "sex": "m", "ill": "flu"},
    {"zip": "311", "age": "40", "sex": "m", "ill": "cold"},
]


def test_k_is_the_smallest_group_and_the_lone_record_is_found():
    found = risk.assess(ROWS, ["zip", "age", "sex"], ["ill"])
    assert (found.records, found.groups, found.k, found.unique) == (5, 3, 1, 1)
    assert found.highest == 1
    assert found.average == pytest.approx(3 / 5)
    assert found.sizes == {"1": 1, "2-4": 4, "5-9": 0, "10-49": 0, "50+": 0}
    assert found.alone == {"zip": 1}
    assert found.pairs == {"zip + age": 1, "zip + sex": 1}
    assert found.sensitive["ill"].l == 1
    assert found.sensitive["ill"].t == pytest.approx(0.6)


def test_fewer_quasi_identifiers_are_less_telling():
    found = risk.assess(ROWS, ["sex"], ["ill"])
    assert (found.k, found.unique, found.alone) == (2, 0, {})
    assert found.sensitive["ill"].l == 1


def test_groups_as_mixed_as_the_whole_have_t_0():
    rows = [{"a": a, "s": s} for a in "xy" for s in "pqr"]
    found = risk.assess(rows, ["a"], ["s"])
    assert (found.sensitive["s"].l, found.sensitive["s"].t) == (3, 0)


@pytest.mark.parametrize(("rows", "quasi"), [([], ["a"]), (ROWS, ["town"]), (ROWS, [])])
def test_nothing_to_look_at_is_an_error(rows, quasi):
    with pytest.raises(InputError):
        risk.assess(rows, quasi)


def test_the_command_reads_csv_and_json_lines_and_shows_no_value(capsys, tmp_path):
    (tmp_path / "a.csv").write_text("zip,age,ill\n310,30,flu\n310,30,cold\n311,31,flu\n")
    (tmp_path / "a.jsonl").write_text(
        '{"zip": 310, "age": 30, "ill": "flu"}\n{"zip": 310, "age": 30, "ill": "cold"}\n\n'
        '{"zip": 311, "age": 31, "ill": "flu"}\n'
    )
    facts = []
    for name in ("a.csv", "a.jsonl"):
        arguments = ["audit", "risk", str(tmp_path / name), "--quasi", "zip, age", "--sensitive", "ill"]
        assert app.run([*arguments, "--json"]) == 0
        facts.append(json.loads(capsys.readouterr().out))
        assert app.run([*arguments, "--least", "2"]) == 1
        text = capsys.readouterr().out
        assert "k = 1" in text
        assert "flu" not in text
        assert "311" not in text
    assert facts[0] == facts[1]


def test_a_broken_file_is_an_error_without_its_content(capsys, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"zip": 13812345678}\n[1, 2\n')
    assert app.run(["audit", "risk", str(tmp_path / "a.jsonl"), "--quasi", "zip"]) == 1
    error = capsys.readouterr().err
    assert "after record 1" in error
    assert "138" not in error


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", "邮编;病\n1;感冒\n1;流感\n".encode("gb18030")),
        ("t.csv", "\ufeff邮编\t病\r\n1\t感冒\r\n1\t流感\r\n".encode()),
        ("t.csv", "邮编|病|\n1|感冒||more\n1|流感\n".encode()),
        ("t.json", '[{"邮编": 1, "病": "感冒"},\n {"邮编": 1, "病": "流感"}]'.encode()),
        ("t.jsonl", '{"邮编": 1, "病": "感冒"}\n\n{"邮编": 1, "病": "流感"}'.encode("gb18030")),
    ],
)
def test_tables_are_read_as_they_come(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    found = risk.assess(risk.read_table(tmp_path / name), ["邮编"], ["病"])
    assert (found.records, found.k, found.sensitive["病"].l) == (2, 2, 2)
