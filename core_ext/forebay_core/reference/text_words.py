"""A folded cell as code points, and what the rules for names and addresses ask of them: twin of the kernel's."""

from __future__ import annotations

from forebay_core import text_people as t
from forebay_core import text_tables as tables
from forebay_core.reference.text_fold import PAD

BITS = t.character_bits()
NAME, ADDRESS = tables.CODES["name"], tables.CODES["address"]
SEPARATORS = frozenset(map(ord, " :='\"\\>|([_-\t<"))
GAPS = frozenset(map(ord, " ,:;()'\"|/\t、。-"))

Hit = tuple[int, int, int, int]


class Points:
    """Code points of a cell, one a symbol, with PAD zeros on either side, and the spans found so far."""

    def __init__(
        self, points: list[int], pos: list[int], hits: list[Hit], classes: int, context: int
    ) -> None:
        self.cp, self.pos, self.hits = points, pos, hits
        self.end = len(points) - PAD
        self.names, self.addresses = bool(classes >> NAME & 1), bool(classes >> ADDRESS & 1)
        self.context = context
        self.found: list[Hit] = []
        self.name_end = 0  # index behind the last name

    def emit(self, start: int, end: int, code: int, confidence: int) -> int:
        self.found.append((self.pos[start], self.pos[end], code, confidence))
        if code == NAME:
            self.name_end = end
        return end

    def kinds(self, j: int, length: int) -> int:
        bits = BITS[self.cp[j]]
        if not bits & (t.HAS_TWO, t.HAS_THREE, t.HAS_FOUR)[length - 2]:
            return 0
        return t.WORDS.get("".join(map(chr, self.cp[j : j + length])), 0)

    def word(self, j: int, kind: int) -> int:
        """Return the length of the longest word of a kind that begins at j, 0 if there is none."""
        return next((n for n in (4, 3, 2) if self.kinds(j, n) & kind), 0)

    def word_back(self, j: int) -> int:
        """Return the kinds of the two characters before j."""
        return self.kinds(j - 2, 2)

    def surname(self, j: int) -> int:
        return BITS[self.cp[j]] & 3

    def given(self, j: int) -> int:
        return BITS[self.cp[j]] >> t.GIVEN_SHIFT & 3

    def has(self, j: int, bit: int) -> bool:
        return bool(BITS[self.cp[j]] & bit)

    def han_end(self, j: int, most: int) -> int:
        e = j
        while e - j < most and self.has(e, t.HAN):
            e += 1
        return e

    def skip(self, j: int, which: frozenset[int], most: int) -> int:
        n = 0
        while n < most and self.cp[j] in which:
            j, n = j + 1, n + 1
        return j
