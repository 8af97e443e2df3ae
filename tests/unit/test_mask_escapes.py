"""JSON in strings of JSON: identifiers behind escapes, in values and in keys, at any depth."""

from __future__ import annotations

import json
import random
from pathlib import Path

import canaries as c
import numpy as np
import pytest

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.mask import load_policy
from forebay.mask.escapes import hidden, without_nuls, written_out
from forebay.mask.guard import Guard
from forebay.mask.masker import Masker
from forebay.mask.search import search

RNG = random.Random(7)
VALUES = {kind: maker(RNG) for kind, maker in c.MAKERS.items()}


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(sign):04x}" for sign in text)


def nested(value: object, depth: int) -> str:
    text = json.dumps(value)
    for _ in range(depth):
        text = json.dumps({"inner": text})
    return text


def unfolded(text: str) -> str:
    """Return what a reader of all levels sees."""
    value = json.loads(text)
    while isinstance(value, dict) and set(value) == {"inner"}:
        value = json.loads(value["inner"])
    return json.dumps(value, ensure_ascii=False)


def block_of(*cells, type_=Type.STR):
    schema = Schema("s", (Field("note", type_),))
    return Block(schema, np.arange(len(cells), dtype=np.int64), (Column.of(type_, list(cells)),))


def masked(*cells, policy=None):
    policy = policy or load_policy("base", Path())
    block = Guard(policy).check(Masker(policy, trial=True).apply(block_of(*cells)))
    return block, [block.columns[0].cell_bytes(row).decode() for row in range(block.rows)]


@pytest.mark.parametrize("kind", list(VALUES))
@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_identifiers_in_keys_and_values_are_masked_at_any_depth_and_the_json_stays_json(kind, depth):
    value = VALUES[kind]
    # as encoders write it (only what is not ASCII), and with every character escaped
    plain = nested({f"电话{value}": [f"在\n{value}", {"x": value}]}, depth)
    whole = plain.replace(json.dumps(value)[1:-1], escaped(value).replace("\\", "\\" * 2**depth))
    for text in (plain, whole):
        _, (out,) = masked(text)
        seen = unfolded(out)
        assert value not in seen
        assert seen.count(value[-4:]) in (0, 3), "three times masked alike"
        (key,) = json.loads(seen)
        assert key.startswith("电话")
        assert json.loads(seen)[key][0].startswith("在\n"), "line ends stay escaped"


def test_a_token_is_the_same_whether_the_value_was_escaped_or_not(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: p\nversion: 1\nextends: base\nclasses: {mobile: {operator: token}, email: {operator: fpe}}\n"
        "keys: {id: k, secret: 'env:NOT_READ_HERE'}\n".replace(
            "email: {operator: fpe}", "bank_card: {operator: fpe}"
        )
    )
    policy = load_policy("p.yaml", tmp_path)
    number, card = VALUES["mobile"], VALUES["bank_card"]
    _, out = masked(
        f'{{"a":"{number}","b":"{card}"}}',
        f'{{"a":"{escaped(number)}","b":"{escaped(card)}"}}',
        nested({"a": number, "b": card}, 2).replace(number, escaped(number).replace("\\", "\\\\\\\\")),
        policy=policy,
    )
    assert unfolded(out[0]) == unfolded(out[1]) == unfolded(out[2])
    assert "mobile_k_" in out[0]
    assert card not in out[0]


def test_text_without_an_identifier_keeps_its_escapes():
    text = nested({"状态": "正常", "ok\u2028": "\U0001f600"}, 2)
    assert masked(text, "C:\\users\\u0041bc")[1] == [text, "C:\\users\\u0041bc"]


@pytest.mark.parametrize(
    "unit", ["\\u0022", "\\u005c", "\\u000a", "\\ud800", "\\udc00\\ud800", "\\u00zz", "\\u12"]
)
def test_what_is_no_character_of_its_own_stays_escaped(unit):
    text = f'{{"a":"{unit} \\u0041 {VALUES["email"]}"}}'
    (out,) = masked(text)[1]
    assert unit in out
    assert "[email]" in out
    assert " A " in out


def test_pairs_of_surrogates_become_one_character():
    (out,) = masked(f'["\\ud83d\\ude00 {VALUES["email"]}"]')[1]
    assert json.loads(out) == ["\U0001f600 [email]"]


