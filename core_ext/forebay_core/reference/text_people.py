"""Names and addresses in a folded cell: twin of the text kernel's second pass.

Invariants
----------
- Works on code points (`points`), one a symbol, so that escapes and full-width forms are looked at as what they
  stand for.
- Spans are in order and do not overlap; what another rule found wins over them (`merged`).
- Every look ahead or back is bounded, so the cost is linear in the symbols.
"""

from __future__ import annotations

from forebay_core import text_people as t
from forebay_core import text_tables as tables
from forebay_core.reference.text_checks import LETTERS
from forebay_core.reference.text_fold import PAD
from forebay_core.reference.text_places import Places
from forebay_core.reference.text_words import BITS, GAPS, NAME, SEPARATORS, Hit

FIELD, ROLE, PROSE = 0, 1, 2  # how sure the place of a name is, from sure to guessed
JOINING = tuple(map(ord, t.JOINING_CHARS))
NEIGHBOURS = frozenset(
    tables.CODES[n] for n in ("mobile", "resident_id", "bank_card", "passport", "landline", "plate")
)


class People(Places):
    """Second pass over one cell: addresses, then names."""

    def find(self) -> list[Hit]:
        j = limit = PAD
        first = PAD
        while first < self.end and self.cp[first] in GAPS:
            first += 1
        if self.addresses and self.context >> tables.CONTEXT_ADDRESS & 1:
            limit = self.chain(first, 1) or limit
        if self.names and limit == PAD and self.context >> tables.CONTEXT_NAME & 1:
            e = self.name_at(first, FIELD)
            limit = self.emit(first, e, NAME, 85) if e else limit
        j = limit
        while j < self.end:
            if not BITS[self.cp[j]] & t.HAN:
                j += 1
                continue
            e = (self.address_at(j, limit) if self.addresses else 0) or (
                self.name_near(j, limit) if self.names else 0
            )
            if e:
                limit = e
            j = max(e, j + 1)
        return self.found

    def name_near(self, j: int, limit: int) -> int:
        """Try every rule for a name whose sign stands at j."""
        starts = not self.has(j - 1, t.HAN)
        if starts:
            e = self.segment(j)
            if e:
                return e
        n = self.word(j, t.FIELD_LABEL)
        if n:
            k = self.skip(j + n, SEPARATORS, 6)
            e = self.name_at(k, FIELD)
            if e:
                return self.emit(k, e, NAME, 90)
        n = self.word(j, t.ROLE_LABEL)
        if n:
            k = self.skip(j + n, SEPARATORS, 3)
            e = self.name_at(k, ROLE)
            if e:
                return self.emit(k, e, NAME, 80)
        if self.coordinated(j):
            e = self.name_at(j, ROLE)
            if e and self.is_closed(e):
                return self.emit(j, e, NAME, 70)
        if not starts and self.has(j, t.LABELLING):
            k = self.skip(j + 1, SEPARATORS, 3)
            e = self.name_at(k, ROLE)
            if e and self.is_closed(e):
                return self.emit(k, e, NAME, 75)
        if self.word(j, t.TITLE):
            start = self.name_before(j, limit)
            if start:
                return self.emit(start, j, NAME, 85)
        if j >= limit and (starts or self.has(j - 1, t.STOPS)):
            if self.surname(j) < 2 and not self.kinds(j, 2) & t.COMPOUND:
                return 0
            if self.kinds(j - 1, 2) & (t.AFTER | t.NOT_NAME):  # 由于, 有关
                return 0
            e = self.name_at(j, PROSE)
            if e and (self.word(e, t.AFTER) or (self.has(j - 1, t.NAMING) and not self.has(e, t.HAN))):
                return self.emit(j, e, NAME, 70)
        return 0

    def is_closed(self, e: int) -> bool:
        """Does a name that ends at e end there for sure?"""
        return not self.has(e, t.HAN) or bool(self.word(e, t.AFTER))

    def dotted(self, k: int) -> int:
        """Return the end of a transliterated name with a dot in it, 0 if there is none."""
        e = self.han_end(k, 8)
        parts, foreign, total = 0, 0, e - k
        foreign = sum(self.has(i, t.TRANSLITERATES) for i in range(k, e))
        while e > k and parts < 3 and self.is_dot(e) and self.has(e + 1, t.HAN):
            f = self.han_end(e + 1, 8)
            foreign += sum(self.has(i, t.TRANSLITERATES) for i in range(e + 1, f))
            total += f - e - 1
            e, parts = f, parts + 1
        return e if parts and total >= 4 and 3 * foreign >= 2 * total else 0

    def is_dot(self, j: int) -> bool:
        return self.cp[j] < 65536 and tables.SYMBOLS[self.cp[j]] == tables.MIDDLE_DOT

    def no_name(self, k: int) -> bool:
        return bool(self.word(k, t.NOT_NAME | t.FIELD_LABEL | t.NUMBER_LABEL | t.ADDRESS_LABEL))

    def name_at(self, k: int, level: int) -> int:
        """Return the end of a name that begins at k, 0 if there is none."""
        if not self.has(k, t.HAN):
            return 0
        e = self.dotted(k)
        if e:
            return e
        compound = bool(self.kinds(k, 2) & t.COMPOUND)
        i = k + 2 if compound else k + 1
        s = 3 if compound else self.surname(k)
        if not compound and self.no_name(k):
            # `宁静怡` begins like `宁静`: where a form has nothing but three characters, they are a name
            whole = level != PROSE and self.han_end(k, 4) == k + 3 and s and self.given(k + 2) >= 2
            return k + 3 if whole and self.word(k, t.NOT_NAME) == 2 else 0
        if s == 0:
            return self.unlisted(k) if level == FIELD else 0
        if level == FIELD:
            e = self.han_end(k, 5)
            if 1 <= e - i <= 2:
                return e
        if not self.has(i, t.HAN) or self.given(i) == 0 or self.word(i, t.AFTER):
            return 0
        if not compound and self.word(k, t.CITY) and level != FIELD:
            return 0
        if level != FIELD and self.has(k, t.FOLLOWS) and self.word(i, t.NOT_NAME | t.ROLE_LABEL):
            return 0  # a preposition that is a surname too, and a word behind it
        e, g = self.given_end(i)
        third = e - i == 2
        if level == FIELD:
            return e
        g1 = self.given(i)
        if level == ROLE:
            verb = bool(self.word(e, t.AFTER))  # behind it is a second sign
            if third:
                return e if s + g1 + g >= 6 - verb else 0
            if self.is_closed(e):
                return e if s == 3 or (g1 >= 2 and s + g1 >= 4 - verb) else 0
            return e if s == 3 and g1 >= 2 else 0
        if third:
            return e if g1 >= 2 and g >= 2 else 0
        return e if g1 == 3 else 0

    def given_end(self, i: int) -> tuple[int, int]:
        """Return the end of a given name that begins at i, and the weight of its second character (0: one)."""
        g = self.given(i + 1)
        if not self.has(i + 1, t.HAN) or g == 0 or self.word(i + 1, t.AFTER):
            return i + 1, 0
        closed = not self.has(i + 2, t.HAN) or self.given(i + 2) == 0 or bool(self.word(i + 2, t.AFTER))
        if not closed and (g < 2 or self.has(i + 1, t.FOLLOWS)):
            return i + 1, 0
        return i + 2, g

    def unlisted(self, k: int) -> int:
        """Take what a form has in the place of a name, though its surname is in no list."""
        e = self.han_end(k, 5)
        if not 2 <= e - k <= 4 or any(self.given(i) == 0 for i in range(k, e)):
            return 0
        return e

    def name_before(self, j: int, limit: int) -> int:
        """Return the start of a name that ends at j, before a title; 0 if there is none."""
        for n in (4, 3):
            k = j - n
            if k >= limit and self.kinds(k, 2) & t.COMPOUND and all(self.given(i) for i in range(k + 2, j)):
                return k
        two = three = 0
        k = j - 2
        if k >= limit and self.surname(k) and self.given(k + 1) and not self.no_name(k):
            two = 2 * self.surname(k) + self.given(k + 1) + 1
        k = j - 3
        if k >= limit and self.surname(k) and self.given(k + 1) and self.given(k + 2) and not self.no_name(k):
            three = 2 * self.surname(k) + self.given(k + 1) + self.given(k + 2)
            if self.surname(k + 1) == 3 and self.given(k + 1) < 3:
                three -= 3
        if three >= 6 and three > two:
            return j - 3
        return j - 2 if two >= 5 else 0

    def segment(self, j: int) -> int:
        """Try the characters from j to the next of another kind as a whole."""
        f = self.han_end(j, 5)
        n = f - j
        if not 2 <= n <= 4:
            return 0
        e = self.dotted(j)
        if e:
            return self.emit(j, e, NAME, 75)
        compound = bool(self.kinds(j, 2) & t.COMPOUND) and n > 2
        s = 3 if compound else self.surname(j)
        i = j + 2 if compound else j + 1
        if s == 0 or f - i > 2 or (not compound and self.no_name(j)):
            return 0
        weights = [self.given(g) for g in range(i, f)]
        if 0 in weights or self.kinds(j, n) & (
            t.CITY | t.COUNTY | t.TITLE | t.ROLE_LABEL | t.AFTER | t.PLACE
        ):
            return 0
        if self.word(i, t.AFTER | t.TITLE):
            return 0
        whole = self.context >> tables.CONTEXT_PERSON & 1 and j == PAD and f == self.end
        sign = (
            whole
            or self.cp[j - 1] == 0x40
            or self.latin_label(j)
            or self.labelled_by_colon(j)
            or self.beside_number(j, f)
        )
        if sign or self.beside_gender(f) or self.goes_on(j):
            return self.emit(j, f, NAME, 75)
        if compound:
            sure = not self.kinds(j, 2) & (t.NOT_NAME | t.CITY | t.COUNTY)
        else:
            sure = len(weights) == 2 and s >= 2 and sum(weights) >= (5 if s == 3 else 6)
        return self.emit(j, f, NAME, 60) if sure else 0

    def labelled_by_colon(self, j: int) -> bool:
        """Does a word for somebody stand before j, with a colon between?"""
        i, colon = j, False
        while j - i < 3 and self.cp[i - 1] in SEPARATORS:
            i -= 1
            colon = colon or self.cp[i] == 0x3A
        labels = t.FIELD_LABEL | t.ROLE_LABEL
        return colon and any(i - n >= PAD and self.kinds(i - n, n) & labels for n in (2, 3, 4))

    def goes_on(self, j: int) -> bool:
        """Does j stand behind a name in a list of them?"""
        i = j
        while j - i < 2 and self.cp[i - 1] in GAPS:
            i -= 1
        return PAD < i == self.name_end and i < j

    def coordinated(self, j: int) -> bool:
        """Does j stand behind a name and a word for `and`?"""
        if self.cp[j - 1] not in JOINING:
            return False
        return self.name_end == j - 1 or (self.name_end == j and self.cp[j - 1] == JOINING[0])

    def latin_label(self, j: int) -> bool:
        """Does a word such as `contact` stand before j, with a colon or an equals sign between?"""
        i, sign = j, False
        while j - i < 6 and self.cp[i - 1] in SEPARATORS:
            i -= 1
            sign = sign or self.cp[i] in (0x3A, 0x3D, 0x3E)
        if not sign:
            return False
        word = b""
        while len(word) < 8 and self.cp[i - 1] in LETTERS:
            i -= 1
            word = bytes((self.cp[i] | 0x20,)) + word
        return any(word.endswith(label) for label in t.LATIN_LABELS)

    def beside_number(self, j: int, f: int) -> bool:
        k = self.skip(f, GAPS, 3)
        n = self.word(k, t.NUMBER_LABEL)
        if n:
            k = self.skip(self.han_end(k, 8), GAPS, 3)
        k = self.skip(k, frozenset(b"+"), 1)
        if self.cp[k : k + 2] == [0x38, 0x36]:
            k = self.skip(k + 2, GAPS, 1)
        i = j
        while j - i < 3 and self.cp[i - 1] in GAPS:
            i -= 1
        after, before = self.pos[k], self.pos[i]
        return any(h[2] in NEIGHBOURS and (h[0] == after or h[1] == before) for h in self.hits)

    def beside_gender(self, f: int) -> bool:
        k = self.skip(f, GAPS, 3)
        return k > f and self.cp[k] in (0x7537, 0x5973) and not self.has(k + 1, t.HAN)


def merged(hits: list[Hit], people: list[Hit]) -> list[Hit]:
    """Return both lists as one. Where they overlap, a name goes and an address is cut."""
    out = list(hits)
    for start, end, code, confidence in people:
        for other in hits:
            if other[1] <= start or other[0] >= end:
                continue
            if code == NAME:
                start = end
            elif other[0] > start:
                end = other[0]
            else:
                start = min(end, other[1])
        if start < end:
            out.append((start, end, code, confidence))
    return sorted(out)
