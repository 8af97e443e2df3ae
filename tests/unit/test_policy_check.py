"""`forebay check` of a policy and its own tests, and what it says of each field of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forebay.blocks import Field, Grade, Type
from forebay.cli import app
from forebay.mask import load_policy
from forebay.mask.trials import run_tests

POLICY = """\
name: site
version: 2
extends: base
classes:
  mobile: {operator: token}
fields:
  age: {operator: generalise, round: 5}
streams:
  desk: {drop_when: [email]}
keys: {id: k1, secret: env:NOT_SET_ANYWHERE}
tests:
  - name: a call
    given: {note: call 13812345678, age: 33, born: 1984}
    expect:
      note: {matches: "call mobile_k1_[a-z2-7]{16}"}
      age: 35
      born: 1984
  - stream: desk
    given: {note: a@qq.com}
    dropped: true
  - fields: {who: {classes: [name]}, secret: {grade: core}}
    given: {who: 张三丰, secret: x}
    expect: {who: 张**, secret: null}
"""
CONFIG = """\
gateway: {id: g1}
sources: {desk: {type: file, path: in.jsonl, format: jsonl}}
pipelines:
  desk:
    source: desk
    fields: {temp: {unit: "°C"}, who: {type: str, classes: [name]}, age: {type: i64}}
masking: {policy: p.yaml}
spool: {dir: spool}
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "p.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "a.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "in.jsonl").write_text("")
    return tmp_path


def check(capsys, *arguments):
    code = app.run(["check", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_a_policy_is_checked_alone_without_its_secret(capsys, site):
    code, out = check(capsys, site / "p.yaml")
    assert code == 0, out
    assert "site v2" in out
    assert "3 passed" in out
    assert load_policy("p.yaml", site).hash in out
    assert "base.yaml:" in out, "where an inherited rule stands"


def test_a_test_that_fails_is_an_error_at_its_line(capsys, site):
    (site / "p.yaml").write_text(
        POLICY.replace("age: 35", "age: 33").replace("张**", "张三"), encoding="utf-8"
    )
    code, out = check(capsys, site / "p.yaml")
    assert code == 2
    lines = out.splitlines()
    assert lines[0].endswith(':16:7: tests[0] "a call": age: expected 33, got 35')
    assert lines[1].endswith('tests[2]: who: expected "张三", got "张**"')
    code, out = check(capsys, site / "p.yaml", "--json")
    assert code == 2
    assert len(json.loads(out)["errors"]) == 2


def test_a_configuration_with_a_policy_whose_test_fails_is_bad(capsys, site):
    (site / "p.yaml").write_text(POLICY.replace("age: 35", "age: 33"), encoding="utf-8")
    code, out = check(capsys, site / "a.yaml")
    assert code == 2
    assert "the policy's own test fails" in out
    assert "p.yaml:16:7" in out


def test_dropped_and_kept_records_and_changed_values_are_told_apart(site):
    body = POLICY.replace("dropped: true", "expect: {note: x}").replace("age: 35", "age: {changed: true}")
    (site / "p.yaml").write_text(body, encoding="utf-8")
    (failure,) = run_tests(load_policy("p.yaml", site))
    assert failure.message == "the record was dropped"
    body = POLICY.replace("a@qq.com", "nobody").replace("born: 1984\n  -", "born: {changed: true}\n  -")
    (site / "p.yaml").write_text(body, encoding="utf-8")
    said = [f.message for f in run_tests(load_policy("p.yaml", site))]
    assert said == [
        "born: expected another value, it passed as given",
        "expected the record to be dropped, it was kept",
    ]


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("  - given: {a: x}\n", "cannot fail"),
        ("  - given: {a: x}\n    expect: {b: y}\n", "`b` is not among"),
        ("  - given: {a: x}\n    expect: {a: {matches: '('}}\n", "regular expression"),
        ("  - given: {}\n    dropped: true\n", "given"),
    ],
)
def test_a_test_that_tests_nothing_is_refused(capsys, site, test, said):
    (site / "p.yaml").write_text(POLICY + test, encoding="utf-8")
    code, out = check(capsys, site / "p.yaml")
    assert code == 2
    assert said in out


