"""The two sets that the detectors are measured on: one generated, one written by hand."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import check_digits
from faker import Faker

SEED = 20261122
PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
CLASSES = (
    *("resident_id", "mobile", "landline", "bank_card", "uscc", "passport", "plate", "vin", "imei", "email"),
    *("ipv4", "ipv6", "mac", "gps", "name", "address"),
)


class Span(NamedTuple):
    """What must be found: class, first character, character behind the last."""

    name: str
    start: int
    end: int


class Record(NamedTuple):
    """A text and what must be found in it."""

    text: str
    spans: tuple[Span, ...]


_MARK = re.compile(rf"\[({'|'.join(CLASSES)})\|([^\]]*)\]")
_ESCAPES = {r"\n": "\n", r"\r": "\r", r"\\n": r"\n", r"\\r": r"\r"}
_ESCAPE = re.compile(r"\\\\?[nr]")
HELD_OUT = Path(__file__).with_name("held_out.txt")
HELD_OUT_2 = Path(__file__).with_name("held_out_2.txt")
HELD_OUT_3 = Path(__file__).with_name("held_out_3.txt")
_WRITTEN = Path(__file__).with_name("written.txt")


def written(path: Path = _WRITTEN) -> list[Record]:
    """Read the set written by hand."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("# "):
            continue
        records.append(parse(_ESCAPE.sub(lambda match: _ESCAPES[match[0]], line)))
    return records


def parse(line: str) -> Record:
    """Return a line without its marks, and the spans that they enclose."""
    text, spans, at = "", [], 0
    for mark in _MARK.finditer(line):
        text += line[at : mark.start()]
        name, value = mark[1], mark[2]
        if name in check_digits.CHECKS:
            value = check_digits.complete(name, value)
        spans.append(Span(name, len(text), len(text) + len(value)))
        text += value
        at = mark.end()
    return Record(text + line[at:], tuple(spans))


STARTS = (
    *(
        "130",
        "131",
        "135",
        "137",
        "139",
        "145",
        "147",
        "150",
        "155",
        "159",
        "162",
        "165",
        "166",
        "167",
        "170",
    ),
    *(
        "175",
        "177",
        "178",
        "180",
        "188",
        "189",
        "190",
        "191",
        "192",
        "193",
        "195",
        "196",
        "197",
        "198",
        "199",
    ),
)
STATES = ("高温", "高压", "水位", "液位", "温度", "马达", "线路", "管道", "安全")
# Context words by class, and neutral sentences.
LABELS = {
    "landline": ("电话", "座机：", "tel "),
    "passport": ("护照号码 ", "通行证：", "passport no "),
    "imei": ("IMEI:", "串号 ", "imei=", "", "终端 "),
    "gps": ("位置 ", "GPS:", ""),
    "name": ("姓名：", "联系人:", "患者", "户主 ", '"name":"'),
    "address": ("地址：", "住址 ", "家住", "送至"),
}
FRAMES = (
    "巡查发现设备异常，{v}，附{x}",
    "{x} {v}",
    '{{"v":"{v}","sn":"{x}"}}',
    "{v}。{x}",
    "现场回执（{v}），见{x}",
    "已处理；{v}；{x}；已归档",
)


