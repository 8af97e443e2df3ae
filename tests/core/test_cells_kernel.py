"""Which cells hold long runs: both implementations, against a regular expression."""

from __future__ import annotations

import re
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forebay_core
from forebay_core.reference import cells as reference

_IMPLEMENTATIONS = [reference]
if forebay_core.IMPLEMENTATION == "compiled":
    from forebay_core import _cells

    _IMPLEMENTATIONS.append(_cells)

WANTED = np.zeros(256, np.uint8)
WANTED[list(b"ab")] = 1


@pytest.fixture(params=_IMPLEMENTATIONS, ids=lambda m: m.__name__.rsplit(".", 1)[-1])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def _column(cells: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.zeros(len(cells) + 1, np.int64)
    np.cumsum([len(c) for c in cells], out=offsets[1:])
    return np.frombuffer(b"".join(cells), np.uint8), offsets


@settings(max_examples=300, deadline=None)
@given(cells=st.lists(st.text("abx", max_size=40), max_size=12), least=st.integers(1, 12))
def test_the_cells_with_a_run_are_those_that_an_expression_finds(cells: list[str], least: int) -> None:
    raw = [c.encode() for c in cells]
    expected = [i for i, c in enumerate(raw) if re.search(rb"[ab]{%d}" % least, c)]
    for implementation in _IMPLEMENTATIONS:
        assert implementation.with_runs(*_column(raw), WANTED, least).tolist() == expected


def test_a_run_over_two_cells_is_none(kernel: ModuleType) -> None:
    assert kernel.with_runs(*_column([b"aaa", b"bbb"]), WANTED, 4).tolist() == []
    assert kernel.with_runs(*_column([b"aaa", b"bbb"]), WANTED, 3).tolist() == [0, 1]


@pytest.mark.parametrize("cells", [[], [b""], [b"", b""]])
def test_empty_cells_have_no_runs(kernel: ModuleType, cells: list[bytes]) -> None:
    assert kernel.with_runs(*_column(cells), WANTED, 1).tolist() == []


def test_what_does_not_fit_is_refused(kernel: ModuleType) -> None:
    values, offsets = _column([b"aaa"])
    for bad in (np.array([0, 4]), np.array([2, 1]), np.array([-1, 3]), np.array([], np.int64)):
        with pytest.raises(ValueError, match="ascending offsets"):
            kernel.with_runs(values, bad.astype(np.int64), WANTED, 2)
    with pytest.raises(ValueError, match="table of 256"):
        kernel.with_runs(values, offsets, WANTED[:255], 2)
    with pytest.raises(ValueError, match="at least 1"):
        kernel.with_runs(values, offsets, WANTED, 0)
