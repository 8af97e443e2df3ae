"""Options of the masking operators: what a policy may do to a cell or to what was found in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from forebay.config.base import Duration, Options

OPERATOR_STRICTNESS = (
    *("pass", "scan", "noise", "keep", "generalise"),
    *("fpe", "token", "encrypt", "tag", "suppress"),
)
"""Operators from the one that shows most to the one that shows least."""

KEYED = frozenset({"token", "fpe", "encrypt"})
"""Operators that need the policy's key."""

FPE_CLASSES: dict[str, tuple[int, int]] = {
    "resident_id": (10, 15),
    "mobile": (10, 10),
    "landline": (10, 7),
    "bank_card": (10, 12),
    "uscc": (31, 8),
    "passport": (10, 7),
    "plate": (34, 6),
    "vin": (33, 16),
    "imei": (10, 14),
}
"""Classes with a form that encryption can keep: symbols to choose from, fewest symbols that are encrypted."""

MIN_FPE_DOMAIN = 10**6
"""NIST SP 800-38G Rev. 1: fewer possible values could be listed and tried."""


class Pass(Options):
    """Let it through. On a field: unmasked, though the guard still looks at it unless `unguarded`."""

    operator: Literal["pass"]
    """Let it through."""

    unguarded: bool = False
    """For a field: the guard does not search it either. Say so only for what must leave readable."""


class Scan(Options):
    """On a field: search the text and mask what is found."""

    operator: Literal["scan"]
    """Search and mask."""

    ner: bool = False
    """Also find names and addresses by the neural tagger of the extra `ner`: some 300 texts per CPU-second."""


class Suppress(Options):
    """Null the whole cell."""

    operator: Literal["suppress"]
    """Remove the cell's value."""


class Keep(Options):
    """Cover all but the first and last characters; all of them where less than a third would be covered."""

    operator: Literal["keep"]
    """Keep the ends."""

    first: int = Field(default=0, ge=0, le=64)
    """Letters, digits and ideographs kept at the start; separators do not count."""

    last: int = Field(default=0, ge=0, le=64)
    """The same at the end."""

    char: str = "*"
    """The character that covers."""

    @field_validator("char")
    @classmethod
    def _one_sign(cls, char: str) -> str:
        if len(char) != 1 or char.isalnum() or not char.isprintable() or char in '\\"%@:,':
            raise ValueError("expected one sign such as `*`: no letter, digit, quote or separator")
        return char


class Tag(Options):
    """Replace by the class in brackets, e.g. `[email]`."""

    operator: Literal["tag"]
    """Replace by a label."""

    text: str = Field(default="", max_length=64)
    """What to write instead of the class in brackets."""


class Token(Options):
    """Replace by a keyed token: the same for the same value under the same key, so joins still work."""

    operator: Literal["token"]
    """Replace by a token."""

    length: int = Field(default=16, ge=12, le=52)
    """Characters of the token, 5 bits each. 16 make a collision among 10^9 values unlikely (4e-7)."""


class Generalise(Options):
    """Say less exactly: a month for a day, a city for a street. Say exactly one way (`round` and `clip` may
    stand together). What has no such form is replaced by its class in brackets."""

    operator: Literal["generalise"]
    """Say less exactly."""

    date: Literal["day", "month", "year", "decade"] | None = None
    """Dates in text: keep so much of them, written `1984-03-15`, `1984-03`, `1984`, `1980s`."""

    address: Literal["province", "city", "district"] | None = None
    """Chinese addresses: keep them down to this level."""

    grid: float | None = Field(default=None, gt=0, le=45)
    """Coordinates: to the nearest multiple of so many degrees; 0.01 is about 1 km."""

    round: float | None = Field(default=None, gt=0)
    """Numbers: to the nearest multiple."""

    clip: tuple[float, float] | None = None
    """Numbers: those below the first become it, those above the second become that (top and bottom coding)."""

    @model_validator(mode="after")
    def _one_way(self) -> Generalise:
        ways = [w for w in ("date", "address", "grid", "round", "clip") if getattr(self, w) is not None]
        if len(ways) != 1 and ways != ["round", "clip"]:
            raise ValueError("expected one of `date`, `address`, `grid`, `round`, `clip`")
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError("`clip` expects the lower bound first")
        return self

    @property
    def way(self) -> str:
        """Which way: `date`, `address`, `grid` or `number`."""
        return next((w for w in ("date", "address", "grid") if getattr(self, w) is not None), "number")


