"""Options of masking: what a policy file may say, and the agent's `masking` section.

A policy is data that a data-protection officer signs: per personal-data class, grade and field it says what
happens to a value. What it does not name is closed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from forebay.blocks import Grade
from forebay.config.base import Options
from forebay.secrets import check_reference

TEXT_CLASSES: tuple[str, ...] = (
    *("resident_id", "mobile", "landline", "bank_card", "uscc", "passport", "plate", "vin", "imei"),
    *("email", "ipv4", "ipv6", "mac", "gps", "name", "address"),
)
"""Classes that the scan finds in free text."""

DECLARED_CLASSES: tuple[str, ...] = TEXT_CLASSES
"""Classes that a field may declare and a policy may rule on."""

IMAGE_CLASSES: tuple[str, ...] = ("face", "plate", "person")

OPERATOR_STRICTNESS = ("pass", "scan", "keep", "token", "tag", "suppress")
"""Operators from the one that shows most to the one that shows least."""

ClassName = Literal[
    "resident_id",
    "mobile",
    "landline",
    "bank_card",
    "uscc",
    "passport",
    "plate",
    "vin",
    "imei",
    "email",
    "ipv4",
    "ipv6",
    "mac",
    "gps",
    "name",
    "address",
]


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


ClassRule = Annotated[Pass | Suppress | Keep | Tag | Token, Field(discriminator="operator")]
FieldRule = Annotated[Pass | Scan | Suppress | Keep | Tag | Token, Field(discriminator="operator")]


class Undeclared(Options):
    """What happens to fields that declare neither grade nor class."""

    text: Literal["pass", "scan", "suppress"] = "suppress"
    """Text, and bytes that are no image."""

    number: Literal["pass", "suppress"] = "pass"
    """Numbers and booleans."""

    image: Literal["pass", "mask", "suppress"] = "suppress"
    """Images. `pass` lets them through as they are, metadata included."""

    integer_digits: int = Field(default=10, ge=0, le=19)
    """Whole numbers of at least so many digits are scanned as text; 0: none are."""


class Images(Options):
    """What happens to what detectors find in images."""

    face: Literal["fill", "pixelate", "blur", "pass"] = "fill"
    """Faces. Pixelated and blurred ones can be recognised again by machines; filled ones cannot."""

    plate: Literal["fill", "pixelate", "blur", "pass"] = "fill"
    """Vehicle plates."""

    person: Literal["fill", "pixelate", "blur", "pass"] = "pass"
    """Whole persons."""

    margin: float = Field(default=0.1, ge=0, le=2)
    """Added on each side, as a share of the region's width and height."""

    blocks: int = Field(default=6, ge=2, le=32)
    """Pixelate: squares along the longer side of the region."""

    quality: int = Field(default=90, ge=10, le=100)
    """Quality of the JPEG written. Images are always written anew, so that no metadata passes."""


class Keys(Options):
    """The key of tokens."""

    id: str = Field(pattern=r"^[a-z0-9]{1,16}$")
    """Name of the key, part of every token and of each batch's attestation."""

    tenant: str = Field(default="", max_length=64)
    """Whose data: other tenants get other tokens from the same secret."""

    secret: str
    """Where the secret is: `env:NAME`, `file:PATH`, `credential:NAME`. At least 16 bytes."""

    @field_validator("secret")
    @classmethod
    def _is_reference(cls, ref: str) -> str:
        return check_reference(ref)


class PolicyOptions(Options):
    """A masking policy."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the policy."""

    version: int = Field(ge=1)
    """Raised with every change."""

    extends: str = ""
    """`base`, `strict` or a path relative to this file; what this file does not say is taken from there."""

    classes: dict[ClassName, ClassRule] = Field(default_factory=dict)
    """What happens to identifiers found in text, and to fields that declare a class."""

    grades: dict[Grade, Literal["pass", "scan", "suppress"]] = Field(default_factory=dict)
    """What happens to fields of a grade. The guard stops fields of a grade without a rule."""

    fields: dict[str, FieldRule] = Field(default_factory=dict)
    """Rules for fields by name: `stream.field`, `field`, or patterns with `*`. They go before all others."""

    undeclared: Undeclared = Undeclared()
    """What happens to fields that declare nothing."""

    images: Images = Images()
    """What happens to images."""

    keys: Keys | None = None
    """The key that tokens are made with."""

    @model_validator(mode="after")
    def _tokens_have_a_key(self) -> PolicyOptions:
        rules: list[Any] = [*self.classes.values(), *self.fields.values()]
        if self.keys is None and any(rule.operator == "token" for rule in rules):
            raise ValueError("`operator: token` needs a key: add `keys: {id: k1, secret: file:token.key}`")
        return self


class MaskingOptions(Options):
    """The agent's `masking` section."""

    policy: str = "base"
    """`base`, `strict`, or the path of a policy file relative to the configuration."""
