"""A cell under scan and the rules for addresses, plates and positions: twin of the text kernel's."""

from __future__ import annotations

from collections.abc import Sequence

from forebay_core import text_tables as tables
from forebay_core.reference.text_checks import ALNUM, DIGITS, HEX, LETTERS
from forebay_core.reference.text_fold import PAD, fold

CODE = tables.CODES
LOCAL = ALNUM | frozenset(b"._%+-")
DOMAIN = ALNUM | frozenset(b".-")
QUARTERS = frozenset(b"nsewNSEW")  # of the globe
MAX_LOCAL = 4  # ideographs before an at sign: a name, and a sentence without end before it
MAX_GAP = 40  # symbols: a line end and what the next line is indented by


def gap_end(s: Sequence[int], i: int) -> int:
    """Return the index after one line end at i and the blanks behind it; 0 where two line ends part paragraphs."""
    e, lines = i, 0
    while e - i < MAX_GAP and s[e] in (0x0A, 0x0D, 0x20, 0x09, 0x5C):
        lines += s[e] == 0x0A
        e += 1
    return e if lines == 1 else 0


class AddressRules:
    """A folded cell, its hits so far, and the rules that need no digit groups."""

    def __init__(self, raw: bytes, classes: int, context: int) -> None:
        self.raw, self.classes, self.context = raw, classes, context
        self.s, self.pos, self.points = fold(raw)
        self.end = len(self.s) - PAD
        self.hits: list[tuple[int, int, int, int]] = []

    def while_in(self, i: int, kind: frozenset[int]) -> int:
        while self.s[i] in kind:
            i += 1
        return i

    def emit(self, start: int, end: int, name: str, confidence: int) -> None:
        if not self.classes >> CODE[name] & 1:
            return
        first = self.pos[start]
        while self.hits and self.hits[-1][1] > first:
            self.hits.pop()
        self.hits.append((first, self.pos[end], CODE[name], confidence))

    def near(self, j: int, kind: int) -> bool:
        reach = tables.CONTEXT_BYTES
        if kind == tables.CONTEXT_VERSION:
            reach = tables.VERSION_BYTES
        elif kind == tables.CONTEXT_OTHER:
            reach = tables.LABEL_BYTES
        return self.within(j, kind, reach)

    def within(self, j: int, kind: int, reach: int) -> bool:
        if self.context >> kind & 1:
            return True
        end = self.pos[j]
        window = self.raw[max(0, end - reach) : end].lower()
        return any(word in window for word in tables.CONTEXTS[kind])

    def in_fraction(self, d: int) -> bool:
        return self.s[d - 1] == 0x2E and self.s[d - 2] in DIGITS

    def counts(self, d: int) -> bool:
        """Does the number stand right behind a word for what is counted, with no word for telephone near?"""
        if self.within(d, tables.CONTEXT_PHONE, tables.LABEL_BYTES):
            return False
        before = self.raw[: self.pos[d]].lower()
        for tail in range(min(tables.COUNTER_BYTES, len(before)) + 1):
            rest = before[: len(before) - tail]
            if any(byte in ALNUM for byte in before[len(rest) :]):
                return False
            for word in tables.CONTEXTS[tables.CONTEXT_COUNTER]:
                if rest.endswith(word) and not (word.isalpha() and rest[: -len(word)][-1:].isalpha()):
                    return True
        return False

    def within_code(self, d: int, f: int) -> bool:
        """Is the number a part of a code behind the word for one?"""
        s, b = self.s, d
        if s[d - 1] != 0x2D or s[d - 2] not in ALNUM or s[f] != 0x2D or s[f + 1] not in ALNUM:
            return False
        while d - b < 24 and (s[b - 1] in ALNUM or s[b - 1] == 0x2D):
            b -= 1
        return self.within(b, tables.CONTEXT_OTHER, tables.LABEL_BYTES)

    def new_version(self, d: int) -> bool:
        """Does another version stand before, with an arrow between?"""
        s, i = self.s, d
        while d - i < 4 and s[i - 1] in b" -=>":
            i -= 1
        if 0x3E not in s[i:d]:
            return False
        while d - i < 20 and (s[i - 1] in DIGITS or s[i - 1] == 0x2E):
            i -= 1
        return self.near(i, tables.CONTEXT_VERSION)

    def ipv4_end(self, d: int) -> int:
        s, i = self.s, d
        octets = []
        for k in range(4):
            f = self.while_in(i, DIGITS)
            if not 1 <= f - i <= 3 or int(s[i:f]) > 255:
                return 0
            octets.append(int(s[i:f]))
            if k < 3 and s[f] != 0x2E:
                return 0
            i = f + 1
        i -= 1
        if s[i] in ALNUM or (s[i] == 0x2E and s[i + 1] in ALNUM):
            return 0
        return 0 if octets[0] in (0, 127, 255) else i

    def decimal_end(self, d: int) -> tuple[int, int]:
        s = self.s
        f = self.while_in(d, DIGITS)
        if not 1 <= f - d <= 3 or s[f] != 0x2E:
            return 0, 0
        i = self.while_in(f + 1, DIGITS)
        if not 4 <= i - f - 1 <= 15:
            return 0, 0
        whole = int(s[d:f])
        if s[i] == tables.DEGREE:
            i += 1
        if s[i] in b"nsewNSEW":
            i += 1
        return (0 if s[i] in ALNUM or (s[i] == 0x2E and s[i + 1] in DIGITS) else i), whole

    def gps(self, d: int) -> int:
        s = self.s
        first, a = self.decimal_end(d)
        if not first:
            return 0
        end, plain = first, True
        while s[end] not in DIGITS and end - first < 20:
            if end >= self.end:
                return 0
            sign = s[end] == 0x2D and end > first and s[end + 1] in DIGITS
            quarter = s[end] in QUARTERS and (s[end + 1] in DIGITS or s[end + 1] == 0x20)
            plain = plain and (s[end] in b" ,;/|" or sign or quarter)
            end += 1
        if end == first:
            return 0
        second, b = self.decimal_end(end)
        if not second:
            return 0
        low, high = min(a, b), max(a, b)
        in_china = 3 <= low <= 53 and 73 <= high <= 135
        # anywhere else beside a word that stands before the first of them
        word = self.within(d, tables.CONTEXT_GPS, tables.GPS_BYTES)
        machine = self.within(d, tables.CONTEXT_MACHINE, tables.GPS_BYTES)
        beside = self.within(d, tables.CONTEXT_MACHINE, tables.MACHINE_BYTES)
        here = plain and in_china and (word or not beside)
        there = not (plain and in_china) and low <= 90 and high <= 180 and word and not machine
        if not here and not there:
            return 0
        before = s[d - 1] in b"+-" or (s[d - 1] in QUARTERS and s[d - 2] not in ALNUM)
        self.emit(d - 1 if before else d, second, "gps", 80)
        return second

    def angle_end(self, d: int) -> int:
        """Return the index after degrees, minutes and perhaps seconds (`23°06'44.5"N`), 0 if they are not there."""
        s, i = self.s, d
        for k in range(3):
            f = i
            while s[f] in DIGITS and f - i < 3:
                f += 1
            if f == i:
                return i if k == 2 else 0
            i = f
            if k and s[i] == 0x2E:
                i = self.while_in(i + 1, DIGITS)
            if s[i] not in ((tables.DEGREE,) if k == 0 else (0x27, 0x22, tables.OTHER)):
                return 0
            i += 1
            if k == 2 and s[i - 1 : i + 1] == b"''":
                i += 1
            if k < 2 and s[i] == 0x20 and s[i + 1] in DIGITS:
                i += 1
        return i

    def degrees(self, d: int) -> int:
        """Two angles near each other, with their quarters of the globe or behind a word for a position."""
        s = self.s
        first = self.angle_end(d)
        if not first:
            return 0
        end, start, quarters = first, d, 0
        while s[end] not in DIGITS and end - first < 8:
            if end >= self.end:
                return 0
            quarters += s[end] in QUARTERS
            end += 1
        second = self.angle_end(end)
        if not second:
            return 0
        if s[d - 1] in QUARTERS and s[d - 2] not in ALNUM:
            start, quarters = d - 1, quarters + 1
        if s[second] in QUARTERS and s[second + 1] not in ALNUM:
            second, quarters = second + 1, quarters + 1
        if quarters < 2 and not self.within(d, tables.CONTEXT_GPS, tables.GPS_BYTES):
            return 0
        self.emit(start, second, "gps", 80)
        return second

    def mac_end(self, b: int, width: int) -> int:
        s, i, separator = self.s, b, self.s[b + width]
        letters = 0
        for k in range(12):
            if k and k % width == 0:
                if s[i] != separator:
                    return 0
                i += 1
            if s[i] not in HEX:
                return 0
            letters += s[i] in LETTERS
            i += 1
        if letters in (0, 12) or s[i] in ALNUM or (s[i] == separator and s[i + 1] in ALNUM):
            return 0
        return 0 if s[b - 1] == separator and s[b - 2] in ALNUM else i

    def plate(self, j: int) -> int:
        s, i = self.s, j + 1
        if s[i] == 0x20 and s[i + 1] in LETTERS:
            i += 1
        if s[i] not in LETTERS or s[i] in b"iI":
            return j + 1
        i += 1
        if (s[i] == tables.MIDDLE_DOT or s[i] in b" -.") and s[i + 1] in ALNUM:
            i += 1
        e = self.while_in(i, ALNUM)
        serial = s[i:e].upper()
        n = len(serial)
        digits = sum(c in DIGITS for c in serial)
        if n > 6 or any(c in b"IO" for c in serial):
            return j + 1
        # GA 36 has at most two letters; older ones that their owners chose have more
        sure = s[i - 1] == tables.MIDDLE_DOT or digits >= 2
        if not sure and not self.near(j, tables.CONTEXT_PLATE):
            return j + 1
        if n == 4 and s[e] == tables.PLATE_END:
            e += 1
        elif n == 4 and self.points[e : e + 2] == [0x5E94, 0x6025]:  # rescue services
            e += 2
        elif n == 6:
            letter_first = serial[0] in LETTERS
            rest = serial[2:] if letter_first else serial[:5]
            if not rest.isdigit() or not (letter_first or serial[5] in LETTERS):
                return j + 1
        elif n != 5:
            return j + 1
        self.emit(j, e, "plate", 90)
        return e

    def embassy(self, j: int) -> int:
        """Six digits behind the first character, which stands for an embassy; a dot may halve them."""
        s, k = self.s, j + 1
        if self.points[j] != 0x4F7F:
            return j + 1
        halved = s[j + 4] == tables.MIDDLE_DOT
        if self.is_han(j - 1) and not halved:
            return j + 1
        for n in range(6):
            if n == 3 and halved:
                k += 1
            if s[k] not in DIGITS:
                return j + 1
            k += 1
        if s[k] in ALNUM or s[k] in b".":
            return j + 1
        self.emit(j, k, "plate", 80)
        return k

    def service_plate(self, b: int, e: int) -> int:
        """Return the end of a plate of the armed police (`WJ京12345`) or, beside its word, the army (`KA12345`)."""
        s = self.s
        if s[b:e].upper() == b"WJ":
            k = e
            if s[k] == tables.PROVINCE:
                k += 1
            if s[k] == tables.MIDDLE_DOT or (s[k] in b"- " and k == e):
                k += 1
            f = self.while_in(k, ALNUM)
            digits = sum(c in DIGITS for c in s[k:f])
            if f - k in (4, 5) and digits >= 4 and k > e:
                if f - k == 4 and s[f] == tables.PLATE_END:
                    f += 1
                self.emit(b, f, "plate", 85)
                return f
            return 0
        army = e - b == 7 and s[b] in LETTERS and s[b + 1] in LETTERS and s[b + 2 : e].isdigit()
        if army and self.within(b, tables.CONTEXT_PLATE, tables.LABEL_BYTES):
            self.emit(b, e, "plate", 70)
            return e
        return 0

    def is_han(self, i: int) -> bool:
        return 0x4E00 <= self.points[i] < 0xA000

    def top_domain(self, i: int) -> int:
        """Return the length of the top-level domain in Chinese characters that begins at i, 0 if there is none."""
        for top in tables.TOP_DOMAINS:
            if self.points[i : i + len(top)] == [ord(char) for char in top]:
                return len(top)
        return 0

    def domain_end(self, i: int) -> tuple[int, bool]:
        """Return the index after the domain that begins at i, 0 if there is none, and whether it is in Chinese."""
        s, first, end, chinese = self.s, i, 0, False
        while i - first < 254 and (s[i] in DOMAIN or self.is_han(i)):
            i += 1
            if s[i - 1] != 0x2E:
                continue
            label = i
            i = self.while_in(i, LETTERS)
            if s[label:i].lower()[:1] == b"x" and i - label == 2 and s[i : i + 2] == b"--":  # Punycode
                i = end = self.while_in(i, ALNUM | {0x2D})
            elif 2 <= i - label <= 24:
                end = i
            elif i == label and self.is_han(i):
                top = self.top_domain(i)
                i += top
                end, chinese = (i, True) if top else (end, chinese)
            elif i == label and s[i] not in ALNUM:
                break
            if end == i and self.is_han(i):
                break  # the sentence goes on
        return end, chinese

    def email(self, j: int) -> int:
        s, b = self.s, j
        while j - b < 64 and s[b - 1] in LOCAL:
            b -= 1
        while b < j and s[b] not in ALNUM:
            b += 1
        if (b == j and not self.is_han(b - 1)) or not (s[j + 1] in ALNUM or self.is_han(j + 1)):
            return j + 1
        end, chinese = self.domain_end(j + 1)
        while chinese and (b == j or self.is_han(b)) and j - b < MAX_LOCAL and self.is_han(b - 1):
            b -= 1
        if not end or b == j:
            return j + 1
        self.emit(b, end, "email", 95)
        return end

    def colon_run(self, j: int, until: int) -> tuple[int, int]:
        s, b = self.s, j
        if s[j + 1] not in HEX and s[j + 1] != 0x3A:
            return j + 1, until
        while j - b < 5 and s[b - 1] in HEX:
            b -= 1
        e = self.while_in(j + 1, HEX | {0x3A})
        if e - b > 64:
            return j + 1, e
        end = 0
        if s[b - 1] not in ALNUM and j - b < 5:
            end = self.colon_address(b, e)
        if not end and s[j + 1] != 0x3A:
            end = self.colon_address(j + 1, e)
        return end or j + 1, e

    def colon_address(self, b: int, e: int) -> int:
        s, tail = self.s, 0
        while e > b and s[e - 1] == 0x3A and s[e - 2] != 0x3A:
            e -= 1
        if s[e] == 0x2E and s[e - 1] in DIGITS:
            tail = e
            while tail > b and s[tail - 1] in DIGITS:
                tail -= 1
            if s[tail - 1] != 0x3A or not self.ipv4_end(tail):
                return 0
        elif s[e] in ALNUM:
            return 0
        text = s[b : tail or e]
        if b > 0 and (text[:1] == b":" and text[:2] != b"::"):
            return 0
        halves = text.split(b"::")
        if len(halves) > 2 or text.find(b":::") >= 0:
            return 0
        groups = [g for half in halves for g in half.split(b":") if g]
        if any(len(g) > 4 for g in groups):
            return 0
        digits = sum(c in DIGITS for c in text) + (4 if tail else 0)
        double, count = len(halves) == 2, len(groups) + (2 if tail else 0)
        if not tail and not double and count in (6, 8) and all(len(g) == 2 for g in groups):
            if digits:
                self.emit(b, e, "mac", 92)
            return e if digits else 0
        if digits < 2 or (not 2 <= count <= 7 if double else count != 8):
            return 0
        e = self.ipv4_end(tail) if tail else e
        self.emit(b, e, "ipv6", 92)
        return e
