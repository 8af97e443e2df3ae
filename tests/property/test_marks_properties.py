"""Marks against a plain set."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.receive.marks import MOST_ABOVE, Marks, common

NUMBER = st.integers(1, 300)
RANGE = st.tuples(NUMBER, st.integers(0, 40))


def contiguous(numbers: set[int]) -> int:
    mark = 0
    while mark + 1 in numbers:
        mark += 1
    return mark


def runs(numbers: set[int]) -> list[tuple[int, int]]:
    """Return the maximal runs above the contiguous mark."""
    out: list[tuple[int, int]] = []
    for n in sorted(n for n in numbers if n > contiguous(numbers)):
        if out and out[-1][1] == n - 1:
            out[-1] = (out[-1][0], n)
        else:
            out.append((n, n))
    return out


def agree(marks: Marks, numbers: set[int]) -> None:
    assert (marks.mark, marks.above) == (contiguous(numbers), runs(numbers))
    assert len(marks.above) <= MOST_ABOVE


@given(st.lists(NUMBER, max_size=60), NUMBER)
def test_single_numbers_in_any_order_are_a_set(numbers, asked):
    marks, model = Marks(), set()
    for n in numbers:
        assert marks.fits(n)
        marks.add(n)
        model.add(n)
        agree(marks, model)
    assert marks.has(asked) == (asked in model)


@given(st.lists(RANGE, max_size=40), RANGE)
def test_ranges_are_a_set(ranges, asked):
    marks, model = Marks(), set()
    for low, length in ranges:
        assert marks.fits(low, low + length)
        marks.add(low, low + length)
        model |= set(range(low, low + length + 1))
        agree(marks, model)
    wanted = set(range(asked[0], sum(asked) + 1))
    assert marks.covers(asked[0], sum(asked)) == (wanted <= model)


@pytest.mark.parametrize("seed", range(5))
def test_lone_numbers_beyond_the_bound_are_refused_until_holes_close(seed):
    order = list(range(4, 2 * MOST_ABOVE + 60, 2))
    random.Random(seed).shuffle(order)
    marks = Marks()
    for n in (2, *order):
        if marks.fits(n):
            marks.add(n)
    assert len(marks.above) == MOST_ABOVE
    assert not marks.fits(100_001)
    assert not marks.fits(100_001, 200_000)
    assert marks.fits(marks.above[7][0] + 1)  # touches a range: costs nothing
    marks.add(1)
    assert marks.fits(100_001)


@given(st.permutations(range(1, 60)))
def test_every_order_ends_in_one_contiguous_mark(order):
    marks = Marks()
    for n in order:
        assert marks.fits(n)
        marks.add(n)
    assert (marks.mark, marks.above) == (59, [])


def test_a_backlog_of_any_length_sent_newest_first_costs_one_range():
    marks = Marks()
    for n in range(100_000, 0, -1):
        assert marks.fits(n)
        marks.add(n)
        assert len(marks.above) <= 1
    assert (marks.mark, marks.above) == (100_000, [])


@given(st.lists(RANGE, max_size=100))
def test_storage_keeps_everything(ranges):
    marks = Marks()
    for low, length in ranges:
        marks.add(low, low + length)
    assert Marks.load(marks.mark, marks.dump()) == marks


def test_storage_of_single_numbers_is_read_as_older_releases_wrote_it():
    assert Marks.load(3, "7,8,12") == Marks(3, [(7, 8), (12, 12)])


@given(st.integers(3, 10_000), st.integers(0, 2**40))
def test_a_huge_gap_costs_one_range(low, length):
    marks = Marks()
    marks.add(low, low + length)
    assert marks.above == [(low, low + length)]
    marks.add(1, low + length)
    assert (marks.mark, marks.above) == (low + length, [])


@given(st.lists(st.lists(RANGE, max_size=12), min_size=1, max_size=3))
def test_what_several_sinks_have_in_common_is_an_intersection(of_sinks):
    all_marks, models = [], []
    for ranges in of_sinks:
        marks, model = Marks(), set()
        for low, length in ranges:
            marks.add(low, low + length)
            model |= set(range(low, low + length + 1))
        all_marks.append(marks)
        models.append(model)
    agree(common(all_marks), set.intersection(*models))