def test_the_guard_looks_behind_escapes_too():
    policy = load_policy("base", Path())
    text = nested({"a": "x"}, 1).replace("x", escaped(VALUES["resident_id"]).replace("\\", "\\\\"))
    block = block_of(text, "nothing")
    passed = Block(
        block.schema, block.time, (block.columns[0].marked(policy.hash),)
    )  # a masker that let it by
    out = Guard(policy).check(passed)
    assert out.hits["leak:resident_id"] == 1
    assert out.columns[0].quality is not None
    assert out.columns[0].quality.tolist() == [q.LEAK, 0]


def test_opaque_bytes_that_hide_one_become_null():
    text = nested({"a": "x"}, 1).replace("x", escaped(VALUES["mobile"]).replace("\\", "\\\\"))
    policy = load_policy("base", Path())
    out = Masker(policy).apply(block_of(text.encode(), b"\\u0041", type_=Type.BYTES))
    assert out.columns[0].is_null().tolist() == [True, False]
    assert out.hits["mobile:suppress"] == 1


def test_a_column_without_escapes_is_handed_on_as_it_is():
    column = block_of("13812345678", "a\\b").columns[0]

    def never(_cells):
        raise AssertionError("searched for nothing")

    assert hidden(column, never) is None
    assert written_out(column, never) is column


def test_only_cells_that_hide_something_are_rewritten():
    classes = 0xFFFFFFFF
    mobile = VALUES["mobile"]
    column = block_of("\\u0041", f"\\u0041 {escaped(mobile)}", mobile, "").columns[0]
    out = written_out(column, lambda cells: search(cells, classes, 0))
    cells = [out.cell_bytes(row).decode() for row in range(4)]
    assert cells == ["\\u0041", f"A {mobile}", mobile, ""]


def test_nuls_part_no_number_and_are_gone() -> None:
    cells = ["138\x0000138000", "", "\0", "a", None, "\0b\0\0c"]
    column = Column.of(Type.STR, cells)
    assert without_nuls(column).to_list(Type.STR) == ["13800138000", "", "", "a", None, "bc"]
    block = Block(Schema("s", (Field("note", Type.STR),)), np.zeros(6, dtype=np.int64), (column,))
    masked = Masker(load_policy("base", Path())).apply(block).columns[0]
    assert masked.to_list(Type.STR) == ["138****8000", "", "", "a", None, "bc"]
    for cells in (["a", "b"], ["\ufffda", "电话\ufffd\ufffd"]):
        clean = Column.of(Type.STR, cells)
        assert without_nuls(clean) is clean


def test_a_file_in_utf_16_that_a_source_read_hides_nothing() -> None:
    text = "1,tel 13812345678 ok\n"
    cells = ["x", text.encode("utf-16-le").decode("utf-8", "replace").replace("\0", "\ufffd")]
    block = Block(
        Schema("s", (Field("note", Type.STR),)), np.zeros(2, dtype=np.int64), (Column.of(Type.STR, cells),)
    )
    masked = Masker(load_policy("base", Path())).apply(block).columns[0]
    assert masked.to_list(Type.STR) == ["x", "1,tel 138****5678 ok\n\ufffd"]


@pytest.mark.parametrize("kind", list(VALUES))
@pytest.mark.parametrize("form", ["&#{};", "&#x{:x};", "&#X{:04X};"])
def test_identifiers_behind_references_of_html_are_masked(kind, form):
    value = VALUES[kind]
    text = (
        "<b>电话</b> &lt;" + "".join(form.format(ord(sign)) for sign in value) + "&gt; &#60;i&#62; &#38;amp;"
    )
    _, (out,) = masked(text)
    assert value not in out
    assert "&#49;" not in out
    assert out.endswith("&gt; &#60;i&#62; &#38;amp;"), "what is markup stays apart from what is text"
    assert out.startswith("<b>电话</b> &lt;")
    assert masked(f"<b>{value}</b>")[1][0].removeprefix("<b>").removesuffix("</b>") in out


def test_a_space_of_html_parts_no_number_and_other_references_stay():
    _, (out, other) = masked(
        "138&nbsp;1234&nbsp;5678", "5 &#176;C &nbsp; &#1234567890; &#xD800; &#; &amp;#49;"
    )
    assert out == "138\xa0****\xa05678"
    assert other == "5 &#176;C &nbsp; &#1234567890; &#xD800; &#; &amp;#49;"


def test_the_guard_sees_through_references_of_html():
    text = "".join(f"&#{ord(sign)};" for sign in VALUES["mobile"])
    policy = load_policy("base", Path())
    block = block_of(text)
    column = block.columns[0].marked(policy.hash)
    out = Guard(policy).check(Block(block.schema, block.time, (column,)))
    assert out.columns[0].to_list(Type.STR) == [None]
    assert out.hits == {"leak:mobile": 1}
