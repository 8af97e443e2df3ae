"""Twin of the text kernel in plain Python: the same rules, written for reading rather than speed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from forebay_core import text_tables as tables
from forebay_core.reference import text_checks as check
from forebay_core.reference.text_breaks import over_breaks
from forebay_core.reference.text_checks import ALNUM, DIGITS, HEX
from forebay_core.reference.text_fold import PAD
from forebay_core.reference.text_groups import SEPARATORS, SLASHES, GroupRules
from forebay_core.reference.text_people import People, merged

SPOKEN = frozenset(range(tables.SPOKEN, tables.SPOKEN + 10))
PEOPLE = 1 << tables.CODES["name"] | 1 << tables.CODES["address"]


def scan(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], classes: int, context: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Find identifiers in every cell of a column. See the compiled kernel for the parameters."""
    bounds = np.asarray(offsets).tolist()
    if not bounds or bounds[0] < 0 or bounds[-1] > len(data) or sorted(bounds) != bounds:
        raise ValueError("offsets do not fit the data")
    raw = np.asarray(data).tobytes()
    hits: list[tuple[int, int, int, int, int]] = []
    for row, (start, end) in enumerate(pairwise(bounds)):
        cell = Cell(raw[start:end], classes, context)
        found = cell.scan()
        if 10 in cell.s:
            found = over_breaks(cell, found)
        if classes & PEOPLE:
            found = merged(found, People(cell.points, cell.pos, found, classes, context).find())
        hits += [(row, *hit) for hit in found]
    table = np.array(hits, dtype=np.int64).reshape(-1, 5)
    return (
        np.ascontiguousarray(table[:, :3]),
        table[:, 3].astype(np.uint8),
        table[:, 4].astype(np.uint8),
    )


