"""What the last blocks of a stream taught its encoder: predictors that fit, dictionaries already written.

Comparing predictors costs as much as coding with one, and the blocks of a stream are of a kind. So the winner
is kept for some blocks; one whose bytes grow is compared anew at once. The bytes stay decodable whatever is
kept here: each stream names its predictor.
"""

from __future__ import annotations

from dataclasses import dataclass

from forebay.blocks import I64Array
from forebay.wire._layout import Groups
from forebay_core import codec

_LEAST_ROWS = 64  # below, comparing is cheap and bytes a reading are dear
_COMPARE_EVERY = 16  # blocks
_KIND = 15  # bits of a stream's first byte
_MOST_DICTIONARY_BYTES = 64 * 1024  # larger ones are not kept


@dataclass(slots=True)
class _Habit:
    kind: int
    rows: int
    size: int  # bytes when it was compared
    left: int  # blocks until it is compared again


class Habits:
    """Habits of one schema's blocks. Used by one thread."""

    def __init__(self) -> None:
        self._habits: dict[int, _Habit] = {}
        self._dictionaries: dict[int, tuple[bytes, list[bytes]]] = {}

    def ints(self, place: int, values: I64Array, groups: Groups | None, entropy: bool) -> bytes:
        """Code the integers of a place (a column's number, or -1 for the time)."""
        codes, count = (None, 0) if groups is None else (groups.codes, groups.count)
        rows = len(values)
        if rows < _LEAST_ROWS:
            return codec.encode_ints(values, codes, count, entropy)
        habit = self._habits.get(place)
        if habit is not None and habit.left and habit.rows <= 2 * rows <= 4 * habit.rows:
            habit.left -= 1
            data = codec.encode_ints(values, codes, count, entropy, habit.kind)
            usual = habit.size * rows // habit.rows
            if len(data) <= usual + (usual >> 5) + 16:
                return data
        data = codec.encode_ints(values, codes, count, entropy)
        self._habits[place] = _Habit(data[0] & _KIND, rows, len(data), _COMPARE_EVERY)
        return data

    def dictionary(self, place: int, key: bytes) -> list[bytes] | None:
        """Return the coded cells of a dictionary if the last one of the place was the same."""
        known = self._dictionaries.get(place)
        return known[1] if known is not None and known[0] == key else None

    def keep_dictionary(self, place: int, key: bytes, parts: list[bytes]) -> None:
        """Keep the coded cells of a dictionary for the next block."""
        if len(key) <= _MOST_DICTIONARY_BYTES:
            self._dictionaries[place] = key, parts