class Fpe(Options):
    """Encrypt so that the form stays (FF1, NIST SP 800-38G): digits remain digits, check digits are right."""

    operator: Literal["fpe"]
    """Encrypt and keep the form."""

    first: int = Field(default=0, ge=0, le=32)
    """Letters and digits at the start that stay as they are."""

    last: int = Field(default=0, ge=0, le=32)
    """The same at the end; a check digit is not counted, it is always made anew."""

    alphabet: Literal["digits", "alnum"] = "digits"
    """For a field without a class: what is encrypted. Other characters stay where they are."""


class Encrypt(Options):
    """Encrypt with authentication; `forebay keys reveal` turns it back for whoever has the key."""

    operator: Literal["encrypt"]
    """Encrypt."""

    cipher: Literal["aes-gcm", "sm4-gcm"] = "aes-gcm"
    """AES-256-GCM or SM4-GCM. A value encrypted twice gives two texts: joins do not work."""


class Noise(Options):
    """Add Laplace noise to each number of a field, so that no single one can be told (local differential
    privacy). Once the budget of a period is spent, further numbers of that period become null."""

    operator: Literal["noise"]
    """Add noise."""

    epsilon: float = Field(gt=0, le=10)
    """Loss of privacy of one value: the noise has the scale (high - low) / epsilon."""

    range: tuple[float, float]
    """Lowest and highest value; what lies outside is moved to the bound before noise is added."""

    budget: float = Field(gt=0)
    """Sum of the epsilons that a field may spend in a period."""

    period: Duration = 86_400_000_000_000
    """Length of a period by the rows' own time, e.g. `1d`."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Noise:
        if self.range[0] >= self.range[1]:
            raise ValueError("`range` expects the lower bound first")
        if self.budget < self.epsilon:
            raise ValueError("`budget` is less than the `epsilon` of one value, so nothing could pass")
        if self.period <= 0:
            raise ValueError("`period` must be longer than 0")
        return self


ClassRule = Annotated[
    Pass | Suppress | Keep | Tag | Token | Generalise | Fpe | Encrypt, Field(discriminator="operator")
]
"""What may be done with a class."""

FieldRule = Annotated[
    Pass | Scan | Suppress | Keep | Tag | Token | Generalise | Fpe | Encrypt | Noise,
    Field(discriminator="operator"),
]
"""What may be done with a field."""


def class_conflict(class_name: str, rule: Any) -> str:
    """Return why a rule cannot be applied to a class, empty if it can."""
    if isinstance(rule, Generalise):
        fits = {"address": ("address",), "grid": ("gps",)}.get(rule.way, ())
        if class_name not in fits:
            what = f"expected a rule for {' or '.join(fits)}" if fits else "expected it in a rule of `fields`"
            way = rule.way if rule.way != "number" else "round` or `clip"
            return f"`{way}` does not fit class `{class_name}`: {what}"
    if isinstance(rule, Fpe):
        if class_name not in FPE_CLASSES:
            known = ", ".join(FPE_CLASSES)
            return f"`fpe` keeps forms of letters and digits, which `{class_name}` has not; it knows {known}"
        radix, symbols = FPE_CLASSES[class_name]
        left = symbols - max(0, rule.first - _LEADS.get(class_name, 0)) - rule.last
        if left < 1 or radix**left < MIN_FPE_DOMAIN:
            return (
                f"only {max(left, 0)} symbols of the shortest `{class_name}` would be encrypted:"
                f" fewer than {MIN_FPE_DOMAIN:,} values could be tried one by one"
            )
    return ""


_LEADS = {"mobile": 1, "landline": 3, "uscc": 8}  # symbols that stay anyway


def type_conflict(rule: Any, type_: str) -> str:
    """Return why a rule cannot be applied to a column of a type (`str`, `f64`, ...), empty if it can."""
    if rule.operator in ("pass", "suppress"):
        return ""
    number = type_ in ("f64", "i64")
    numeric = isinstance(rule, Noise) or (isinstance(rule, Generalise) and rule.way in ("number", "grid"))
    if isinstance(rule, Noise) and not number:
        return f"`noise` needs numbers, the field is {type_}"
    if number and (numeric or rule.operator == "scan"):
        return ""
    if type_ == "str" or (type_ == "bytes" and rule.operator == "scan"):
        return ""
    return f"`{rule.operator}` needs text, the field is {type_}"
