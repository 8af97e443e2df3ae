"""Policies: reading, inheritance, hash, errors, and what they say about a field."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay import quality as q
from forebay.blocks import Field, Grade, Type
from forebay.errors import ConfigError
from forebay.mask import load_policy
from forebay.mask.policy import Action

NOTE = Field("note", Type.STR)
PICTURE = Field("still", Type.BYTES, media="image")


@pytest.fixture
def write(tmp_path):
    def save(body, name="policy.yaml"):
        (tmp_path / name).write_text(body, encoding="utf-8")
        return load_policy(name, tmp_path)

    return save


def test_base_searches_text_and_masks_faces_and_plates_but_no_persons():
    base = load_policy("base", Path())
    assert base.plan(NOTE).action is Action.SCAN
    assert base.plan(PICTURE).action is Action.IMAGE
    assert base.image_classes == {"face": "fill", "plate": "fill"}
    assert len(base.scanned_classes) == 16


def test_strict_nulls_what_nobody_declared_and_searches_declared_text():
    strict = load_policy("strict", Path())
    assert (strict.plan(NOTE).action, strict.plan(NOTE).code) == (Action.NULL, q.SUPPRESSED)
    assert strict.plan(PICTURE).action is Action.NULL
    declared = Field("note", Type.STR, grade=Grade.GENERAL)
    assert strict.plan(declared).action is Action.SCAN
    assert strict.plan(Field("t", Type.F64, unit="°C")).action is Action.PASS


def test_core_grade_is_suppressed_whatever_its_class():
    base = load_policy("base", Path())
    plan = base.plan(Field("x", Type.STR, grade=Grade.CORE, classes=("name",)))
    assert (plan.action, plan.code) == (Action.NULL, q.SUPPRESSED)


def test_a_grade_or_class_without_a_rule_is_guarded(write):
    policy = write("name: p\nversion: 1\nclasses: {mobile: {operator: tag}}\n")
    assert policy.plan(Field("x", Type.STR, grade=Grade.GENERAL)).code == q.GUARDED
    assert policy.plan(Field("x", Type.STR, classes=("name",))).code == q.GUARDED
    assert policy.plan(NOTE).action is Action.NULL, "a policy that says nothing is closed"


def test_the_strictest_of_several_classes_holds():
    base = load_policy("base", Path())
    plan = base.plan(Field("x", Type.STR, classes=("name", "email", "mobile")))
    assert (plan.action, plan.label) == (Action.CELL, "email")


def test_field_rules_go_first_the_exact_name_before_patterns(write):
    policy = write(
        "name: p\nversion: 1\nextends: base\nfields:\n"
        "  'no*': {operator: suppress}\n  note: {operator: tag}\n  desk.NOTE: {operator: scan}\n"
    )
    assert policy.plan(NOTE).action is Action.CELL
    assert policy.plan(NOTE, "desk").action is Action.SCAN
    assert policy.plan(Field("nonce", Type.I64)).action is Action.NULL


def test_a_number_cannot_be_masked_in_part_and_becomes_null():
    plan = load_policy("base", Path()).plan(Field("phone", Type.I64, classes=("mobile",)))
    assert (plan.action, plan.code, plan.label) == (Action.NULL, q.SUPPRESSED, "mobile")


def test_a_child_changes_what_it_names_and_inherits_the_rest(write):
    write("name: parent\nversion: 3\nextends: base\nclasses: {mobile: {operator: tag}}\n", "parent.yaml")
    child = write("name: c\nversion: 1\nextends: parent.yaml\nimages: {person: blur}\n")
    assert child.options.classes["mobile"].operator == "tag"
    assert child.options.classes["email"].operator == "tag"
    assert (child.options.images.person, child.options.images.face) == ("blur", "fill")


def test_the_hash_follows_the_meaning_and_not_the_file_or_where_the_secret_lies(write):
    body = "name: p\nversion: 1\nextends: base\nkeys: {id: k1, secret: 'env:A'}\n"
    first = write(body).hash
    assert write("## words\n" + body.replace("env:A", "env:B")).hash == first
    assert write(body.replace("k1", "k2")).hash != first
    assert write(body + "classes: {mobile: {operator: tag}}\n").hash != first
    order = "fields: {'a*': {operator: scan}, '*b': {operator: tag}}\n"
    swapped = "fields: {'*b': {operator: tag}, 'a*': {operator: scan}}\n"
    assert write(body + order).hash != write(body + swapped).hash, "the first pattern that fits decides"


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        ("name: p\nversion: 1\nclasses:\n  mobil: {operator: tag}\n", ":4:3: classes.mobil", "mobile"),
        ("name: p\nversion: 1\nimages: {face: nothing}\n", ":3:10: images.face", "fill"),
        ("name: p\nversion: 1\nundeclared: {txt: scan}\n", "undeclared.txt", "text"),
        ("name: p\nname: q\nversion: 1\n", ":2:1", "twice"),
        ("name: p\nversion: 1\nextends: bse\n", "bse", "base"),
        ("name: p\nversion: 1\nextends: policy.yaml\n", "policy.yaml", "circle"),
        ("name: p\nversion: 1\nclasses: {name: {operator: token}}\n", "policy.yaml", "keys"),
        ("name: p\nversion: 1\nclasses: {name: {operator: keep, char: x}}\n", "char", "sign"),
        ("name: [\n", ":2:1", "YAML"),
        ("- 1\n", "policy.yaml", "expected keys"),
        ("name: p\nversion: 0\n", ":2:1: version", "greater"),
    ],
)
def test_errors_name_place_and_remedy(write, body, place, said):
    with pytest.raises(ConfigError) as caught:
        write(body)
    assert place in str(caught.value)
    assert said in str(caught.value)


def test_all_errors_of_a_file_come_at_once_and_a_secret_in_it_is_never_shown(write):
    with pytest.raises(ConfigError) as caught:
        write("name: p\nversion: 1\nimages: {face: x}\nkeys: {id: k1, secret: hunter2hunter2}\n")
    text = str(caught.value)
    assert "2 errors" in text
    assert "hunter2" not in text


def test_explain_says_what_happens_and_why():
    base = load_policy("base", Path())
    text = base.explain(Field("owner", Type.STR, classes=("name",)))
    assert "`owner` is masked whole with `keep`: classes.name says keep" in text
    assert "undeclared.text says scan" in base.explain(NOTE)
