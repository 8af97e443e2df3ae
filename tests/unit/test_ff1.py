"""FF1 against the sample vectors of NIST SP 800-38G, and the forms that are encrypted with it."""

from __future__ import annotations

import pytest

from forebay.config.operators import Fpe
from forebay.errors import MaskError
from forebay.mask.ff1 import FF1
from forebay.mask.forms import Forms

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
KEY = "2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94"
SAMPLES = [  # bits of the key, radix, tweak, plaintext, ciphertext
    (128, 10, "", "0123456789", "2433477484"),
    (128, 10, "39383736353433323130", "0123456789", "6124200773"),
    (128, 36, "3737373770717273373737", "0123456789abcdefghi", "a9tv40mll9kdu509eum"),
    (192, 10, "", "0123456789", "2830668132"),
    (192, 10, "39383736353433323130", "0123456789", "2496655549"),
    (192, 36, "3737373770717273373737", "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"),
    (256, 10, "", "0123456789", "6657667009"),
    (256, 10, "39383736353433323130", "0123456789", "1001623463"),
    (256, 36, "3737373770717273373737", "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"),
]


@pytest.mark.parametrize(("bits", "radix", "tweak", "plain", "cipher"), SAMPLES)
def test_the_samples_of_nist_come_out_both_ways(bits, radix, tweak, plain, cipher):
    mode = FF1(bytes.fromhex(KEY)[: bits // 8], radix)
    numbers = [ALPHABET.index(c) for c in plain]
    out = mode.encrypt(numbers, bytes.fromhex(tweak))
    assert "".join(ALPHABET[n] for n in out) == cipher
    assert mode.decrypt(out, bytes.fromhex(tweak)) == numbers


def test_long_texts_need_more_than_one_block_of_the_round_function_and_come_back():
    mode = FF1(bytes(32), 62)
    for count in (4, 5, 40, 41, 255, 256):
        numbers = [(7 * n) % 62 for n in range(count)]
        assert mode.decrypt(mode.encrypt(numbers, b"t"), b"t") == numbers


@pytest.mark.parametrize(("count", "radix"), [(5, 10), (0, 10), (1, 65536), (257, 10)])
def test_too_few_and_too_many_symbols_are_refused(count, radix):
    with pytest.raises(MaskError, match="too few or too many"):
        FF1(bytes(16), radix).encrypt([0] * count, b"")


class Ring:
    """A keyring with keys that anyone knows."""

    id = "k1"

    def derive(self, use, class_name, key_id=""):
        return (use + class_name + key_id).encode().ljust(32, b"\0")[:32]


FORMS = Forms(Ring())
RULE = Fpe(operator="fpe")


def luhn(text):
    digits = [int(d) for d in text]
    return sum(d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(digits[::-1])) % 10


@pytest.mark.parametrize(
    ("class_name", "text"),
    [
        ("resident_id", "11010519491231002X"),
        ("resident_id", "110105491231002"),
        ("mobile", "13812345678"),
        ("mobile", "+86 138-1234-5678"),
        ("mobile", "１３８１２３４５６７８"),
        ("landline", "0571-88886666"),
        ("landline", "021 6888 6666"),
        ("bank_card", "6222 0212 3456 7890 128"),
        ("imei", "490154203237518"),
        ("uscc", "91350100M000100Y43"),
        ("vin", "LSVAA4182E2184847"),
        ("plate", "浙A·12345"),
        ("plate", "粤BD12345"),
        ("passport", "E12345678"),
        ("field", "order 2024-000-123456"),
    ],
)
def test_a_form_is_kept_and_comes_back(class_name, text):
    out = FORMS.encrypt(RULE, class_name, text)
    assert out != text
    assert len(out) == len(text)
    for old, new in zip(text, out, strict=True):
        assert old.isalnum() == new.isalnum()
        assert old.isalnum() or old == new, "signs between symbols stay"
        assert (ord(old) > 127) == (ord(new) > 127), "full-width stays full-width"
    assert FORMS.encrypt(RULE, class_name, text) == out
    assert FORMS.decrypt(RULE, class_name, out) == text


def test_check_digits_are_right_and_leads_stay():
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    for number in range(40):
        card = FORMS.encrypt(RULE, "bank_card", f"62220212345678{number:04d}")
        assert luhn(card) == 0
        assert luhn(FORMS.encrypt(RULE, "imei", f"4901542032375{number:02d}")) == 0
        resident = FORMS.encrypt(RULE, "resident_id", f"1101051949123{number:04d}0")
        total = sum(w * int(d) for w, d in zip(weights, resident, strict=False))
        assert resident[17] == "10X98765432"[total % 11]
        mobile = FORMS.encrypt(RULE, "mobile", f"138123456{number:02d}")
        assert mobile[0] == "1"
        assert mobile[1] in "3456789"
        landline = FORMS.encrypt(RULE, "landline", f"0571-888866{number:02d}")
        assert landline.startswith("0571-")
        assert landline[5] in "23456789"


def test_what_made_a_valid_identifier_is_one_for_the_scan_too():
    import numpy as np

    from forebay_core import text_tables as tables
    from forebay_core.text import scan

    given = {
        "resident_id": "11010519491231002X",
        "mobile": "13812345678",
        "uscc": "91350100M000100Y43",
        "vin": "LSVAA4182E2184847",
        "plate": "浙A12345",
    }
    for class_name in ("mobile", "uscc", "plate"):
        made = FORMS.encrypt(RULE, class_name, given[class_name]).encode()
        spans, codes, _ = scan(
            np.frombuffer(made, np.uint8),
            np.array([0, len(made)], np.int64),
            1 << tables.CODES[class_name],
            0,
        )
        assert spans[:, 1:].tolist() == [[0, len(made)]], class_name
        assert codes.tolist() == [tables.CODES[class_name]]


def test_kept_ends_stay_and_change_the_rest():
    rule = Fpe(operator="fpe", first=6)
    first = FORMS.encrypt(rule, "resident_id", "11010519491231002X")
    second = FORMS.encrypt(rule, "resident_id", "33010619491231002X")
    assert first.startswith("110105")
    assert second.startswith("330106")
    assert first[6:17] != second[6:17], "what stays is the tweak"


@pytest.mark.parametrize(
    ("class_name", "text"),
    [("mobile", "12345"), ("mobile", "23812345678"), ("vin", "short"), ("field", "12345"), ("bank_card", "")],
)
def test_what_is_not_of_the_form_is_refused(class_name, text):
    with pytest.raises(MaskError):
        FORMS.encrypt(RULE, class_name, text)
