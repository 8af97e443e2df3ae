"""Identifiers in the data of fault tests, and the search for them in all that a run has left.

Each row carries one, in a column of its own that the judge does not look at: what stands there is masked.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import canaries as c
from canary_search import Needles, everything
from plant import Plant, rows_of

NAME = "contact"
COUNT = 170  # ten of each class
SOURCE = "pump.csv"

_FOUND = c.make(COUNT, 62, c.ALL_MAKERS)
CELLS = ['"' + c.SENTENCES[x.kind].format(x.written) + '"' for x in _FOUND]


def cell(row: int) -> str:
    """Return the CSV cell of a row: a sentence with an identifier."""
    return CELLS[row % COUNT]


def search(folder: Path, without: Iterable[str] = ()) -> tuple[dict[str, set[str]], int]:
    """Return what is found, kinds by place, and how many bytes were searched; packed ones count as what they hold."""
    needles = Needles((needle, x.kind) for x in _FOUND for needle in c.needles(x))
    found: dict[str, set[str]] = {}
    size = 0
    for place, data in everything(folder, without):
        size += len(data)
        if hits := needles.find(data):
            found[place] = hits
    return found, size


def check(plant: Plant, stream: str = "pump") -> int:
    """Assert that no file of a run holds an identifier but its source, which holds all. Return the bytes searched."""
    found, size = search(plant.folder, ("keys",))
    assert found.pop(SOURCE, set()) >= set(c.ALL_MAKERS), "the search is blind"
    assert not found, found
    ((rows, cells),) = rows_of(plant.sink, f'SELECT count(*), count("{NAME}") FROM "{stream}"')
    assert cells == rows > 0, "masked, not thrown away"
    return size
