"""Invented personal data for the benchmarks: numbers with right check digits that belong to nobody we know of."""

from __future__ import annotations

import random

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def mobile(rng: random.Random) -> str:
    """Return a mobile number."""
    return f"13{rng.randrange(10)}{rng.randrange(10**8):08d}"


def resident_id(rng: random.Random) -> str:
    """Return an 18-digit resident number with its check digit (GB 11643)."""
    body = f"441302{rng.randrange(1950, 2005)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
    body += f"{rng.randrange(1000):03d}"
    return body + "10X98765432"[sum(w * int(d) for w, d in zip(_WEIGHTS, body, strict=True)) % 11]


def with_personal_data(ndjson: bytes, share: int = 10, seed: int = 7) -> bytes:
    """Return the events with a text `note` in each; one in `share` holds a mobile or a resident number."""
    rng = random.Random(seed)
    out = []
    for number, line in enumerate(ndjson.splitlines()):
        note = "inspection ok, valve 3 closed"
        if number % share == 0:
            note = f"call {mobile(rng)} ok" if number % (2 * share) else f"id {resident_id(rng)} ok"
        out.append(b'%s,"note":"%s"}\n' % (line[:-1], note.encode()))
    return b"".join(out)


def records(count: int, seed: int = 11) -> list[bytes]:
    """Return text records of about 108 bytes; one in ten holds a mobile and a resident number."""
    rng = random.Random(seed)
    plain = (
        "2026-03-04T05:06:07 pump 3 pressure high, shift B opened bypass valve 12, level normal, "
        "checked by operator"
    )
    out = []
    for number in range(count):
        if number % 10 == 0:
            text = f"2026-03-04T05:06:07 ticket {number:06d}: caller {mobile(rng)} id {resident_id(rng)}"
            text += " reports leak near gate 4"
        else:
            text = f"{plain} {number % 7}"
        out.append(text.encode())
    return out


_SURNAMES, _GIVEN = "王李张刘陈杨赵黄周吴", ("伟", "秀英", "建国", "丽", "志强", "敏", "海燕", "磊")
_PLAIN = "巡检记录:三号泵房压力偏高,已打开旁通阀,水位正常,设备运行平稳,由班组复核"


def chinese_records(count: int, seed: int = 13) -> list[bytes]:
    """Return Chinese records of about 108 bytes; one in ten names a person and a mobile number."""
    rng = random.Random(seed)
    out = []
    for number in range(count):
        text = f"{_PLAIN}{number % 7}"
        if number % 10 == 0:
            name = rng.choice(_SURNAMES) + rng.choice(_GIVEN)
            text = f"工单{number:06d}:联系人:{name},电话{mobile(rng)},反映四号闸门附近漏水,请派人处理"
        out.append(text.encode())
    return out
