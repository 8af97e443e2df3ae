"""Recall and precision of the scan on generated records with hard negatives, counted per class."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from faker import Faker

from forebay_core import IMPLEMENTATION
from forebay_core import text_tables as tables
from forebay_core.reference import text_checks
from forebay_core.text import scan

RECORDS = 6000 if IMPLEMENTATION == "compiled" else 600


class Generator:
    """Seeded records: words, an identifier or none, and what only looks like one."""

    def __init__(self, seed):
        self.fake = Faker("zh_CN")
        self.fake.seed_instance(seed)
        self.rng = random.Random(seed)

    def digits(self, n):
        return "".join(self.rng.choice("0123456789") for _ in range(n))

    def luhn(self, head, n):
        body = head + self.digits(n - len(head) - 1)
        return next(body + c for c in "0123456789" if text_checks.is_luhn((body + c).encode()))

    def mobile(self):
        number = self.fake.phone_number()
        forms = (
            number,
            f"{number[:3]}-{number[3:7]}-{number[7:]}",
            f"{number[:3]} {number[3:7]} {number[7:]}",
        )
        wide = "".join(chr(ord(c) + 0xFEE0) for c in number)
        return self.rng.choice((*forms, number, wide))

    def resident_id(self):
        number = self.fake.ssn()
        return self.rng.choice((number, number.lower(), f"{number[:6]} {number[6:14]} {number[14:]}"))

    def bank_card(self):
        number = self.luhn(self.rng.choice(("622202", "621700", "436742", "518710")), 16)
        groups = " ".join(number[i : i + 4] for i in range(0, 16, 4))
        return self.rng.choice((number, groups, self.luhn("622848", 19)))

    def uscc(self):
        # from the standard: department, kind, region, organisation code, check character
        alphabet = tables.USCC_ALPHABET
        while True:
            code = "".join(self.rng.choice(alphabet) for _ in range(9))
            text = self.rng.choice(("91", "92", "52")) + "440300" + code
            total = sum(alphabet.index(c) * w for c, w in zip(text, tables.USCC_WEIGHTS, strict=True))
            if not text.isdigit():
                return text + alphabet[-total % 31]

    def plate(self):
        letter, rest = self.rng.choice("ABCDEFGH"), self.rng.choice("ABCDEFGHJK0123456789") + self.digits(4)
        dot = self.rng.choice(("", "", "·", " "))
        energy = self.rng.choice("DF") + self.digits(5)
        return self.rng.choice(tables.PROVINCES) + letter + dot + self.rng.choice((rest, energy))

    def email(self):
        return self.fake.email()

    def vin(self):
        letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
        text = "L" + "".join(self.rng.choice(letters) for _ in range(7)) + "0" + self.digits(8)
        rest = sum(tables.VIN_VALUES[c] * w for c, w in zip(text, tables.VIN_WEIGHTS, strict=True)) % 11
        return text[:8] + "0123456789X"[rest] + text[9:]

    def imei(self):
        return "IMEI:" + self.luhn("86", 15)

    def ipv4(self):
        return self.fake.ipv4_private()

    def mac(self):
        return self.fake.mac_address()

    def negative(self):
        pick = self.rng.choice
        return pick(
            (
                lambda: "SN" + self.digits(20),
                lambda: "订单" + "202311" + self.digits(14),
                lambda: str(1_700_000_000_000 + self.rng.randrange(10**9)),
                lambda: "2023-11-05 12:30:45." + self.digits(3),
                lambda: "0." + "138" + self.digits(8),
                lambda: f"{self.rng.random() * 100:.11f}",
                lambda: f"{self.rng.getrandbits(128):032x}",
                lambda: "a1" + self.digits(11) + "f",
                lambda: str(self.fake.uuid4()),
                lambda: "v2.10.3.4",
                lambda: self.digits(12),
                lambda: "1" + self.digits(9),
                lambda: "NO." + self.digits(8),
            )
        )()

    def record(self):
        kind = self.rng.choice((*QUALITY, "none", "none", "none"))
        value = "" if kind == "none" else getattr(self, kind)()
        frame = self.rng.choice(
            (
                "居民{n}反映{c}路灯故障，{v}，编号{x}",
                "{x} {v}",
                '{{"user":"{n}","v":"{v}","sn":"{x}"}}',
                "{c}{v}。{x}",
            )
        )
        text = frame.format(n=self.fake.name(), c=self.fake.city(), v=value, x=self.negative())
        return text, kind, value.removeprefix("IMEI:")


CHECKED = ("resident_id", "bank_card", "uscc", "vin", "imei")
QUALITY = (*CHECKED, "mobile", "plate", "email", "ipv4", "mac")


@pytest.fixture(scope="module")
def counts():
    generator = Generator(20231105)
    records = [generator.record() for _ in range(RECORDS)]
    cells = [text.encode() for text, _, _ in records]
    offsets = np.zeros(len(cells) + 1, np.int64)
    np.cumsum([len(c) for c in cells], out=offsets[1:])
    spans, codes, _ = scan(np.frombuffer(b"".join(cells), np.uint8), offsets, tables.ALL_CLASSES, 0)
    hits = {}
    for (row, start, end), code in zip(spans.tolist(), codes.tolist(), strict=True):
        hits.setdefault(row, []).append((tables.CLASSES[code], cells[row][start:end].decode()))
    total, true, false = Counter(), Counter(), Counter()
    for row, (_, kind, value) in enumerate(records):
        found = hits.get(row, [])
        if kind != "none":
            total[kind] += 1
            true[kind] += (kind, value) in found
        false.update(name for name, text in found if (name, text) != (kind, value))
    return total, true, false


@pytest.mark.parametrize("name", QUALITY)
def test_recall_and_precision_reach_their_goals(counts, name):
    total, true, false = counts
    assert total[name] > RECORDS / 30
    assert true[name] / total[name] >= (0.999 if name in CHECKED else 0.98)
    assert true[name] / (true[name] + false[name]) >= 0.99


def test_hard_negatives_give_next_to_no_hits_of_other_classes(counts):
    _, _, false = counts
    assert sum(false.values()) <= RECORDS / 500, dict(false)
