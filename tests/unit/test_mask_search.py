"""Searching equal cells once finds exactly what searching every cell finds."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.mask import Guard, Masker, load_policy
from forebay.mask import search as module
from forebay.mask.search import search
from forebay_core import text_tables as tables
from forebay_core.text import scan

CLASSES = sum(1 << code for code in tables.CODES.values())
MOBILE = "13812345678"
BASE = load_policy("base", Path())
PICTURE = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(range(200))).decode()


def _column(cells: list[str | None]) -> Column:
    return Column.of(Type.STR, cells)


def _every_cell(column: Column) -> list[list[int]]:
    assert column.offsets is not None
    spans, codes, confidence = scan(column.values, column.offsets, CLASSES, 0)
    return np.column_stack([spans, codes, confidence]).tolist()


def _found(column: Column) -> list[list[int]]:
    spans, codes, confidence = search(column, CLASSES, 0)
    return np.column_stack([spans, codes, confidence]).tolist()


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 300, 1000])
@pytest.mark.parametrize("kinds", [1, 7, 200, 1000])
@pytest.mark.parametrize("hit_every", [0, 1, 9, 200])
def test_the_same_is_found_as_in_every_cell(rows: int, kinds: int, hit_every: int) -> None:
    cells: list[str | None] = [
        f"call {MOBILE} n{i % kinds}" if hit_every and i % hit_every == hit_every - 1 else f"pump-{i % kinds}"
        for i in range(rows)
    ]
    column = _column(cells)
    expected = _every_cell(column)
    assert _found(column) == expected
    assert bool(expected) == bool(hit_every and rows >= hit_every)


def test_one_cell_among_a_thousand_equal_ones_is_found() -> None:
    cells: list[str | None] = ["pump"] * 1000
    cells[777] = MOBILE
    assert [found[0] for found in _found(_column(cells))] == [777]


def test_nulls_and_a_slice_of_a_larger_buffer_are_searched_right() -> None:
    whole = _column([MOBILE, *(["a", None, "b"] * 100), MOBILE])
    assert whole.offsets is not None
    part = Column(whole.values, whole.offsets[1:302])
    assert _found(part) == []
    with_hit = Column(whole.values, whole.offsets[1:])
    assert [found[0] for found in _found(with_hit)] == [300]


def test_a_clean_column_of_few_names_is_searched_in_its_distinct_cells_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def counting(values, offsets, classes, context):  # type: ignore[no-untyped-def]
        seen.append(len(offsets) - 1)
        return scan(values, offsets, classes, context)

    monkeypatch.setattr(module, "scan", counting)
    search(_column([f"pump-{i % 50}" for i in range(1000)]), CLASSES, 0)
    assert seen == [50]


def _block(cells: list[str | None], name: str = "dev", *, masked: str = "") -> Block:
    column = _column(cells).marked(masked) if masked else _column(cells)
    return Block(Schema("hall", (Field(name, Type.STR),)), np.zeros(len(cells), np.int64), (column,))


def test_cells_that_held_nothing_are_not_searched_again_and_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def counted(*words: object) -> tuple[object, ...]:
        calls.append(words)
        return scan(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "scan", counted)
    masker, guard = Masker(BASE), Guard(BASE)
    clean: list[str | None] = [f"pump-{i % 7}" for i in range(210)]
    bad = [MOBILE if i % 7 == 3 else cell for i, cell in enumerate(clean)]
    turned = clean[1:] + clean[:1]
    tries = [
        ("dev", clean, 1), ("dev", clean, 0), ("dev", bad, 1), ("dev", bad, 1), ("dev", clean, 0),
        ("card", clean, 1), ("other", clean, 1), ("dev", turned, 1), ("dev", turned, 0), ("dev", clean, 1),
    ]  # fmt: skip
    for name, cells, searches in tries:
        calls.clear()
        out = masker.apply(_block(cells, name))
        assert len(calls) == searches
        assert ("138****5678" in out.columns[0].to_list(Type.STR)) == (cells is bad)
        calls.clear()
        stopped = guard.check(_block(cells, name, masked=BASE.hash))
        assert len(calls) == searches
        assert stopped.hits == ({"leak:mobile": 30} if cells is bad else {})


@pytest.mark.parametrize("cell", ["\\\\u0031\\\\u0033812345678", "1381234\x005678", PICTURE])
def test_what_is_hidden_in_equal_cells_is_found_each_time(cell: str) -> None:
    masker, guard = Masker(BASE), Guard(BASE)
    cells: list[str | None] = [cell] * 100
    for _ in range(3):
        out = masker.apply(_block(cells))
        assert cell not in out.columns[0].to_list(Type.STR)
        if "\x00" not in cell:  # masking takes those out, so that no guard meets one
            stopped = guard.check(_block(cells, masked=BASE.hash))
            assert stopped.columns[0].to_list(Type.STR) == [None] * 100
