"""Format-preserving encryption of identifiers: same length, same signs between, right check digits.

What a class keeps: of a resident number 18 signs and the check digit; of a mobile the 1 and a second digit
from 3 to 9; of a landline the area code; of a card and an IMEI Luhn's digit; of a social credit code its
first eight signs (who registered it and where) and both check digits; of a VIN its check digit; of a plate the
province, a letter first and at most two more; of a passport its letters. What it does not keep: valid dates of
birth, regions, issuers (`first` keeps them). Signs between symbols, full-width forms and the international
prefix stay as they were.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from forebay.config.operators import Fpe
from forebay.errors import MaskError
from forebay.mask.ff1 import FF1
from forebay.mask.keyring import Keyring
from forebay_core import text_tables as tables

_DIGITS = "0123456789"
_ALNUM = _DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PLATE = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_VIN = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
_LINE_END = re.compile(r"\\+[rnt]")
_WALK = 1000  # cycle walking ends long before: at least a third of all values are valid


def _any(_symbols: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Form:
    """How a class is written.

    `checks` are places of check symbols, negative from the end; `renew` returns the value with them right;
    `lead` is how many symbols at the start stay; `valid` says whether the symbols are of the class's form.
    """

    alphabet: str
    renew: Callable[[str], str] = str
    checks: tuple[int, ...] = ()
    lead: Callable[[str], int] = lambda _symbols: 0
    valid: Callable[[str], bool] = _any
    extra: str = ""  # symbols that stand in check places only


def _resident(value: str) -> str:
    total = sum(w * int(d) for w, d in zip(tables.RESIDENT_WEIGHTS, value, strict=False))
    return value[:17] + tables.RESIDENT_CHECK.decode()[total % 11]


def _luhn(value: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(value[:-1])):
        doubled = int(digit) * (2 - place % 2)
        total += doubled - 9 * (doubled > 9)
    return value[:-1] + str(-total % 10)


def _uscc(value: str) -> str:
    order = _DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    pairs = zip(tables.ORGANISATION_WEIGHTS, value[8:16], strict=True)
    rest = 11 - sum(w * order.index(c) for w, c in pairs) % 11
    value = value[:16] + ("X" if rest == 10 else str(rest % 11))
    alphabet = tables.USCC_ALPHABET
    total = sum(w * alphabet.index(c) for w, c in zip(tables.USCC_WEIGHTS, value, strict=True))
    return value + alphabet[-total % 31]


def _vin(value: str) -> str:
    total = sum(w * tables.VIN_VALUES[c] for w, c in zip(tables.VIN_WEIGHTS, value, strict=True))
    return value[:8] + "0123456789X"[total % 11] + value[9:]


def _area(symbols: str) -> int:
    if not symbols.startswith("0"):
        return 0
    return 3 if symbols[1:2] in ("1", "2") else 4


def _is_plate(symbols: str) -> bool:
    """Whether a letter comes first and at most two more follow (GA 36)."""
    return symbols[:1].isalpha() and sum(map(str.isalpha, symbols[1:])) <= 2


_LUHN = Form(_DIGITS, _luhn, (-1,))
_FORMS: dict[str, Form] = {
    "resident_id": Form(_DIGITS, _resident, (17,), extra="X"),
    "mobile": Form(_DIGITS, lead=lambda _s: 1, valid=lambda s: s[:1] == "1" and s[1:2] in "3456789"),
    "landline": Form(_DIGITS, lead=_area, valid=lambda s: s[_area(s) : _area(s) + 1] in "23456789"),
    "bank_card": _LUHN,
    "imei": _LUHN,
    "uscc": Form(tables.USCC_ALPHABET, _uscc, (16, 17), lambda _s: 8),
    "passport": Form(_DIGITS),
    "plate": Form(_PLATE, valid=_is_plate),
    "vin": Form(_VIN, _vin, (8,)),
    "digits": Form(_DIGITS),
    "alnum": Form(_ALNUM),
}
_LENGTHS = {"resident_id": (15, 18), "mobile": (11,), "uscc": (18,), "vin": (17,), "imei": (15,)}


class Forms:
    """Encrypts and decrypts identifiers. Used by one thread."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._modes: dict[tuple[str, str, int], FF1] = {}  # by class, key id and radix

    def encrypt(self, rule: Fpe, class_name: str, text: str) -> str:
        """Return another value of the same form. Raises MaskError if the text has not the class's form."""
        return self._turn(rule, class_name, text, self._keyring.id)

    def decrypt(self, rule: Fpe, class_name: str, text: str, key_id: str = "") -> str:
        """Return what `encrypt` was given under a key. Raises MaskError."""
        return self._turn(rule, class_name, text, key_id or self._keyring.id, forward=False)

    def _turn(self, rule: Fpe, class_name: str, text: str, key_id: str, *, forward: bool = True) -> str:
        form = _FORMS.get(class_name) or _FORMS[rule.alphabet]
        places, symbols = _symbols(text, form)
        skip = _prefix(class_name, symbols)
        places, symbols = places[skip:], symbols[skip:]
        lengths = _LENGTHS.get(class_name)
        if not symbols or (lengths and len(symbols) not in lengths):
            raise MaskError(f"not the length of a {class_name}")
        if class_name == "resident_id" and len(symbols) == 15:  # from before check digits
            form = _FORMS["digits"]
        if not form.valid(symbols):
            raise MaskError(f"not the form of a {class_name}")
        checks = {place % len(symbols) for place in form.checks}
        body = [p for p in range(len(symbols)) if p not in checks]
        first = max(rule.first, form.lead(symbols))
        free = body[first : max(first, len(body) - rule.last)]
        # what stays is the tweak: equal digits behind different heads become different digits
        tweak = "".join(symbols[p] for p in body if p not in free)
        mode = self._mode(class_name, key_id, len(form.alphabet))
        turn = mode.encrypt if forward else mode.decrypt
        new = _walk(form, symbols, free, lambda numbers: turn(numbers, tweak.encode()))
        return _put(text, places, new)

    def _mode(self, class_name: str, key_id: str, radix: int) -> FF1:
        wanted = class_name, key_id, radix
        if wanted not in self._modes:
            self._modes[wanted] = FF1(self._keyring.derive("fpe", class_name, key_id), radix)
        return self._modes[wanted]


