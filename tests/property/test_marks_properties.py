"""Marks against a plain set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forebay.receive.marks import MOST_ABOVE, Marks

NUMBER = st.integers(1, 600)


class Model:
    """All numbers that are stored or closed."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()

    @property
    def mark(self) -> int:
        mark = 0
        while mark + 1 in self.numbers:
            mark += 1
        return mark


def agree(marks: Marks, model: Model) -> None:
    assert marks.mark == model.mark
    assert marks.above == {n for n in model.numbers if n > marks.mark}
    assert len(marks.above) <= MOST_ABOVE
    for n in (1, marks.mark, marks.mark + 1, 300, 600):
        if n > 0:
            assert marks.has(n) == (n in model.numbers)


@given(st.lists(NUMBER, max_size=120))
def test_single_numbers_in_any_order_are_a_set(numbers):
    marks, model = Marks(), Model()
    for n in numbers:
        if marks.fits(n):
            marks.add(n)
            model.numbers.add(n)
        agree(marks, model)


@given(st.lists(st.tuples(NUMBER, st.integers(0, 40)), max_size=40))
def test_ranges_that_fit_are_a_set(ranges):
    marks, model = Marks(), Model()
    for low, length in ranges:
        if low <= marks.mark + 1 or length < MOST_ABOVE - len(marks.above):
            marks.add(low, low + length)
            model.numbers |= set(range(low, low + length + 1))
        agree(marks, model)


@given(st.permutations(range(1, 250)))
def test_every_order_ends_in_one_contiguous_mark(order):
    marks = Marks()
    for n in order:
        assert marks.fits(n)
        marks.add(n)
    assert (marks.mark, marks.above) == (249, set())


@given(st.lists(NUMBER, max_size=200))
def test_storage_keeps_everything(numbers):
    marks = Marks()
    for n in numbers:
        if marks.fits(n):
            marks.add(n)
    assert Marks.load(marks.mark, marks.dump()) == marks


@given(st.integers(2, 10_000), st.integers(0, 2**40))
def test_a_huge_gap_costs_bounded_memory(low, length):
    marks = Marks()
    marks.add(low, low + length)
    assert len(marks.above) <= MOST_ABOVE
    marks.add(1, low + length)
    assert (marks.mark, marks.above) == (low + length, set())
