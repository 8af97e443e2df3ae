"""Identifiers that exist nowhere else, and a search for them in everything that was ever written.

Generators and check digits are written from the standards (GB 11643 for resident numbers, ISO/IEC 7812-1 for
cards, GB 32100 for USCC) and share nothing with the product.
"""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from plant import Plant

_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_USCC_SIGNS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_WIDE = str.maketrans("0123456789", "０１２３４５６７８９")


def resident_id(rng: random.Random) -> str:
    """Return a valid 18-character resident identity number."""
    born = f"{rng.randrange(1950, 2010)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
    body = f"441302{born}{rng.randrange(1000):03d}"
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, _ID_WEIGHTS, strict=True)) % 11]


def mobile(rng: random.Random) -> str:
    """Return a mobile number."""
    return f"13{rng.randrange(5, 10)}{rng.randrange(10**8):08d}"


def bank_card(rng: random.Random) -> str:
    """Return a 19-digit card number with its Luhn digit."""
    body = f"622202{rng.randrange(10**12):012d}"
    total = sum(sum(divmod(int(d) * 2, 10)) if i % 2 == 0 else int(d) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def uscc(rng: random.Random) -> str:
    """Return a unified social credit code."""
    body = "91441300MA" + "".join(rng.choice(_USCC_SIGNS) for _ in range(7))
    total = sum(_USCC_SIGNS.index(c) * pow(3, i, 31) for i, c in enumerate(body))
    return body + _USCC_SIGNS[-total % 31]


def email(rng: random.Random) -> str:
    """Return an e-mail address."""
    return f"q{rng.randrange(10**9):09d}.w@mail.example.com"


def plate(rng: random.Random) -> str:
    """Return a vehicle plate of Huizhou (GA 36: at most two letters among the five signs)."""
    signs = [str(rng.randrange(10)) for _ in range(5)]
    for place in rng.sample(range(5), rng.randrange(3)):
        signs[place] = rng.choice("ABCDEFGHJK")
    return "粤L" + "".join(signs)


def landline(rng: random.Random) -> str:
    """Return a landline number of Huizhou."""
    return f"0752-2{rng.randrange(10**6):06d}"


def passport(rng: random.Random) -> str:
    """Return an ordinary passport's number."""
    return f"E{rng.randrange(10**7, 10**8)}"


def new_energy_plate(rng: random.Random) -> str:
    """Return a plate of 8 signs (GA 36: D for cars that drive by current alone)."""
    return f"粤LD{rng.randrange(10**5):05d}"


def vin(rng: random.Random) -> str:
    """Return a vehicle identification number with its check digit (GB 16735)."""
    signs = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
    values = dict(
        zip("ABCDEFGHJKLMNPRSTUVWXYZ", (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True)
    )
    body = (
        "LSVAU"
        + "".join(rng.choice(signs) for _ in range(3))
        + "?"
        + "".join(rng.choice(signs) for _ in range(2))
    )
    body += f"{rng.randrange(10**6):06d}"
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    total = sum(
        (values.get(c) or (int(c) if c.isdigit() else 0)) * w for c, w in zip(body, weights, strict=True)
    )
    return body.replace("?", "0123456789X"[total % 11])


def imei(rng: random.Random) -> str:
    """Return an equipment identity with its Luhn digit (3GPP TS 23.003)."""
    body = f"86{rng.randrange(10**12):012d}"
    total = sum(sum(divmod(int(d) * 2, 10)) if i % 2 == 0 else int(d) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def ipv4(rng: random.Random) -> str:
    """Return an address that nothing here listens on."""
    return ".".join(str(rng.randrange(low, 255)) for low in (112, 100, 100, 100))


def ipv6(rng: random.Random) -> str:
    """Return a global address."""
    return "240e:" + ":".join(f"{rng.randrange(4096, 65536):x}" for _ in range(7))


def mac(rng: random.Random) -> str:
    """Return a hardware address."""
    return ":".join(f"{rng.randrange(16, 256):02X}" for _ in range(6))


def gps(rng: random.Random) -> str:
    """Return a pair of coordinates in Huizhou."""
    return f"{23 + rng.random():.6f},{114 + rng.random():.6f}"


def name(rng: random.Random) -> str:
    """Return a name of three characters."""
    return (
        rng.choice("王李张刘陈杨赵黄周吴")
        + rng.choice("建志晓文国雅雪海")
        + rng.choice("强芳敏磊洋艳勇静峰辉")
    )


def address(rng: random.Random) -> str:
    """Return an address down to the room."""
    road = rng.choice(("云山西路", "麦地路", "文明一路", "演达大道"))
    return f"广东省惠州市惠城区{road}{rng.randrange(100, 999)}号{rng.randrange(10, 60)}栋{rng.randrange(1000, 3000)}房"


MAKERS = {
    "resident_id": resident_id,
    "mobile": mobile,
    "bank_card": bank_card,
    "uscc": uscc,
    "email": email,
    "plate": plate,
}


ALL_MAKERS = MAKERS | {
    "landline": landline,
    "passport": passport,
    "plate8": new_energy_plate,
    "vin": vin,
    "imei": imei,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "mac": mac,
    "gps": gps,
    "name": name,
    "address": address,
}
"""Every class of text that `base` masks."""

SENTENCES = {
    "resident_id": "身份证号 {}",
    "mobile": "联系电话 {}",
    "bank_card": "银行卡号 {}",
    "uscc": "统一社会信用代码 {}",
    "email": "邮箱 {}",
    "plate": "车牌 {}",
    "landline": "座机 {}",
    "passport": "护照号码 {}",
    "plate8": "新能源车 {}",
    "vin": "车架号 {}",
    "imei": "IMEI {}",
    "ipv4": "来源 IP {}",
    "ipv6": "来源 IP {}",
    "mac": "MAC {}",
    "gps": "坐标 {}",
    "name": "姓名：{}，",
    "address": "住址：{}。",
}
"""What stands around them in a record: a word that tells what it is."""


@dataclass(frozen=True, slots=True)
class Canary:
    """One identifier as it was written in a record."""

    kind: str
    plain: str
    written: str


def make(
    count: int, seed: int, makers: Mapping[str, Callable[[random.Random], str]] = MAKERS
) -> list[Canary]:
    """Return identifiers of every kind in turn; some digits in groups, some full-width."""
    rng = random.Random(seed)
    out = []
    for number in range(count):
        kind = list(makers)[number % len(makers)]
        plain = written = makers[kind](rng)
        style = rng.randrange(4)
        if style == 1 and kind == "mobile":
            written = f"{plain[:3]} {plain[3:7]} {plain[7:]}"
        elif style == 1 and kind == "bank_card":
            written = " ".join(plain[i : i + 4] for i in range(0, 19, 4))
        elif style == 2 and kind in ("mobile", "bank_card"):
            written = plain.translate(_WIDE)
        out.append(Canary(kind, plain, written))
    return out


def needles(canary: Canary) -> set[bytes]:
    """Return the byte strings that must not be found: texts in three encodings, numbers as they are stored."""
    texts = {canary.plain, canary.written}
    if canary.kind == "resident_id":
        texts.add(canary.plain[3:-2])  # what `keep` must hide
    if canary.kind == "bank_card":
        texts.add(canary.plain[:-4])
    digits = canary.plain.translate({ord(sign): None for sign in " -"})
    texts |= {digits} if len(digits) >= 10 else set()
    found = {t.encode(code) for t in texts for code in ("utf-8", "utf-16-le", "utf-16-be")}
    found |= {json.dumps(t)[1:-1].encode() for t in texts}
    for raw in [t.encode() for t in texts]:
        found |= {raw.hex().encode(), repr(raw)[2:-1].encode()}
        for shift in range(3):  # base64 of a text in which it begins anywhere: only whole groups are the same
            groups = base64.b64encode(b"\0" * shift + raw)[4 if shift else 0 :]
            whole = groups[: (len(raw) - (3 - shift) % 3) // 3 * 4]
            found |= {whole} if len(whole) >= 8 else set()
    if canary.plain.isdigit():
        number = int(canary.plain)
        if number < 2**63:
            found |= {number.to_bytes(8, "big"), number.to_bytes(8, "little")}
        if 2**31 < number < 2**47:
            found.add(number.to_bytes(6, "big"))  # SQLite's 48-bit integers
            found |= {struct.pack(order + "d", number) for order in "<>"}
    return found


def written_files(plant: Plant) -> dict[Path, bytes]:
    """Return everything under the plant's folder but its input."""
    out = {}
    for path in sorted(plant.folder.rglob("*")):
        if path.is_file() and "input" not in path.relative_to(plant.folder).parts:
            try:
                out[path] = path.read_bytes().rstrip(b"\0")  # the ballast is 8 MiB of zeros
            except FileNotFoundError:  # a WAL that was just folded in
                continue
    return out


def search(places: dict[Path, bytes] | Iterable[bytes], canaries: list[Canary]) -> set[str]:
    """Return the kinds of identifiers that are found, as `kind in place`."""
    named = places if isinstance(places, dict) else {Path("batch"): b"\n".join(places)}
    hits = set()
    for canary in canaries:
        for needle in needles(canary):
            hits |= {f"{canary.kind} in {path.name}" for path, data in named.items() if needle in data}
    return hits


def decoded_spool(plant: Plant) -> list[bytes]:
    """Export every batch of the spool and return what `forebay decode` prints of each."""
    plant.cli("spool", "export", "spool", "--to", "exported")
    files = sorted((plant.folder / "exported").glob("*.fbb"))
    assert files, "nothing waits in the spool: the search would be empty"
    return [plant.cli("decode", path).encode() for path in files]
