"""What may stand around a number, and numbers written in groups: twin of the text kernel's rules."""

from __future__ import annotations

from typing import NamedTuple

from forebay_core import text_tables as tables
from forebay_core.reference import text_checks as check
from forebay_core.reference.text_address import AddressRules
from forebay_core.reference.text_checks import ALNUM, DIGITS, LETTERS

SEPARATORS = frozenset(b" -.") | {tables.MIDDLE_DOT}
SLASHES = frozenset(b"/_+")  # in a mobile number behind its word; the last is the space of a form in a URL
GROUPS = 20  # of digits, in a number written in groups


class _Groups(NamedTuple):
    digits: bytes
    total: list[int]
    end: list[int]
    separator: list[int]


class GroupRules(AddressRules):
    """The rules for numbers in groups."""

    def left_open(self, d: int) -> bool:
        if self.s[d - 1] not in LETTERS:
            return not self.in_fraction(d)
        b = d
        while self.s[b - 1] in LETTERS:
            b -= 1
        if self.s[b - 1] in DIGITS and d - b <= 2:  # a short one behind a digit is part of a name
            return False
        return self.s[b:d].decode().lower() in tables.LABELS

    def right_open(self, f: int) -> bool:
        s = self.s
        if s[f] in LETTERS:
            return False
        if s[f] == 0x2E and s[f + 1] in DIGITS:
            return s[self.while_in(f + 1, frozenset(b"0"))] not in ALNUM
        return True

    def joined_left(self, d: int, separator: int) -> bool:
        s = self.s
        if not self.left_open(d):
            return False
        if s[d - 1] != separator or s[d - 2] not in DIGITS:
            return True
        i = d - 1
        while s[i - 1] in DIGITS:
            i -= 1
        if s[i : d - 1] in (b"86", b"0086"):
            return True
        return separator == 0x20 and (d - 1 - i >= 5 or s[i - 1] in b"-:/." or s[i - 1] in LETTERS)

    def joined_right(self, f: int, separator: int) -> bool:
        s = self.s
        if not self.right_open(f):
            return False
        if s[f] != separator or s[f + 1] not in DIGITS:
            return True
        i = self.while_in(f + 1, DIGITS)
        length = i - f - 1
        next_mobile = length == 3 and s[f + 1] == 0x31 and s[i] == 0x20
        other = length >= 5 or s[i] in b"-:/" or s[i] in LETTERS or (s[i] == 0x2E and s[i + 1] in DIGITS)
        return separator == 0x20 and (other or next_mobile)

    def is_wide(self, i: int) -> bool:
        """Is there a hyphen between spaces, and a number behind?"""
        return self.s[i : i + 3] == b" - " and self.s[i + 3] in DIGITS

    def collect(self, d: int) -> _Groups:
        s, i = self.s, d
        digits = bytearray()
        groups = _Groups(b"", [], [], [])
        while len(groups.total) < GROUPS:
            before = len(digits)
            while s[i] in DIGITS and len(digits) < 20:
                digits.append(s[i])
                i += 1
            if len(digits) == 17 and s[i] in b"xX":
                digits += b"X"
                i += 1
            elif len(digits) == 17 and s[i] in SEPARATORS and s[i + 1] in b"xX":  # in a group of its own
                digits += b"X"
                i += 2
            if s[i] in ALNUM or len(digits) == before:
                break
            groups.total.append(len(digits))
            groups.end.append(i)
            groups.separator.append(s[i])
            if (s[i] in SEPARATORS or s[i] in SLASHES) and s[i + 1] in DIGITS:
                i += 1
            elif self.is_wide(i):
                groups.separator[-1] = 0x2D
                i += 3
            elif len(groups.total) == 1 and s[i] == 0x29 and s[d - 1] == 0x28:
                i += 2 if s[i + 1] in b" -" else 1
            else:
                break
        return groups._replace(digits=bytes(digits))

    def joined(self, d: int) -> int:
        g = self.collect(d)
        if len(g.total) < 2:
            return 0
        for k in range(1, len(g.total)):
            whole = g.total[k] == 18 and g.separator[0] != 0x2E and not self.in_fraction(d)
            if whole and check.is_resident18(g.digits[:18]):
                self.emit(d, g.end[k], "resident_id", 97)
                return g.end[k]
        if g.digits[:1] == b"0" or (g.digits[:1] == b"8" and self.s[d - 1] == 0x2B):
            end = self.joined_landline(d, g)
            if end:
                return end
        return (
            self.joined_card(d, g) or self.joined_mobile(d, g) or self.joined_imei(d, g) or self.spelled(d, g)
        )

    def spelled(self, d: int, g: _Groups) -> int:
        """Try a number in any other groups, or mistyped, behind its word."""
        for k in range(len(g.total) - 1, 0, -1):
            name, confidence = self.behind_word(d, g.digits[: g.total[k]])
            if not name:
                continue
            if not self.joined_left(d, g.separator[0]) or not self.joined_right(g.end[k], g.separator[k - 1]):
                return 0
            self.emit(d, g.end[k], name, confidence)
            return g.end[k]
        return 0

    def behind_word(self, d: int, t: bytes) -> tuple[str, int]:
        """Return the class that the word before digits makes of them, and how sure that is."""

        def behind(context: int) -> bool:
            return self.within(d, context, tables.LABEL_BYTES)

        n = len(t)
        if n == 18 and check.has_resident_form(t) and behind(tables.CONTEXT_RESIDENT):
            return "resident_id", 70
        if n == 11 and check.is_mobile(t) and check.is_assigned(t) and behind(tables.CONTEXT_PHONE):
            return "mobile", 75
        if not 16 <= n <= 19 or not t.isdigit():
            return "", 0
        if check.card_kind(t) == 1 and behind(tables.CONTEXT_CARD):
            return "bank_card", 75
        return ("bank_card", 65) if 0x33 <= t[0] <= 0x36 and behind(tables.CONTEXT_BANK) else ("", 0)

    def fits(self, d: int, g: _Groups, last: int) -> bool:
        return self.joined_left(d, g.separator[0]) and self.joined_right(g.end[last], g.separator[0])

    def joined_card(self, d: int, g: _Groups) -> int:
        if g.separator[0] == 0x2E:
            return 0
        candidates: list[int] = []
        if g.total[0] == 6 and 16 <= g.total[1] <= 19:
            candidates = [1]
        elif g.total[:4] == [4, 8, 12, 16] and len(set(g.separator[:3])) == 1:
            longer = len(g.total) >= 5 and 17 <= g.total[4] <= 19 and g.separator[3] == g.separator[0]
            candidates = [4, 3] if longer else [3]
        for last in candidates:
            if self.fits(d, g, last) and check.card_kind(g.digits[: g.total[last]]) == 1:
                self.emit(d, g.end[last], "bank_card", 88)
                return g.end[last]
        return 0

    def joined_mobile(self, d: int, g: _Groups) -> int:
        if g.total[0] != 3 or not check.is_mobile(g.digits) or g.separator[0] in SLASHES:
            return 0
        if g.total[1:3] == [7, 11]:
            if g.separator[0] != g.separator[1]:
                return 0
            last = 2
        elif g.total[1] == 11 and g.separator[0] != 0x2E:
            last = 1
        else:
            return 0
        if not self.fits(d, g, last):
            return 0
        self.emit(d, g.end[last], "mobile", 85)
        return g.end[last]

    def joined_imei(self, d: int, g: _Groups) -> int:
        if g.total[:4] != [2, 8, 14, 15] or not check.is_luhn(g.digits[:15]):
            return 0
        starts = int(g.digits[:2]) in tables.IMEI_STARTS and self.joined_right(g.end[3], g.separator[0])
        if not self.near(d, tables.CONTEXT_IMEI) and not starts:
            return 0
        self.emit(d, g.end[3], "imei", 95)
        return g.end[3]

    def joined_landline(self, d: int, g: _Groups) -> int:
        s, start, first = self.s, d, 0
        if g.digits[:1] == b"8":
            if g.total[0] != 2 or g.digits[1:2] != b"6" or len(g.total) < 3:
                return 0
            area = check.area_length(b"0" + g.digits[2:4])
            if not area or g.total[1] != 1 + area:
                return 0
            first, start = 1, g.end[0] + 1
        else:
            area = check.area_length(g.digits)
            if not area or g.total[0] != area:
                return 0
        base, last = g.total[first], first + 1
        if g.separator[first] == 0x2E:
            return 0
        local = g.total[last] - base
        halved = local in (3, 4) and last + 1 < len(g.total) and g.separator[last] != 0x2E
        if halved and g.total[last + 1] - g.total[last] == 4:
            last, local = last + 1, local + 4
        if not check.is_local(g.digits[base], area, local):
            return 0
        if g.separator[first] == 0x29:
            start = d - 1
        elif first == 0 and not self.joined_left(d, g.separator[0]):
            return 0
        end = g.end[last]
        if s[end] == 0x2D and s[end + 1] in DIGITS:
            f = self.while_in(end + 1, DIGITS)
            if f - end > 7 or s[f] in ALNUM or s[f] == 0x2D:
                return 0
            end = f
        elif self.points[end] == 0x8F6C:  # 转
            end = self.extension(end)
        elif not self.joined_right(end, g.separator[first]):
            return 0
        self.emit(start, end, "landline", 85)
        return end

    def extension(self, end: int) -> int:
        """Return the index after one to six digits behind the word at `end`, else `end`."""
        i = end + 2 if self.s[end + 1] == 0x20 else end + 1
        f = self.while_in(i, DIGITS)
        return f if 1 <= f - i <= 6 and self.s[f] not in ALNUM else end

    def coded(self, d: int) -> int:
        """Try a social credit code in groups, behind its word."""
        s, i, code = self.s, d, bytearray()
        while len(code) < 18:
            if s[i] in ALNUM:
                code.append(s[i])
            elif s[i] not in b" -" or s[i + 1] not in ALNUM:
                return 0
            i += 1
        word = self.within(d, tables.CONTEXT_USCC, tables.LABEL_BYTES)
        if s[i] in ALNUM or not check.is_uscc(bytes(code)) or not word:
            return 0
        self.emit(d, i, "uscc", 90)
        return i
