"""Check digits and number plans of the text kernel's twin. Arguments are folded symbols as `bytes`."""

from __future__ import annotations

import calendar

from forebay_core import text_tables as tables

DIGITS = frozenset(b"0123456789")
LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
ALNUM = DIGITS | LETTERS
HEX = frozenset(b"0123456789abcdefABCDEF")
_USCC = {c: i for i, c in enumerate(tables.USCC_ALPHABET)}


def is_date(year: int, month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]


def is_date8(t: bytes) -> bool:
    return t[:2] in (b"19", b"20") and is_date(int(t[:4]), int(t[4:6]), int(t[6:8]))


def has_resident_form(t: bytes) -> bool:
    """Whether region and date of 18 characters are those of a resident number."""
    regions = tables.PROVINCE_NUMBERS
    return (int(t[:2]) in regions or (t[:1] == b"9" and int(t[1:3]) in regions)) and is_date8(t[6:14])


def is_resident18(t: bytes) -> bool:
    if not has_resident_form(t):
        return False
    total = sum((digit - 48) * w for digit, w in zip(t, tables.RESIDENT_WEIGHTS, strict=False))
    return tables.RESIDENT_CHECK[total % 11] == t[17:18].upper()[0]


def is_resident15(t: bytes) -> bool:
    return (
        int(t[:2]) in tables.PROVINCE_NUMBERS
        and int(t[2:4]) <= 90
        and int(t[4:6]) >= 1
        and is_date(1900 + int(t[6:8]), int(t[8:10]), int(t[10:12]))
    )


def is_luhn(t: bytes) -> bool:
    total = 0
    for place, digit in enumerate(reversed(t)):
        value = digit - 48
        total += value if place % 2 == 0 else sum(divmod(2 * value, 10))
    return total % 10 == 0


def is_bare_imei(t: bytes) -> bool:
    """Whether 15 digits are believed without their word: who assigned them, and Luhn."""
    return int(t[:2]) in tables.IMEI_STARTS and is_luhn(t)


def card_kind(t: bytes) -> int:
    """Return 0: no card; 1: card; 2: card if a context word is near."""
    n, four = len(t), int(t[:4])
    if not is_luhn(t):
        return 0
    if n >= 16 and (four // 100 == 62 or four in (9558, 6013, 6014, 6033) or four // 10 == 940):
        return 1
    ranges = ((4000, 4999), (5100, 5599), (2221, 2720), (3528, 3589), (6011, 6011), (6440, 6599))
    if n == 16 and any(low <= four <= high for low, high in ranges):
        return 1
    if n == 15 and four // 100 in (34, 37):
        return 1
    if n == 14 and ((four <= 3059 and four >= 3000) or four // 100 in (36, 38, 39)):
        return 2
    if n >= 13 and (four // 1000 == 4 or four // 100 == 62 or four == 6907):
        return 2
    return 2 if n >= 16 and t[0] >= 0x33 else 0  # issuers that we know nothing of


def is_mobile(t: bytes) -> bool:
    return t[:1] == b"1" and t[1:2] >= b"3"


def is_assigned(t: bytes) -> bool:
    """Whether a mobile number's first three digits belong to an operator."""
    return int(t[:3]) in tables.MOBILE_STARTS


def has_uscc_form(t: bytes) -> bool:
    """Whether department, region and characters are those of a social credit code."""
    text = t.decode("latin-1").upper()
    if text[:2] not in tables.USCC_STARTS or any(c not in _USCC for c in text) or not t[2:8].isdigit():
        return False
    return int(text[2:4]) in tables.PROVINCE_NUMBERS or text[2:4] == "10"


def is_uscc(t: bytes) -> bool:
    text = t.decode("latin-1").upper()
    if not has_uscc_form(t):
        return False
    total = sum(_USCC[c] * w for c, w in zip(text, tables.USCC_WEIGHTS, strict=False))
    if _USCC[text[17]] != -total % 31:
        return False
    if not text.isdigit():
        return True
    inner = sum(int(c) * w for c, w in zip(text[8:16], tables.ORGANISATION_WEIGHTS, strict=True))
    return -inner % 11 == int(text[16])


def vin_kind(t: bytes) -> int:
    """Return 0: no VIN; 1: its check digit holds; 2: only its form does."""
    text = t.decode("latin-1").upper()
    if any(c not in tables.VIN_VALUES for c in text) or not t[13:].isdigit():
        return 0
    if sum(c.isalpha() for c in text) < 2:
        return 0
    rest = sum(tables.VIN_VALUES[c] * w for c, w in zip(text, tables.VIN_WEIGHTS, strict=True)) % 11
    return 1 if text[8] == "0123456789X"[rest] else 2


def passport_kind(t: bytes) -> int:
    """Return 0: no; 1: passport by its form; 2: a permit if a context word is near."""
    n = len(t)
    digits_from = 2 if t[1] in LETTERS else 1
    if t[0] not in LETTERS or not t[digits_from:].isdigit():
        return 0
    upper = t.upper()
    if n == 9 and digits_from == 1:
        if upper[:1] in (b"E", b"G"):
            return 1 if t == upper and not is_date8(t[1:]) else 2
        return 2 if upper[0] in b"DSPKHMCWLT" else 0
    if n == 9:
        if upper[0] in b"E" and upper[1] not in b"IO":
            return 1 if t == upper else 2
        return 2 if upper[0] in b"DSPMC" else 0
    return 2 if n == 11 and digits_from == 1 and upper[0] in b"HM" else 0


def area_length(t: bytes) -> int:
    if t[:1] != b"0":
        return 0
    if t[1:2] == b"1":
        return 3 if t[2:3] == b"0" else 0
    if t[1:2] == b"2":
        return 3 if t[2:3] != b"6" else 0
    return 4 if t[1:2] >= b"3" else 0


def is_local(first: int, area: int, n: int) -> bool:
    return first >= 49 and (n == 8 or (n == 7 and area == 4))