def decimal_text(
    values: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Write integers as decimal text. See the compiled kernel."""
    cells = [str(v).encode() for v in np.asarray(values).tolist()]
    offsets = np.zeros(len(cells) + 1, dtype=np.int64)
    np.cumsum([len(c) for c in cells], out=offsets[1:])
    return np.frombuffer(b"".join(cells), dtype=np.uint8), offsets


def long_ints(
    values: npt.NDArray[np.int64], least: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find integers of a magnitude. See the compiled kernel."""
    if least < 1:
        raise ValueError("the least magnitude is at least 1")
    rows = np.flatnonzero((values >= least) | (values <= -least))  # not abs(): the least int64 has none
    return rows.astype(np.int64), values[rows]


def long_floats(
    values: npt.NDArray[np.float64], least: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find whole numbers of a magnitude. See the compiled kernel."""
    if least < 1:
        raise ValueError("the least magnitude is at least 1")
    magnitude = np.abs(values)
    rows = np.flatnonzero((magnitude >= least) & (magnitude <= 2.0**53))
    rows = rows[values[rows] == np.floor(values[rows])]
    return rows.astype(np.int64), values[rows].astype(np.int64)


class Cell(GroupRules):
    """A folded cell and every rule of the first pass."""

    def scan(self) -> list[tuple[int, int, int, int]]:
        s, j, colons_until = self.s, PAD, 0
        while j < self.end:
            if s[j] in ALNUM:
                e = self.while_in(j, ALNUM)
                j = self.alnum_run(j, e)
            elif s[j] == 0x40:
                j = self.email(j)
            elif s[j] == 0x3A and j >= colons_until:
                j, colons_until = self.colon_run(j, colons_until)
            elif s[j] == tables.PROVINCE:
                j = self.plate(j)
            elif s[j] == tables.PLATE_END:
                j = self.embassy(j)
            elif s[j] in SPOKEN:
                j = self.spoken(j)
            else:
                j += 1
        return self.hits

    # --- rules

    def alnum_run(self, b: int, e: int) -> int:
        s, n = self.s, e - b
        if (n == 2 and s[e] == 0x2D) or (n == 4 and s[e] == 0x2E):
            end = self.mac_end(b, n)
            if end:
                self.emit(b, end, "mac", 90)
                return end
        run = s[b:e]
        if e - b in (2, 7):
            end = self.service_plate(b, e)
            if end:
                return end
        if not any(c in DIGITS for c in run):
            return e
        if not run.isdigit() and self.mixed(b, e, run):
            return e
        d = b
        while d < e:
            if s[d] not in DIGITS:
                d += 1
                continue
            f = self.while_in(d, DIGITS)
            if f - d >= 11:
                d = self.digit_run(d, f)
            elif f == e:
                return max(self.short_run(b, d, f), e)
            else:
                d = f
        return d

    def mixed(self, b: int, e: int, run: bytes) -> bool:
        """Try what is made of letters and digits."""
        s = self.s
        resident = len(run) == 18 and run[:17].isdigit() and run[17] in b"xX" and check.is_resident18(run)
        if len(run) == 18 and check.has_uscc_form(run) and not resident:
            sure = check.is_uscc(run)
            if sure or self.within(b, tables.CONTEXT_USCC, tables.LABEL_BYTES):
                self.emit(b, e, "uscc", 97 if sure else 75)
                return True
        mac = len(run) == 12 and all(c in HEX for c in run)
        if mac and self.within(b, tables.CONTEXT_MAC, tables.LABEL_BYTES):
            self.emit(b, e, "mac", 75)
            return True
        kind = check.vin_kind(run) if len(run) == 17 else 0
        if kind and (kind == 1 or self.near(b, tables.CONTEXT_VIN)):
            self.emit(b, e, "vin", 95 if kind == 1 else 70)
            return True
        foreign = len(run) == 15 and run[3:].isdigit() and not any(c in DIGITS for c in run[:3])
        if foreign and self.within(b, tables.CONTEXT_PERMIT, tables.LABEL_BYTES):
            self.emit(b, e, "passport", 75)  # permanent residence, the form before 2017
            return True
        if len(run) not in (9, 11):
            return False
        kind = check.passport_kind(run)
        part_of_name = s[b - 1] in b"-_" or (s[e] == 0x2D and s[e + 1] in ALNUM)
        if kind and not part_of_name and (kind == 1 or self.near(b, tables.CONTEXT_PERMIT)):
            self.emit(b, e, "passport", 75)
            return True
        return False

    def digit_run(self, d: int, f: int) -> int:
        s, n = self.s, f - d
        t = s[d:f]
        if self.in_fraction(d):
            return f
        if n == 17 and s[f] in b"xX" and s[f + 1] not in ALNUM and check.has_resident_form(t):
            if check.is_resident18(s[d : f + 1]):
                self.emit(d, f + 1, "resident_id", 99)
            elif self.within(d, tables.CONTEXT_RESIDENT, tables.LABEL_BYTES):
                self.emit(d, f + 1, "resident_id", 75)
            return f + 1
        if n == 18 and check.is_resident18(t):
            self.emit(d, f, "resident_id", 99)
            return f
        if n > 19 or not self.left_open(d) or not self.right_open(f):
            return f
        if (
            n == 11
            and check.is_mobile(t)
            and (check.is_assigned(t) or self.near(d, tables.CONTEXT_PHONE) or self.country_before(d))
        ):
            if not self.counts(d) and not self.within_code(d, f):
                self.emit(d, f, "mobile", self.sure(d, 90))
        elif n == 13 and t[:2] == b"86" and check.is_mobile(t[2:]):
            self.emit(d + 2, f, "mobile", 90)
        elif n == 15 and t[:4] == b"0086" and check.is_mobile(t[4:]):
            self.emit(d + 4, f, "mobile", 90)
        elif n == 18 and check.is_uscc(t):
            self.emit(d, f, "uscc", 95)
        elif n == 18 and self.mistyped(d, t):
            self.emit(d, f, self.mistyped(d, t), 75)
        elif n == 15 and check.is_luhn(t) and self.named_imei(d):
            self.emit(d, f, "imei", 95)
        elif n in (11, 12) and self.plain_landline(t) and self.named_phone(d):
            self.emit(d, f, "landline", 75)
        elif (
            n == 12
            and t[:1] == b"0"
            and check.is_mobile(t[1:])
            and check.is_assigned(t[1:])
            and self.is_somebodys(d)
        ):
            if not self.counts(d) and not self.within_code(d, f):  # dialled from another city
                self.emit(d + 1, f, "mobile", 85 if self.near(d, tables.CONTEXT_PHONE) else 60)
        elif n >= 13:
            kind = check.card_kind(t)
            sure = kind == 1 and (n > 15 or self.is_somebodys(d))
            if sure or (kind == 2 and self.near(d, tables.CONTEXT_CARD)):
                self.emit(d, f, "bank_card", self.sure(d, 90))
            elif 14 <= n <= 16 and self.within(d, tables.CONTEXT_IMEI, tables.LABEL_BYTES):
                self.emit(d, f, "imei", 70)
            elif n == 15 and self.is_bare_imei(d, t):
                self.emit(d, f, "imei", 60)
            elif n == 15 and check.is_resident15(t) and self.is_somebodys(d):
                self.emit(d, f, "resident_id", 70)
            elif n >= 16 and 0x33 <= t[0] <= 0x36 and self.within(d, tables.CONTEXT_BANK, tables.LABEL_BYTES):
                self.emit(d, f, "bank_card", 65)
        return f

    def spoken(self, b: int) -> int:
        """Try a run of digits written as words."""
        s = self.s
        e = self.while_in(b, SPOKEN)
        if s[b - 1] in DIGITS or s[e] in DIGITS:
            return e
        digits = bytes(c - tables.SPOKEN + 0x30 for c in s[b:e])
        if len(digits) == 11:
            known = check.is_mobile(digits) and check.is_assigned(digits)
            if known or (check.is_mobile(digits) and self.near(b, tables.CONTEXT_PHONE)):
                self.emit(b, e, "mobile", 85)
        elif len(digits) == 17 and s[e] in b"xX" and s[e + 1] not in ALNUM:
            e += 1
            if check.is_resident18(digits + b"X"):
                self.emit(b, e, "resident_id", 97)
        elif len(digits) == 18 and check.is_resident18(digits):
            self.emit(b, e, "resident_id", 97)
        return e

    def mistyped(self, d: int, t: bytes) -> str:
        """Return the class that the word before 18 digits makes of them, though their check digit is wrong."""
        if check.has_resident_form(t) and self.within(d, tables.CONTEXT_RESIDENT, tables.LABEL_BYTES):
            return "resident_id"
        if check.has_uscc_form(t) and self.within(d, tables.CONTEXT_USCC, tables.LABEL_BYTES):
            return "uscc"
        return ""

    def named_phone(self, d: int) -> bool:
        """Does a word for telephone stand near, and no word for another number right before?"""
        other = self.within(d, tables.CONTEXT_OTHER, tables.VERSION_BYTES)
        return self.near(d, tables.CONTEXT_PHONE) and not other

    def named_imei(self, d: int) -> bool:
        """Does the word for an IMEI stand near, and no word for another number right before?"""
        other = self.within(d, tables.CONTEXT_OTHER, tables.VERSION_BYTES)
        return self.near(d, tables.CONTEXT_IMEI) and (
            not other or self.within(d, tables.CONTEXT_IMEI, tables.LABEL_BYTES)
        )

    def is_bare_imei(self, d: int, t: bytes) -> bool:
        other = self.within(d, tables.CONTEXT_OTHER, tables.VERSION_BYTES)
        resident = self.within(d, tables.CONTEXT_RESIDENT, tables.LABEL_BYTES)
        return check.is_bare_imei(t) and not other and not resident

    def is_somebodys(self, d: int) -> bool:
        """Is a number without a check digit not behind a word for another one or a thing, or behind its own?"""
        thing = self.within(d, tables.CONTEXT_THING, tables.LABEL_BYTES)
        return self.within(d, tables.CONTEXT_RESIDENT, tables.LABEL_BYTES) or not (
            thing or self.beside_other(d)
        )

    def beside_other(self, d: int) -> bool:
        return self.within(d, tables.CONTEXT_OTHER, tables.LABEL_BYTES)

    def country_before(self, d: int) -> bool:
        b = d - 1 if self.s[d - 1] in SEPARATORS else d
        return self.s[b - 2 : b] == b"86" and self.s[b - 3] not in DIGITS - {0x30}

    def sure(self, d: int, confidence: int) -> int:
        """Lower what stands right behind the word for another number: masked, but no alarm of the guard."""
        return 60 if self.beside_other(d) else confidence

    @staticmethod
    def plain_landline(t: bytes) -> bool:
        area = check.area_length(t)
        return bool(area) and t[area] in b"2345678" and check.is_local(t[area], area, len(t) - area)

    def short_run(self, b: int, d: int, f: int) -> int:
        s, after = self.s, self.s[f]
        if after == 0x2E and f - d <= 3 and s[f + 1] in DIGITS:
            end = self.ipv4_end(d)
            if end:
                goes_on = s[d - 1] == 0x2E and s[d - 2] in ALNUM
                version = self.near(d, tables.CONTEXT_VERSION) or self.new_version(d)
                if (d == b or self.left_open(d)) and not goes_on and not version:
                    self.emit(d, end, "ipv4", 80)
                return end
            end = 0 if self.in_fraction(d) else self.gps(d)
            if end:
                return end
        if after == tables.DEGREE:
            return self.degrees(d)
        single = 0x31 <= s[d] <= 0x38 and after == 0x20 and s[f + 2] == 0x20  # `1 3 8 0 ...`
        if (f - d < 2 and not single) or not self.left_open(d):
            return 0
        if 6 <= f - d <= 8:
            end = self.labelled(d, f)
            if end:
                return end
        bracket = after == 0x29 and s[d - 1] == 0x28
        slash = after in SLASHES and f - d == 3
        end = 0
        if ((after in SEPARATORS or slash) and s[f + 1] in DIGITS) or bracket or self.is_wide(f):
            end = self.joined(d)
        starts = d == b and s[d : d + 2].decode() in tables.USCC_STARTS
        if not end and after in b" -" and s[f + 1] in ALNUM and starts:
            return self.coded(d)
        return end

    def labelled(self, d: int, f: int) -> int:
        """Try 6 to 8 digits that only the word before them makes something."""
        s, n, p = self.s, f - d, self.points
        if s[f] in ALNUM or (s[f] in b".-:/" and s[f + 1] in ALNUM):
            return 0
        first = d - 1 if p[d - 1] == 0x7B2C else d  # 第
        if (
            p[first - 1] == 0x5B57 and 0x4E00 <= p[first - 2] < 0xA000
        ):  # a character and 字: an officer's number
            if not self.within(first, tables.CONTEXT_PERMIT, tables.CONTEXT_BYTES):
                return 0
            end = f + 1 if p[f] == 0x53F7 else f  # 号
            self.emit(first - 2, end, "passport", 80)
            return end
        if n < 7 or s[d - 1] in b".-/" or (n == 8 and check.is_date8(s[d:f])):
            return 0
        if n == 8 and self.within(d, tables.CONTEXT_PERMIT, tables.LABEL_BYTES):
            self.emit(d, f, "passport", 65)
            return f
        if 0x32 <= s[d] <= 0x38 and self.within(d, tables.CONTEXT_PHONE, tables.LABEL_BYTES):
            self.emit(d, f, "landline", 60)
            return f
        return 0
