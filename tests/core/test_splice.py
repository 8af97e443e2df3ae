"""The splice kernel: operators, spans, and that nothing else changes."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest

import forebay_core
from forebay_core.reference import splice as reference

_IMPLEMENTATIONS = [reference]
if forebay_core.IMPLEMENTATION == "compiled":
    from forebay_core import _splice

    _IMPLEMENTATIONS.append(_splice)

RULES = np.zeros((256, 4), np.int64)
RULES[1] = reference.KEEP, 3, 4, 0
RULES[2] = reference.REPLACE, 0, 0, 0
RULES[3] = reference.REMOVE, 0, 0, 0
RULES[4] = reference.PASS, 0, 0, 0
RULES[5] = reference.KEEP, 1, 0, 2


@pytest.fixture(params=_IMPLEMENTATIONS, ids=lambda m: m.__name__.rsplit(".", 1)[-1])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def column(cells):
    raw = [c.encode() for c in cells]
    offsets = np.zeros(len(raw) + 1, np.int64)
    np.cumsum([len(c) for c in raw], out=offsets[1:])
    return np.frombuffer(b"".join(raw), np.uint8), offsets


def run(kernel, cells, hits):
    data, offsets = column(cells)
    table = np.array([h[:3] for h in hits], np.int64).reshape(-1, 3)
    codes = np.array([h[3] for h in hits], np.uint8)
    which = np.ones(len(hits), np.int64)
    new = column(["*", "[tag]", "█"])
    out, ends, made, removed = kernel.splice(data, offsets, table, codes, which, RULES, *new)
    raw = out.tobytes()
    text = [raw[a:b].decode() for a, b in pairwise(ends.tolist())]
    return text, made.tolist(), removed.tolist()


@pytest.mark.parametrize(
    ("cell", "code", "expected"),
    [
        ("13812345678", 1, "138****5678"),
        ("138-1234-5678", 1, "138-****-5678"),
        ("１３８１２３４５６７８", 1, "１３８****５６７８"),
        ("1234567", 1, "*******"),
        ("1381234\n5678", 1, "138****\n5678"),
        (r"1381234\n5678", 1, r"138****\n5678"),
        (r"138\r\n12345678", 1, r"138\r\n****5678"),
        (r"1381234\\n5678", 1, r"138****\\n5678"),
        (r"1381234\u00355678", 1, "*" * 7 + "\\" + "*" * 9),
        ("1381234\\", 1, "*******\\"),
        ("12345678901", 2, "[tag]"),
        ("张三丰", 5, "张██"),
        ("张", 5, "█"),
        ("𠮷野家", 5, "𠮷██"),
        (r"\u0031\u0033", 5, r"\█████\█████"),
        ("secret", 4, "secret"),
    ],
)
def test_each_operator_writes_what_it_says(kernel, cell, code, expected):
    assert run(kernel, [cell], [(0, 0, len(cell.encode()), code)])[0] == [expected]


def test_spans_tell_where_the_masked_text_stands_in_the_new_cells(kernel):
    text, made, _ = run(kernel, ["a13812345678b", "", "xx y"], [(0, 1, 12, 1), (2, 0, 2, 2), (2, 3, 4, 4)])
    assert text == ["a138****5678b", "", "[tag] y"]
    assert made == [[0, 1, 12], [2, 0, 5]]


def test_a_removed_row_is_empty_and_names_its_class(kernel):
    text, made, removed = run(kernel, ["a1b2", "keep"], [(0, 1, 2, 2), (0, 3, 4, 3)])
    assert (text, made, removed) == (["", "keep"], [], [3, 0])


def test_no_hits_and_no_rows_give_the_column_back(kernel):
    assert run(kernel, ["ab", "", "c"], [])[0] == ["ab", "", "c"]
    assert run(kernel, [], [])[0] == []


@pytest.mark.parametrize(
    "hits",
    [
        [(0, 0, 99, 2)],
        [(9, 0, 1, 2)],
        [(0, 2, 1, 2)],
        [(0, 0, 2, 2), (0, 1, 3, 2)],
        [(1, 0, 1, 2), (0, 0, 1, 2)],
        [(0, -1, 1, 2)],
    ],
)
def test_spans_that_do_not_fit_are_refused(kernel, hits):
    with pytest.raises(ValueError, match="spans"):
        run(kernel, ["abcd", "efgh"], hits)


def test_a_missing_replacement_is_refused(kernel):
    data, offsets = column(["abc"])
    spans, codes = np.array([[0, 0, 1]], np.int64), np.array([2], np.uint8)
    with pytest.raises(ValueError, match="replacement"):
        kernel.splice(data, offsets, spans, codes, np.array([5], np.int64), RULES, *column(["*"]))
    with pytest.raises(ValueError, match="lengths"):
        kernel.splice(data, offsets, spans, codes[:0], np.array([0], np.int64), RULES, *column(["*"]))
