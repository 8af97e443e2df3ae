"""Check characters, written from the standards and apart from the product's own, so that each tests the other."""

from __future__ import annotations

USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_VIN_VALUES = (*range(10), *range(1, 9), 1, 2, 3, 4, 5, 7, 9, *range(2, 10))
_VIN = dict(zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", _VIN_VALUES, strict=True))


def resident_id(text: str) -> bool:
    """ISO 7064 MOD 11-2, as GB 11643 takes it over. The 15-digit form has none."""
    if len(text) == 15:
        return text.isdigit()
    total = 0
    for char in text.upper():
        total = (2 * total + (10 if char == "X" else int(char))) % 11
    return len(text) == 18 and total == 1


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    doubled = [2 * int(c) if i % 2 else int(c) for i, c in enumerate(reversed(text))]
    return sum(d // 10 + d % 10 for d in doubled) % 10 == 0


def uscc(text: str) -> bool:
    """GB 32100: powers of 3 modulo 31 (ISO 7064 MOD 31-3)."""
    text = text.upper()
    return len(text) == 18 and sum(USCC.index(c) * pow(3, i, 31) for i, c in enumerate(text[:17])) % 31 == (
        -USCC.index(text[17]) % 31
    )


def vin(text: str) -> bool:
    """GB 16735."""
    text = text.upper()
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    rest = sum(_VIN[c] * w for c, w in zip(text, weights, strict=True)) % 11
    return text[8] == "0123456789X"[rest]


CHECKS = {"resident_id": resident_id, "bank_card": luhn, "imei": luhn, "uscc": uscc, "vin": vin}
_CANDIDATES = {
    "resident_id": "0123456789X",
    "bank_card": "0123456789",
    "imei": "0123456789",
    "uscc": USCC,
    "vin": "".join(_VIN),
}


def complete(name: str, text: str) -> str:
    """Return the text with its `?` (or the full-width one) replaced by what makes it right.

    Raises
    ------
    ValueError
        Nothing does, or a text without `?` is wrong.
    """
    for candidate in _CANDIDATES[name]:
        filled = text.replace("?", candidate).replace("？", chr(ord(candidate) + 0xFEE0))
        narrow = (
            filled.translate(_NARROW).replace("\\r", "").replace("\\n", "")
        )  # a line end as JSON writes it
        plain = "".join(c for c in narrow if c.isalnum())
        if CHECKS[name](plain):
            return filled
    raise ValueError(f"no check character makes a {name} of a text of {len(text)} characters")


_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
