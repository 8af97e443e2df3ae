"""Say a value less exactly: dates, Chinese addresses, coordinates, numbers.

Functions take and return text; None means that the text has no such form, and must then not pass.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.config.operators import Generalise

_DATE = re.compile(
    r"\s*([12][0-9]{3})(?:([-/.])(1[0-2]|0?[1-9])\2(3[01]|[12][0-9]|0?[1-9])"
    r"|年(1[0-2]|0?[1-9])月(3[01]|[12][0-9]|0?[1-9])[日号]"
    r"|(1[0-2]|0[1-9])(3[01]|[12][0-9]|0[1-9]))(?![0-9]).*",
    re.DOTALL,
)
_PROVINCE = re.compile(
    r"(?:(?:北京|上海|天津|重庆)市?|[\u4e00-\u9fff]{2,3}省|内蒙古自治区|(?:广西壮族|西藏|宁夏回族|新疆维吾尔)自治区"
    r"|(?:香港|澳门)特别行政区)"
)
_CITY = re.compile(r"[\u4e00-\u9fff]{1,10}?(?:自治州|地区|市|盟)")
_DISTRICT = re.compile(r"[\u4e00-\u9fff]{1,10}?(?:自治县|自治旗|新区|区|县|旗|市)")
_CENTRAL = ("北京", "上海", "天津", "重庆")  # provinces that are cities
_DECIMAL = re.compile(r"[-+]?[0-9]{1,3}\.[0-9]+")


def text_value(rule: Generalise, text: str) -> str | None:
    """Return a text less exactly, None if it has not the form that the rule speaks of."""
    if rule.date is not None:
        return _date(text, rule.date)
    if rule.address is not None:
        return _address(text, rule.address)
    if rule.grid is not None:
        return _coordinates(text, rule.grid)
    return _number(text, rule)


def numbers(rule: Generalise, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers clipped, rounded or on a grid, in their own dtype; NaN stays NaN.

    Raises
    ------
    OverflowError
        An integer would leave its 64 bits.
    """
    step = rule.grid if rule.grid is not None else rule.round
    if values.dtype.kind == "i" and (step is None or step == int(step)):
        return _integers(rule, values, step)
    out = values.astype(np.float64)
    if rule.clip is not None:
        out = np.clip(out, *rule.clip)
    if step is not None:
        # a step of 0.1 has no exact double: dividing by 10 gives 0.3 where multiplying gives 0.30000000000000004
        inverse = 1 / step
        exact = step < 1 and inverse == round(inverse)
        out = np.round(out / step) / inverse if exact else np.round(out / step) * step
    return out if values.dtype.kind == "f" else np.round(out).astype(values.dtype)


def _integers(rule: Generalise, values: npt.NDArray[Any], step: float | None) -> npt.NDArray[Any]:
    # in integers throughout: a double cannot tell neighbours above 2^53 apart
    out = values
    if rule.clip is not None:
        low, high = (max(-(2.0**63), min(float(b), 2.0**63 - 1024)) for b in rule.clip)
        out = np.clip(out, int(np.ceil(low)), int(np.floor(high)))
    if step is not None and step > 1:
        size = int(step)
        rest = out % size
        down = out - rest
        if len(out) and (int(out.max()) > 2**63 - 1 - size or int(out.min()) < -(2**63) + size):
            raise OverflowError("rounding would leave 64 bits")
        out = np.where(2 * rest >= size, down + size, down)
    return np.ascontiguousarray(out, dtype=values.dtype)


def _date(text: str, keep: str) -> str | None:
    match = _DATE.fullmatch(unicodedata.normalize("NFKC", text))
    if match is None:
        return None
    year = match[1]
    month = int(match[3] or match[5] or match[7])
    day = int(match[4] or match[6] or match[8])
    return {
        "decade": f"{year[:3]}0s",
        "year": year,
        "month": f"{year}-{month:02d}",
        "day": f"{year}-{month:02d}-{day:02d}",
    }[keep]


def _address(text: str, level: str) -> str | None:
    text = text.strip()
    province = _PROVINCE.match(text)
    if level == "province":
        return province[0] if province else None
    at = province.end() if province else 0
    central = province is not None and province[0].startswith(_CENTRAL)
    if central:
        city_end = at + 2 if text[at : at + 2] == "市辖" else at
        city_end = city_end + 1 if text[city_end : city_end + 1] == "区" and city_end > at else city_end
    else:
        city = _CITY.match(text, at)
        if city is None:
            return None
        city_end = city.end()
    if level == "city":
        return text[: at if central else city_end]
    district = _DISTRICT.match(text, city_end)
    return text[: district.end()] if district else None


def _coordinates(text: str, grid: float) -> str | None:
    plain = unicodedata.normalize("NFKC", text)
    found = list(_DECIMAL.finditer(plain))
    if len(found) not in (1, 2) or any(c.isdigit() for c in _DECIMAL.sub("", plain)):
        return None  # degrees, minutes and seconds: what is left would still tell the place
    return _DECIMAL.sub(lambda m: _plain(_multiple(Decimal(m[0]), Decimal(repr(grid)))), plain)


def _number(text: str, rule: Generalise) -> str | None:
    try:
        value = Decimal(unicodedata.normalize("NFKC", text).strip())
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value.adjusted()) > 100:
        return None
    if rule.clip is not None:
        low, high = (Decimal(repr(bound)) for bound in rule.clip)
        value = min(max(value, low), high)
    if rule.round is not None:
        value = _multiple(value, Decimal(repr(rule.round)))
    return _plain(value)


def _multiple(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_HALF_EVEN) * step


def _plain(value: Decimal) -> str:
    if value == value.to_integral_value():
        return format(value.to_integral_value(), "f")
    return format(value.normalize(), "f")
