"""Masking of blocks and the guard behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Grade, Schema, Type
from forebay.errors import ConfigError
from forebay.mask import Guard, Masker, load_policy
from forebay.mask import guard as guard_module
from forebay.mask import masker as masker_module

BASE = load_policy("base", Path())


def block(values, **field):
    field = {"name": "note", "type": Type.STR, **field}
    column = Column.of(field["type"], values)
    return Block(Schema("desk", (Field(**field),)), np.arange(len(values), dtype=np.int64), (column,))


def masked(policy, values, **field):
    out = Masker(policy).apply(block(values, **field))
    return out.columns[0].to_list(out.schema.fields[0].type), out


def policy_of(tmp_path, body):
    (tmp_path / "p.yaml").write_text(f"name: p\nversion: 1\nextends: base\n{body}", encoding="utf-8")
    return load_policy("p.yaml", tmp_path)


def test_text_is_masked_counted_and_its_spans_kept():
    values, out = masked(BASE, ["手机13812345678，a@qq.com", "ok", None])
    assert values == ["手机138****5678，[email]", "ok", None]
    assert out.hits == {"mobile:keep": 1, "email:tag": 1}
    assert out.columns[0].spans.tolist() == [[0, 6, 17], [0, 20, 27]]
    assert out.columns[0].masked == BASE.hash


def test_the_input_block_is_left_as_it_was():
    given = block(["13812345678"])
    before = given.columns[0].values.copy()
    Masker(BASE).apply(given)
    np.testing.assert_array_equal(given.columns[0].values, before)
    assert given.hits == {}


def test_long_whole_numbers_that_are_identifiers_become_null():
    values, out = masked(BASE, [13812345678, 1381234567, -5, 20000000000], type=Type.I64)
    assert values == [None, 1381234567, -5, 20000000000]
    assert out.hits == {"mobile:suppress": 1}
    assert out.columns[0].quality.tolist() == [q.SUPPRESSED, 0, 0, 0]
    assert out.columns[0].values[0] == 0
    values, _ = masked(BASE, [13812345678.0, 13812345678.5, float("nan"), 1e300], type=Type.F64)
    assert values == [None, 13812345678.5, None, 1e300]


def test_a_number_with_a_unit_is_a_measurement():
    assert masked(BASE, [13812345678], type=Type.I64, unit="Wh")[0] == [13812345678]


def test_the_least_integer_does_not_break_the_search():
    assert masked(BASE, [-(2**63), 2**63 - 1], type=Type.I64)[0] == [-(2**63), 2**63 - 1]


def test_a_declared_class_masks_the_whole_cell():
    assert masked(BASE, ["张三丰", "李四", None], classes=("name",))[0] == ["张**", "李*", None]
    assert masked(BASE, ["杭州市西湖区1号"], classes=("address",))[0] == ["[address]"]


def test_the_name_of_a_field_is_context_for_its_values():
    assert masked(BASE, ["490154203237518"], name="imei")[0] == ["[imei]"]
    assert masked(BASE, ["490154203237518"])[0] == ["490154203237518"]


def test_bytes_with_a_hit_or_an_undeclared_picture_become_null():
    jpeg = b"\xff\xd8\xff\xe0" + bytes(20)
    values, out = masked(BASE, [b"\x00\x01", b"tel 13812345678", jpeg], type=Type.BYTES)
    assert values == [b"\x00\x01", None, None]
    assert out.columns[0].quality.tolist() == [0, q.SUPPRESSED, q.GUARDED]


def test_suppress_nulls_the_cell_and_pass_leaves_it(tmp_path):
    policy = policy_of(tmp_path, "classes: {mobile: {operator: suppress}, email: {operator: pass}}\n")
    values, out = masked(policy, ["13812345678", "a@qq.com"])
    assert values == [None, "a@qq.com"]
    assert out.columns[0].quality.tolist() == [q.SUPPRESSED, 0]
    assert Guard(policy).check(out).columns[0].to_list(Type.STR) == [None, "a@qq.com"]


def test_an_identifier_of_a_class_without_a_rule_is_guarded(tmp_path):
    body = "name: p\nversion: 1\nclasses: {email: {operator: tag}}\nundeclared: {text: scan}\n"
    (tmp_path / "p.yaml").write_text(body)
    values, out = masked(load_policy("p.yaml", tmp_path), ["a@qq.com", "13812345678"])
    assert values == ["[email]", None]
    assert out.columns[0].quality.tolist() == [0, q.GUARDED]


TOKENS = "classes: {mobile: {operator: token}}\nkeys: {id: k1, secret: 'env:FOREBAY_TEST_SECRET'}\n"


def test_tokens_are_equal_for_one_value_however_written_and_on_every_gateway(tmp_path, monkeypatch):
    monkeypatch.setenv("FOREBAY_TEST_SECRET", "s" * 32)
    policy = policy_of(tmp_path, TOKENS)
    first, out = masked(policy, ["13812345678", "138-1234-5678", "１３８１２３４５６７８", "13812345679"])
    again, _ = masked(policy_of(tmp_path, TOKENS), ["13812345678"])
    assert first[0] == first[1] == first[2] == again[0]
    assert first[0] != first[3]
    ways = [
        "١٣٨١٢٣٤٥٦٧٨",
        "一三八一二三四五六七八",
        "1\ufe0f3\u200e812345678",
        "\U0001d7cf3812345678",
        "电话138+1234+5678",
    ]
    assert {text.removeprefix("电话") for text in masked(policy, ways)[0]} == {first[0]}
    assert first[0].startswith("mobile_k1_")
    assert Guard(policy).check(out).hits == out.hits, "the guard takes a token for no leak"
    monkeypatch.setenv("FOREBAY_TEST_SECRET", "t" * 32)
    assert masked(policy_of(tmp_path, TOKENS), ["13812345678"])[0] != again


def test_tokens_differ_by_tenant_and_class(tmp_path, monkeypatch):
    monkeypatch.setenv("FOREBAY_TEST_SECRET", "s" * 32)
    here = masked(policy_of(tmp_path, TOKENS), ["13812345678"])[0]
    other = TOKENS.replace("id: k1", "id: k1, tenant: b")
    assert masked(policy_of(tmp_path, other), ["13812345678"])[0] != here
    whole = TOKENS.replace("mobile:", "name:")
    code = masked(policy_of(tmp_path, whole), ["13812345678"], classes=("name",))[0][0]
    assert code.rsplit("_", 1)[1] != here[0].rsplit("_", 1)[1]


@pytest.mark.parametrize("secret", [None, "short"])
def test_a_missing_or_short_secret_stops_before_any_data(tmp_path, monkeypatch, secret):
    monkeypatch.delenv("FOREBAY_TEST_SECRET", raising=False)
    if secret:
        monkeypatch.setenv("FOREBAY_TEST_SECRET", secret)
    with pytest.raises(ConfigError):
        Masker(policy_of(tmp_path, TOKENS))


def test_a_scan_that_breaks_nulls_its_column_and_the_rows_go_on(monkeypatch):
    def broken(*_):
        raise RuntimeError("13812345678")

    monkeypatch.setattr(masker_module, "search", broken)
    values, out = masked(BASE, ["13812345678", None])
    assert values == [None, None]
    assert out.columns[0].quality.tolist() == [q.DETECTOR_FAILED, q.NULL]
    assert out.hits == {"detector:failed": 1}
    assert len(out.columns[0].values) == 0


# --- the guard


def test_what_masking_made_passes_the_guard_unchanged():
    _, out = masked(BASE, ["手机13812345678", "11010519491231002X", "京A12345", "a@qq.com", "x"])
    checked = Guard(BASE).check(out)
    assert checked.columns[0].to_list(Type.STR) == out.columns[0].to_list(Type.STR)
    assert checked.hits == out.hits


@pytest.mark.parametrize("name", ["a@qq.com", "13812345678", "11010519491231002X", "京A12345"])
def test_an_identifier_that_masking_left_is_stopped_and_counted(name):
    leaky = replace(block([name, "ok"]).columns[0], masked=BASE.hash)
    out = Guard(BASE).check(replace(block([name, "ok"]), columns=(leaky,)))
    assert out.columns[0].to_list(Type.STR) == [None, "ok"]
    assert out.columns[0].quality.tolist() == [q.LEAK, 0]
    assert sum(n for rule, n in out.hits.items() if rule.startswith("leak:")) == 1
    assert name.encode() not in out.columns[0].values.tobytes()


def test_only_hits_wholly_within_a_masked_span_are_left_out():
    text = "13812345678 13912345678"
    for spans, expected in (
        ([[0, 0, 23]], text),
        ([[0, 0, 11], [0, 12, 23]], text),
        ([[0, 0, 11]], None),
        ([[0, 0, 5], [0, 12, 23]], None),
        ([[1, 0, 23]], None),
    ):
        column = Column.of(Type.STR, [text, "y" * 30])
        column.spans, column.masked = np.array(spans, np.int64), BASE.hash
        out = Guard(BASE).check(replace(block([text, ""]), columns=(column,)))
        assert out.columns[0].to_list(Type.STR)[0] == expected


def test_long_integers_are_searched_by_the_guard_too():
    column = replace(Column.of(Type.I64, [13812345678, 7]), masked=BASE.hash)
    out = Guard(BASE).check(replace(block([1, 2], type=Type.I64), columns=(column,)))
    assert out.columns[0].to_list(Type.I64) == [None, 7]
    assert out.hits == {"leak:mobile": 1}


def test_a_block_that_was_not_masked_or_under_another_policy_is_closed():
    strict = load_policy("strict", Path())
    field = {"grade": Grade.GENERAL}
    for given in (block(["x"], **field), Masker(strict).apply(block(["x"], **field))):
        out = Guard(BASE).check(given)
        assert out.columns[0].to_list(Type.STR) == [None]
        assert out.columns[0].quality.tolist() == [q.GUARDED]
        assert out.hits["guard:unmasked"] == 1


def test_a_field_without_a_rule_is_closed_even_if_it_claims_to_be_masked(tmp_path):
    (tmp_path / "p.yaml").write_text("name: p\nversion: 1\n")
    policy = load_policy("p.yaml", tmp_path)
    given = block(["x"], grade=Grade.GENERAL)
    column = replace(given.columns[0], masked=policy.hash)
    out = Guard(policy).check(replace(given, columns=(column,)))
    assert out.columns[0].quality.tolist() == [q.GUARDED]
    assert out.hits == {"guard:no_rule": 1}


def test_a_guard_that_breaks_closes(monkeypatch):
    def broken(*_):
        raise MemoryError

    _, out = masked(BASE, ["x", None])
    monkeypatch.setattr(guard_module, "search", broken)
    checked = Guard(BASE).check(out)
    assert checked.columns[0].to_list(Type.STR) == [None, None]
    assert checked.columns[0].quality.tolist() == [q.DETECTOR_FAILED, q.NULL]
    assert checked.hits["guard:failed"] == 1


def test_a_field_passes_the_guard_readable_only_where_the_policy_says_unguarded(tmp_path):
    policy = policy_of(tmp_path, "fields: {note: {operator: pass}}\n")
    _, out = masked(policy, ["13812345678"])
    assert Guard(policy).check(out).columns[0].to_list(Type.STR) == [None]
    policy = policy_of(tmp_path, "fields: {note: {operator: pass, unguarded: true}}\n")
    _, out = masked(policy, ["13812345678"])
    assert Guard(policy).check(out).columns[0].to_list(Type.STR) == ["13812345678"]


def test_the_key_column_is_masked_like_any_other():
    given = block(["13812345678"])
    given = replace(given, schema=replace(given.schema, key="note"))
    assert Masker(BASE).apply(given).columns[0].to_list(Type.STR) == ["138****5678"]
