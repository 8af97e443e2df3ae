"""`forebay spool`: what it says of a buffer that is at work."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from forebay.cli.spool import _unbalanced
from forebay.spool.reader import empty_entry


def books(pending, delivered=0):
    read = pending + delivered
    return empty_entry() | {"read": read, "accepted": read, "pending": pending, "delivered": delivered}


class Busy:
    """A reader whose agent commits between any two of its first looks."""

    def __init__(self, ledgers, counts):
        self._ledgers, self._counts = iter(ledgers), iter(counts)

    def ledger(self):
        return {"pump": next(self._ledgers)}

    def recount(self):
        return {"pump": next(self._counts)}


@pytest.mark.parametrize(("counted", "unbalanced"), [(5, []), (4, ["pump"])])
def test_the_books_of_a_running_agent_are_judged_when_they_stand_still(counted, unbalanced):
    moving = [books(1), books(2), books(3), books(4)]
    reader = Busy(chain(moving, repeat(books(5, 7))), chain([9, 9], repeat(counted)))
    assert _unbalanced(reader, False) == unbalanced
    assert _unbalanced(reader, True) == []


def test_books_that_never_stand_still_are_not_judged():
    reader = Busy((books(n) for n in range(1_000)), repeat(0))
    assert _unbalanced(reader, False) == []


def test_books_that_do_not_agree_with_themselves_are_found():
    reader = Busy(repeat(books(5) | {"read": 6}), repeat(5))
    assert _unbalanced(reader, True) == ["pump"]