class Generator:
    """Seeded records: words, identifiers of every class in their forms, and what only looks like one."""

    def __init__(self, seed: int = SEED) -> None:
        self.fake = Faker("zh_CN")
        self.fake.seed_instance(seed)
        self.rng = random.Random(seed)

    def digits(self, n: int) -> str:
        return "".join(self.rng.choice("0123456789") for _ in range(n))

    def letters(self, n: int) -> str:
        return "".join(self.rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(n))

    def wide(self, text: str) -> str:
        """Return full-width digits and letters in one of ten cases."""
        if self.rng.random() > 0.1:
            return text
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)

    def groups(self, text: str, sizes: tuple[int, ...]) -> str:
        """Return the text in groups, joined by spaces, hyphens or dashes, in one of four cases."""
        if self.rng.random() > 0.25:
            return text
        parts, at = [], 0
        for size in sizes:
            parts.append(text[at : at + size])
            at += size
        return self.rng.choice((" ", "-", "–", "　")).join(p for p in (*parts, text[at:]) if p)

    def broken(self, text: str) -> str:
        """Return the text cut in two by a line end in one of twelve cases."""
        if self.rng.random() > 1 / 12:
            return text
        at = self.rng.randrange(3, len(text) - 3)
        return text[:at] + self.rng.choice(("\n", "\r\n", "\\n", "\n  ")) + text[at:]

    # --- classes

    def resident_id(self) -> str:
        number = self.fake.ssn(min_age=1, max_age=90)
        number = number.lower() if self.rng.random() < 0.3 else number
        return self.broken(self.wide(self.groups(number, (6, 8))))

    def mobile(self) -> str:
        start = self.rng.choice(STARTS)
        number = self.groups(start + self.digits(8), (3, 4))
        return self.broken(self.wide(number))

    def landline(self) -> str:
        area = self.rng.choice(("010", "020", "021", "0752", "0755", "0571", "0991"))
        local = self.rng.choice("2345678") + self.digits(7 if area < "03" else self.rng.choice((6, 7)))
        return self.rng.choice(
            (f"{area}-{local}", f"({area}){local}", f"{area} {local}", f"{area}-{local}-{self.digits(3)}")
        )

    def bank_card(self) -> str:
        head, n = self.rng.choice(
            (
                ("622202", 19),
                ("621700", 19),
                ("436742", 16),
                ("518710", 16),
                ("622848", 19),
                ("621785", 19),
                ("622260", 17),
            )
        )
        number = check_digits.complete("bank_card", head + self.digits(n - 7) + "?")
        return self.broken(self.wide(self.groups(number, (4, 4, 4, 4))))

    def uscc(self) -> str:
        body = "".join(self.rng.choice(check_digits.USCC) for _ in range(8))
        head = self.rng.choice(("91", "92", "93", "52", "12", "11")) + self.fake.ssn()[:6]
        return self.wide(check_digits.complete("uscc", head + "M" + body + "?"))

    def passport(self) -> str:
        pick = self.rng.choice
        return pick(
            (
                lambda: pick("EG") + pick("3456789") + self.digits(7),
                lambda: "E" + pick("ABCDEFGHJKLMNP") + self.digits(7),
                lambda: pick("HM") + self.digits(8),
                lambda: pick("CW") + self.digits(8),
            )
        )()

    def plate(self) -> str:
        pick = self.rng.choice
        head = pick(PROVINCES) + pick("ABCDEFGHJKLMNPQ") + pick(("", "", "·", " ", "-"))
        serial = pick(
            (
                lambda: self.digits(5),
                lambda: self.letters(1) + self.digits(4),
                lambda: self.digits(3) + self.letters(2),
                lambda: pick("DF") + self.digits(5),
                lambda: pick("ADF") + self.letters(1) + self.digits(4),
                lambda: self.digits(5) + pick("DF"),
                lambda: self.digits(4) + pick("警学挂"),
            )
        )()
        return self.wide(head + serial)

    def vin(self) -> str:
        text = "L" + "".join(self.rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ0123456789") for _ in range(7))
        tail = self.rng.choice("ABCDEFGHJKLMNPRSTVWXY") + self.digits(7)
        return check_digits.complete("vin", f"{text}?{tail}")

    def imei(self) -> str:
        return check_digits.complete("imei", self.rng.choice(("86", "35")) + self.digits(12) + "?")

    def email(self) -> str:
        return self.fake.email()

    def ipv4(self) -> str:
        first = self.rng.choice((10, 172, 192, self.rng.randrange(11, 127)))
        return f"{first}.{self.rng.randrange(256)}.{self.rng.randrange(256)}.{self.rng.randrange(1, 255)}"

    def ipv6(self) -> str:
        return self.fake.ipv6()

    def mac(self) -> str:
        text = self.fake.mac_address()
        return text if self.rng.random() < 0.7 else text.replace(":", "-").upper()

    def gps(self) -> str:
        north, east = self.rng.uniform(18, 53), self.rng.uniform(74, 135)
        return self.rng.choice(
            (f"{north:.6f},{east:.6f}", f"{east:.5f}, {north:.5f}", f"{north:.4f} {east:.4f}")
        )

    def name(self) -> str:
        return self.fake.name()

    def address(self) -> str:
        return self.fake.address().rsplit(" ", 1)[0]

    def negative(self) -> str:
        """Return what only looks like an identifier."""
        pick, d = self.rng.choice, self.digits
        return pick(
            (
                lambda: "SN" + d(20),
                lambda: "订单202311" + d(14),
                lambda: str(1_700_000_000_000 + self.rng.randrange(10**9)),
                lambda: str(1_700_000_000 + self.rng.randrange(10**8)),
                lambda: "2023-11-05 12:30:45." + d(3),
                lambda: "0.138" + d(8),
                lambda: f"{self.rng.random() * 100:.11f}",
                lambda: f"{self.rng.getrandbits(128):032x}",
                lambda: "a1" + d(11) + "f",
                lambda: str(self.fake.uuid4()),
                lambda: (
                    f"v{self.rng.randrange(9)}.{self.rng.randrange(20)}.{self.rng.randrange(20)}.{self.rng.randrange(9)}"
                ),
                lambda: "流水号" + d(12),
                lambda: "NO." + d(8),
                lambda: f"X{self.rng.uniform(0, 60):.3f} Y{self.rng.uniform(0, 900):.3f}",
                lambda: f"刀补{self.rng.uniform(0, 2):.4f},{self.rng.uniform(0, 2):.4f}",
                lambda: "货号" + self.letters(3) + "-" + d(7),
                lambda: f"金额{self.rng.randrange(10**7):,}.00元",
                lambda: "条码69" + d(11),
                lambda: f"DN{self.rng.randrange(15, 900)}阀门",
                lambda: f"{pick(STATES)}告警",
                lambda: f"{self.rng.randrange(1, 9)}号泵 {self.rng.randrange(1, 40)}号阀",
                lambda: "0x" + f"{self.rng.getrandbits(64):016X}",
                lambda: "设备号" + d(15),
                lambda: "编号" + pick(("86", "35")) + d(13),
                lambda: "8986" + d(16),
                lambda: f"{self.rng.getrandbits(48):012x}",
                lambda: d(7) + "\n" + d(7),
                lambda: f"{d(5)}\n2024-03-{self.rng.randrange(10, 30)} 10:{self.rng.randrange(10, 60)}:00",
                lambda: f"count={d(3)}\n{d(8)} bytes",
                lambda: f"夹角{self.rng.randrange(90)}°{self.rng.randrange(60)}'",
            )
        )()

    def record(self) -> Record:
        """Return one record: an identifier in five of seven, two of different classes in some."""
        kinds = self.rng.choices(CLASSES, k=self.rng.choice((0, 0, 1, 1, 1, 1, 2)))
        text, spans = "", []
        frame = self.rng.choice(FRAMES)
        marked = ""
        for kind in dict.fromkeys(kinds):
            label = self.rng.choice(LABELS.get(kind, ("",)))
            value = getattr(self, kind)()
            closing = '"' if label.endswith('"') else ""
            marked += f"{'，' if marked else ''}{label}\x01{kind}|{value}\x02{closing}"
        whole = frame.format(v=marked, x=self.negative())
        at = 0
        for mark in re.finditer("\x01([a-z0-9_]+)\\|([^\x02]*)\x02", whole):
            text += whole[at : mark.start()]
            spans.append(Span(mark[1], len(text), len(text) + len(mark[2])))
            text += mark[2]
            at = mark.end()
        return Record(text + whole[at:], tuple(spans))


def generated(count: int, seed: int = SEED) -> list[Record]:
    """Return the first `count` generated records of a seed."""
    generator = Generator(seed)
    make: Callable[[], Record] = generator.record
    return [make() for _ in range(count)]