def _walk(form: Form, symbols: str, free: list[int], turn: Callable[[list[int]], list[int]]) -> str:
    """Encrypt again until the form is right: that permutes the values of that form (cycle walking)."""
    numbers = [form.alphabet.find(symbols[p]) for p in free]
    if min(numbers, default=-1) < 0:
        raise MaskError("a sign stands where it does not belong")
    made = list(symbols)
    for _ in range(_WALK):
        numbers = turn(numbers)
        for place, number in zip(free, numbers, strict=True):
            made[place] = form.alphabet[number]
        if form.valid("".join(made)):
            return form.renew("".join(made))
    raise MaskError("no other value of this form")  # pragma: no cover - see _WALK


def _symbols(text: str, form: Form) -> tuple[list[int], str]:
    """Return the places of symbols in a text, and the symbols in their plain form."""
    places, symbols = [], []
    # what stands for a line end is no symbol; it keeps its length, so that places stay
    for place, char in enumerate(_LINE_END.sub(lambda escape: " " * len(escape[0]), text)):
        plain = unicodedata.normalize("NFKC", char)
        plain = plain if form.alphabet is _ALNUM else plain.upper()
        if len(plain) == 1 and (plain in form.alphabet or plain in form.extra):
            places.append(place)
            symbols.append(plain)
    return places, "".join(symbols)


def _prefix(class_name: str, symbols: str) -> int:
    if class_name in ("mobile", "landline"):
        for prefix in ("0086", "86"):
            if symbols.startswith(prefix) and len(symbols) >= len(prefix) + 10:
                return len(prefix)
    return 0


def _put(text: str, places: list[int], symbols: str) -> str:
    out = list(text)
    for place, new in zip(places, symbols, strict=True):
        old = out[place]
        if unicodedata.normalize("NFKC", old) == new:
            continue
        new = new.lower() if old.islower() and new.isupper() else new  # written small
        out[place] = chr(ord(new) + 0xFEE0) if ord(old) > 0x7F else new
    return "".join(out)
