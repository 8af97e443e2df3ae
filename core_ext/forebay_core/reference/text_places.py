"""Rules for addresses: twin of the text kernel's."""

from __future__ import annotations

from forebay_core import text_people as t
from forebay_core.reference.text_address import gap_end
from forebay_core.reference.text_checks import ALNUM, DIGITS
from forebay_core.reference.text_words import ADDRESS, SEPARATORS, Points

CHAIN, REACH, BACK = 80, 12, 6  # symbols of an address, of one of its parts, before an unannounced road
HOUSE, BUILDING, ROOM, GROUP = 1, 2, 4, 8
ROAD, PLACE, AREA, VILLAGE, ZONE = 1, 2, 4, 8, 16


class Places(Points):
    """The rules that find addresses."""

    def address_at(self, j: int, limit: int) -> int:
        n = self.word(j, t.ADDRESS_LABEL)
        if n:
            k = self.skip(j + n, SEPARATORS | {0x5728, 0x4E8E, 0x4E3A, 0x662F}, 4)  # 在 于 为 是
            e = self.chain(k, 1)
            if e:
                return e
        if self.word(j, t.CITY | t.COUNTY):
            e = self.chain(j, 0)
            if e:
                return e
        if self.has(j, t.CLOSES):
            kind = self.closing(j, max(limit, j - REACH))
            if kind == PLACE and not (self.cp[j + 1] in ALNUM or self.cp[j + 1] in (0x20, 0x2D)):
                kind = (
                    kind if self.has(j + 1, t.NUMERAL) else 0
                )  # a place alone is none: a number must follow
            if kind:
                start = self.back(j, limit)
                if start < j - (kind not in (ROAD, PLACE)):
                    return self.chain(start, 0)
        return 0

    def closing(self, i: int, start: int) -> int:
        """Return what kind of part of an address ends with the character i, for one that begins at `start`."""
        c = self.cp[i]
        room = i - start
        if room >= 3 and self.kinds(i - 2, 3) & t.PLACE:
            return PLACE
        if room >= 2:
            kinds = self.kinds(i - 1, 2)
            if kinds & t.NOT_ROAD:
                return 0
            if kinds & t.ROAD:
                return ROAD
            if kinds & t.PLACE:
                return PLACE
            three = self.kinds(i - 2, 3)
            if three & t.ZONE:
                return ZONE
            if kinds & t.AREA or three & t.AREA:
                return AREA
        if room < 1:
            return 0
        if c in t.ROADS_ONE:
            return 0 if self.kinds(i - 1, 2) & t.NOT_ROAD else ROAD
        if c in t.VILLAGES:
            return VILLAGE
        if c in t.AREAS_ONE:
            return AREA
        return PLACE if c in t.PLACES_ONE and room >= 2 else 0

    def back(self, j: int, limit: int) -> int:
        """Return where the name of a road or place that ends at j begins, as far as that can be told."""
        k = j
        while k - 1 >= limit and j - k < BACK:
            if not self.has(k - 1, t.HAN) or self.has(k - 1, t.STOPS):
                break
            if j - k >= 2 and self.word_back(k) & (
                t.AFTER | t.NOT_NAME | t.ADDRESS_LABEL | t.ROLE_LABEL | t.FIELD_LABEL
            ):
                break
            k -= 1
        return k

    def chain(self, start: int, label: int) -> int:
        """Follow the parts of an address from `start` on; emit it and return its end, or 0."""
        i, last = start, start
        divisions = named = numbered = 0
        while i < self.end and i - start < CHAIN:
            if i > start and last == i:
                if self.cp[i] in (0x20, 0x2C, 0x2D):
                    i += 1
                elif self.cp[i] in (0x0A, 0x0D):
                    i = gap_end(self.cp, i) or i
            e = 0 if named or numbered else self.division(i)
            if e:
                divisions += 1
                i = last = e
                continue
            e, kind = self.number(i)
            if e:
                numbered |= kind
                i = last = e
                continue
            e, kind = self.part(i)
            if e:
                named |= kind
                i = last = e
                continue
            e = self.room(i) if named & PLACE or numbered else 0
            if e:
                numbered |= ROOM
                i = last = e
                continue
            break
        house = numbered & (HOUSE | BUILDING)
        sure = (
            (named & ROAD and house)
            or (named & PLACE and numbered & (BUILDING | ROOM))
            or (named & ZONE and house and (divisions or label or named & AREA))
            or (named & VILLAGE and numbered & (HOUSE | GROUP))
            or (divisions and (named & ROAD or (named & PLACE and (numbered or divisions > 1))))
            or (divisions > 1 and named & VILLAGE)
            or (label and (named & (ROAD | VILLAGE) or (named and (divisions or numbered)) or divisions > 1))
        )
        if not sure:
            return 0
        return self.emit(start, last, ADDRESS, 90 if divisions or label else 75)

    def division(self, i: int) -> int:
        n = self.word(i, t.CITY | t.COUNTY)
        if not n:
            return 0
        e = i + n
        if self.cp[e] in t.DIVISION_ENDS:
            return e + 1
        f = self.han_end(e, 14)
        for k in range(e, f - 2):
            if (
                self.cp[k] == 0x81EA and self.cp[k + 1] == 0x6CBB and self.cp[k + 2] in t.DIVISION_ENDS
            ):  # 自治
                return k + 3
        return e if self.kinds(i, n) & t.CITY and self.cp[e] not in t.ROADS_ONE else 0

    def number(self, i: int) -> tuple[int, int]:
        """Return the end of a number with its counter (`12号`, `三单元`, `B座`) and its kind, or 0, 0."""
        k = i
        while k - i < 8 and (self.cp[k] in ALNUM or self.cp[k] in (0x2D, 0x23) or self.has(k, t.NUMERAL)):
            k += 1
        if k == i or not self.has(k, t.COUNTS) or self.cp[i] in (0x2D, 0x23):
            return 0, 0
        c = chr(self.cp[k])
        follow = chr(self.cp[k + 1])
        if c == "单":
            return (k + 2, BUILDING) if follow == "元" else (0, 0)
        if c == "号":
            return (k + 2, BUILDING) if follow in "楼院" else (k + 1, HOUSE)
        if c in "弄巷院门":
            return k + 1, HOUSE
        if c in "栋幢座楼舍棟樓":
            return k + 1, BUILDING
        return (k + 1, GROUP) if c in "组队社屯" else (k + 1, ROOM)

    def part(self, i: int) -> tuple[int, int]:
        """Return the end of the named part (`演达大道`, `锦绣花园`) that begins at i and its kind, or 0, 0."""
        for k in range(i, i + REACH):
            if not self.has(k, t.HAN):
                if self.cp[k] in ALNUM:
                    continue
                break
            if self.has(k, t.STOPS) or (k > i and self.word(k, t.AFTER)):
                break
            if k == i or not self.has(k, t.CLOSES):
                continue
            kind = self.closing(k, i)
            if kind == ROAD and self.cp[k] == 0x8857 and self.cp[k + 1] == 0x9053:  # 街, and 街道 is an area
                continue
            if kind != ROAD and self.cp[k + 1] in t.ROADS_ONE:  # 新村路, 惠州路
                continue
            if kind:
                return k + 1, kind
        return 0, 0

    def room(self, i: int) -> int:
        """Return the end of a bare number behind a building (`3栋501`, `锦绣花园3-2-501`), 0 if there is none."""
        k = i
        digits = 0
        while k - i < 14 and (self.cp[k] in DIGITS or self.cp[k] in (0x2D, 0x23)):
            digits = digits + 1 if self.cp[k] in DIGITS else 0
            if digits > 4:
                return 0
            k += 1
        if digits == 0 or self.cp[k] in ALNUM or self.cp[i] == 0x23 or self.has(k, t.COUNTS):
            return 0
        return k