def test_tests_are_not_inherited_and_do_not_change_the_hash(site):
    first = load_policy("p.yaml", site)
    (site / "p.yaml").write_text(POLICY[: POLICY.index("tests:")], encoding="utf-8")
    assert load_policy("p.yaml", site).hash == first.hash
    (site / "p.yaml").write_text(POLICY, encoding="utf-8")
    (site / "child.yaml").write_text("name: c\nversion: 1\nextends: p.yaml\n", encoding="utf-8")
    assert load_policy("child.yaml", site).options.tests == ()


def test_each_field_of_a_configuration_is_explained_with_the_rule_and_its_line(capsys, site):
    code, out = check(capsys, site / "a.yaml")
    assert code == 0, out
    assert "desk.temp (f64) passes as it is: undeclared.number says pass, and its unit" in out
    assert "desk.who (str) is masked whole with `keep`: classes.name says keep (base.yaml:11:3)" in out
    assert f"desk.age (i64) is made less exact with `generalise`: fields.age says generalise ({site}" in out
    assert "desk.* (other text) is searched" in out
    fields = json.loads(check(capsys, site / "a.yaml", "--json")[1])["summary"]["fields"]
    assert {f["field"] for f in fields} == {"temp", "who", "age", "*", "(row)"}


def test_a_rule_that_a_fields_type_cannot_take_is_an_error_at_both_places(capsys, site):
    (site / "p.yaml").write_text(POLICY.replace("generalise, round: 5", "token"), encoding="utf-8")
    (site / "a.yaml").write_text(CONFIG, encoding="utf-8")
    code, out = check(capsys, site / "a.yaml")
    assert code == 2
    assert "a.yaml:6:" in out
    assert "`token` needs text, the field is i64" in out
    assert "p.yaml:7:3" in out


@pytest.mark.parametrize("name", ["base", "strict"])
def test_shipped_policies_pass_their_own_tests(name):
    from pathlib import Path

    policy = load_policy(name, Path())
    assert policy.options.tests
    assert run_tests(policy) == []


def test_live_also_looks_for_the_policys_secret(capsys, site):
    (site / "a.yaml").write_text(CONFIG, encoding="utf-8")
    code, out = check(capsys, site / "a.yaml", "--live")
    assert code == 1
    assert "NOT_SET_ANYWHERE is not set" in out


def test_the_policy_of_the_guide_is_right_and_passes_its_tests(tmp_path):
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "masking-policy.md").read_text(encoding="utf-8")
    (tmp_path / "p.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    policy = load_policy("p.yaml", tmp_path)
    assert len(policy.options.tests) == 2
    assert [str(failure) for failure in run_tests(policy)] == []


def test_a_number_that_passes_for_its_unit_is_said_to():
    field = Field("flow", Type.F64, unit="m3/h", grade=Grade.GENERAL)
    said = load_policy("base", Path()).explain(field)
    assert "passes as it is: grades.general says scan, and its unit says that it is a measurement" in said


def test_rules_for_patterns_and_rows_that_go_whole_are_explained(capsys, site):
    body = POLICY.replace(
        "fields:\n",
        'fields:\n  "meter_*": {operator: pass, unguarded: true}\n  "desk.x?": {operator: suppress}\n',
    )
    (site / "p.yaml").write_text(body, encoding="utf-8")
    code, out = check(capsys, site / "a.yaml")
    assert code == 0, out
    said = [
        line for line in out.splitlines() if "desk.meter_* (if text) passes as it is: fields.meter_*" in line
    ]
    assert said[0].endswith("; the guard does not search it")
    assert "desk.x? (if text) becomes null, suppressed: fields.desk.x? says suppress" in out
    assert "desk.(row) (any) goes whole where one of these is found: email: streams.desk.drop_when (" in out
