"""Generated visitor records: Chinese sentences with personal data whose check digits hold.

Seeded, so that every run makes the same file. No number belongs to anybody on purpose; they are valid in form only.

References
----------
GB 11643-1999 (resident number, ISO 7064 MOD 11-2), ISO/IEC 7812-1 (Luhn), GA 36-2018 (plates).
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

RECORDS = 2_000
SEED = 20140101

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK = "10X98765432"
_AREAS = ("110105", "310115", "320106", "330102", "350203", "370202", "420106", "440303", "441302", "510107")
_PREFIXES = ("130", "135", "138", "139", "150", "158", "159", "177", "186", "188", "189", "199")
_CARDS = ("622202", "621700", "622848", "621661", "625912", "436742")
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_GIVEN = "建国志强丽娟秀英海燕文博雨桐子涵晓明思远佳怡俊杰雪梅春华"
_PROVINCES = "粤京沪浙苏鲁闽川鄂湘"
_PLATE_SIGNS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
_WORDS = ("lihua", "zhangwei", "wang.fang", "chen_jie", "liuyang88", "zhao.min", "sunli", "gaofeng")
_DOMAINS = ("example.com", "example.cn", "mail.example.org", "corp.example.com.cn")

# Around each identifier is what people write; the numbers that are nobody's must come through untouched.
_SENTENCES = (
    "访客身份证{resident_id}，手机{mobile}，三号泵站巡检。",
    "车牌{plate}于东门入场，司机电话{mobile}。",
    "报销转账至{bank_card}，回执发{email}。",
    "请联系 {mobile} 或邮件 {email}，水位2.35米。",
    "身份证号：{resident_id}，已核验，工单WO-{number}。",
    "新能源车{plate}充电18.6千瓦时，卡号{bank_card}。",
    "设备{number}号例行检查，油温41.5度，无异常。",
    "交接班完成，流量0.82立方米每秒，备注无。",
)


@dataclass(slots=True)
class Records:
    """Generated records.

    Attributes
    ----------
    lines : JSON lines, UTF-8 text
    identifiers : each as it is written in the lines
    counts : identifiers by class
    """

    lines: list[str] = field(default_factory=list)
    identifiers: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def generate(records: int = RECORDS, seed: int = SEED) -> Records:
    """Return `records` visitor records."""
    rng = random.Random(seed)
    made = Records()
    time = datetime(2014, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    for _ in range(records):
        time += timedelta(seconds=rng.randint(5, 1800))
        name = rng.choice(_SURNAMES) + "".join(rng.sample(_GIVEN, 2))
        found = {"name": name}
        template = rng.choice(_SENTENCES)
        for kind, make in _MAKERS.items():
            if f"{{{kind}}}" in template:
                found[kind] = make(rng)
        text = template.format(number=rng.randint(1000, 9999), **found)
        record = {"ts": time.isoformat(), "visitor": name, "note": text}
        made.lines.append(json.dumps(record, ensure_ascii=False))
        made.identifiers += found.values()
        made.counts.update(found.keys())
    return made


def resident_id(rng: random.Random) -> str:
    """Return a resident number with a right check digit."""
    born = datetime(1950, 1, 1) + timedelta(days=rng.randrange(20_000))
    body = f"{rng.choice(_AREAS)}{born:%Y%m%d}{rng.randrange(1, 1000):03d}"
    return body + _CHECK[sum(int(d) * w for d, w in zip(body, _WEIGHTS, strict=True)) % 11]


def mobile(rng: random.Random) -> str:
    """Return a mobile number; one in four is written in groups."""
    head, middle, tail = rng.choice(_PREFIXES), f"{rng.randrange(10_000):04d}", f"{rng.randrange(10_000):04d}"
    return rng.choice(("", "", "", "-", " ")).join((head, middle, tail))


def bank_card(rng: random.Random) -> str:
    """Return a card number whose last digit is right after Luhn; one in four is written in groups."""
    start = rng.choice(_CARDS)
    body = start + "".join(str(rng.randrange(10)) for _ in range((16 if start[0] == "4" else 19) - 7))
    total = 0
    for place, sign in enumerate(reversed(body)):
        doubled = int(sign) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    number = body + str(-total % 10)
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4)) if rng.random() < 0.25 else number


def plate(rng: random.Random) -> str:
    """Return a vehicle plate: seven characters, or eight of a new-energy car."""
    head = rng.choice(_PROVINCES) + rng.choice("ABCDEFGH")
    if rng.random() < 0.3:
        return f"{head}D{rng.randrange(100_000):05d}"
    tail = "".join(rng.choice(_PLATE_SIGNS) for _ in range(3))
    return f"{head}{tail}{rng.randrange(100):02d}"


def email(rng: random.Random) -> str:
    """Return an e-mail address in a domain that is reserved for examples."""
    return f"{rng.choice(_WORDS)}{rng.randrange(10, 1000)}@{rng.choice(_DOMAINS)}"


_MAKERS = {
    "resident_id": resident_id,
    "mobile": mobile,
    "bank_card": bank_card,
    "plate": plate,
    "email": email,
}
