"""Options of masking: what a policy file may say, and the agent's `masking` section.

A policy is data that a data-protection officer signs: per personal-data class, grade and field it says what
happens to a value. What it does not name is closed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from forebay.blocks import Grade
from forebay.config.base import Duration, Options
from forebay.config.fields import PersonalClass
from forebay.config.operators import KEYED, OPERATOR_STRICTNESS, ClassRule, FieldRule
from forebay.secrets import check_reference

__all__ = ["OPERATOR_STRICTNESS", "ClassRule", "FieldRule"]

TEXT_CLASSES: tuple[str, ...] = (
    *("resident_id", "mobile", "landline", "bank_card", "uscc", "passport", "plate", "vin", "imei"),
    *("email", "ipv4", "ipv6", "mac", "gps", "name", "address"),
)
"""Classes that the scan finds in free text."""

DECLARED_CLASSES: tuple[str, ...] = TEXT_CLASSES
"""Classes that a field may declare and a policy may rule on."""

IMAGE_CLASSES: tuple[str, ...] = ("face", "plate", "person", "text", "identifier")

SENSITIVE_CLASSES: tuple[PersonalClass, ...] = ("resident_id", "passport", "bank_card", "gps", "face")
"""Sensitive personal data after GB/T 35273-2020, annex B: papers, accounts, whereabouts, biometrics."""

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


Cover = Literal["fill", "pixelate", "blur"]
Share = Annotated[float, Field(ge=0, le=1)]
Point = Annotated[
    tuple[Share, Share], Field(description="x and y as shares of the picture's width and height.")
]


class Zone(Options):
    """A part of the picture that is always covered, whatever is in it: a neighbour's window, a screen."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the zone, for reports."""

    polygon: list[Point] = Field(min_length=3, max_length=64)
    """Corners `[x, y]`, each as a share of the picture's width and height from its upper left: `[0.5, 0]`."""

    operator: Cover = "fill"
    """How it is covered."""

    streams: list[str] = Field(default_factory=list)
    """Streams whose pictures have this zone; patterns with `*`. Empty: all."""


class Images(Options):
    """What happens to what detectors find in images."""

    face: Literal["fill", "pixelate", "blur", "pass"] = "fill"
    """Faces. Pixelated and blurred ones can be recognised again by machines; filled ones cannot."""

    plate: Literal["fill", "pixelate", "blur", "pass"] = "fill"
    """Vehicle plates."""

    person: Literal["fill", "pixelate", "blur", "pass"] = "pass"
    """Whole persons."""

    text: Literal["fill", "pixelate", "blur", "pass"] = "pass"
    """Lines of text, printed or written, whatever they say."""

    identifier: Literal["fill", "pixelate", "blur", "pass"] = "pass"
    """Lines of text in which an identifier stands that `classes` does not let pass, and lines that cannot be read.
    Needs the extra `ocr`."""

    zones: list[Zone] = Field(default_factory=list, max_length=64)
    """Parts of the picture that are always covered."""

    margin: float = Field(default=0.1, ge=0, le=2)
    """Added on each side, as a share of the region's width and height."""

    tiles: Annotated[int, Field(ge=1, le=4)] | None = None
    """Look also at N x N overlapping tiles, for small objects; costs up to N x N times more. Left out: what
    suits the detector (persons 2, others 1)."""

    hold: Duration = 500_000_000
    """Video: a region stays covered so long after it was last found, moving and growing, so that a missed
    detection does not flash a face. Where a whole video is masked, also so long before it was first found."""

    blocks: int = Field(default=6, ge=2, le=32)
    """Pixelate: squares along the longer side of the region."""

    quality: int = Field(default=90, ge=10, le=100)
    """Quality of the JPEG written. Images are always written anew, so that no metadata passes."""


class PreviousKey(Options):
    """A key that was used before."""

    id: str = Field(pattern=r"^[a-z0-9]{1,16}$")
    """Name of the key."""

    secret: str
    """Where the secret is."""

    bridge: bool = False
    """Write tokens of this key behind those of the present one, so that old rows still join."""

    @field_validator("secret")
    @classmethod
    def _is_reference(cls, ref: str) -> str:
        return check_reference(ref)


class Keys(Options):
    """The key of tokens and encryption."""

    id: str = Field(pattern=r"^[a-z0-9]{1,16}$")
    """Name of the key, part of every token and of each batch's attestation."""

    tenant: str = Field(default="", max_length=64)
    """Whose data: other tenants get other tokens from the same secret."""

    secret: str
    """Where the secret is: `env:NAME`, `file:PATH`, `credential:NAME`. At least 16 bytes."""

    previous: tuple[PreviousKey, ...] = Field(default=(), max_length=8)
    """Keys of before a rotation: `forebay keys reveal` still opens what they closed."""

    @field_validator("secret")
    @classmethod
    def _is_reference(cls, ref: str) -> str:
        return check_reference(ref)

    @model_validator(mode="after")
    def _names_differ(self) -> Keys:
        ids = [self.id, *(key.id for key in self.previous)]
        if len(set(ids)) < len(ids):
            raise ValueError("two keys have the same `id`")
        return self


class Levels(Options):
    """Rules by level of protection (GB/T 35273), for classes that have no rule of their own."""

    personal: ClassRule | None = None
    """Personal data that is not sensitive."""

    sensitive: ClassRule | None = None
    """Sensitive personal data: what can harm a person when it gets out."""


class StreamRules(Options):
    """What is different in a stream."""

    undeclared: Undeclared | None = None
    """Instead of the policy's own `undeclared`, whole."""

    grades: dict[Grade, Literal["pass", "scan", "suppress"]] = Field(default_factory=dict)
    """Rules by grade that go before the policy's own."""

    classes: dict[ClassName, ClassRule] = Field(default_factory=dict)
    """Rules by class that go before the policy's own."""

    keep_only: tuple[str, ...] = ()
    """Only these fields keep their values, all others become null. Names or patterns with `*`; empty: all."""

    drop_when: tuple[ClassName, ...] = ()
    """A row in which one of these classes was found is dropped whole, and counted."""


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

    levels: Levels = Levels()
    """What happens to classes without a rule of their own."""

    sensitive: tuple[PersonalClass, ...] = SENSITIVE_CLASSES
    """Classes that count as sensitive personal data; the others are personal."""

    grades: dict[Grade, Literal["pass", "scan", "suppress"]] = Field(default_factory=dict)
    """What happens to fields of a grade. The guard stops fields of a grade without a rule."""

    fields: dict[str, FieldRule] = Field(default_factory=dict)
    """Rules for fields by name: `stream.field`, `field`, or patterns with `*`. They go before all others."""

    streams: dict[str, StreamRules] = Field(default_factory=dict)
    """Rules for streams by name or pattern with `*`; the exact name first, then the first that fits."""

    undeclared: Undeclared = Undeclared()
    """What happens to fields that declare nothing."""

    images: Images = Images()
    """What happens to images."""

    keys: Keys | None = None
    """The key that tokens are made with and values encrypted."""

    tests: tuple[dict[str, Any], ...] = ()
    """Records that show what the policy does (config/policy_cases.py); `forebay check` runs them. Not inherited."""

    @model_validator(mode="after")
    def _keyed_operators_have_a_key(self) -> PolicyOptions:
        rules: list[Any] = [*self.classes.values(), *self.fields.values()]
        rules += [self.levels.personal, self.levels.sensitive]
        rules += [rule for stream in self.streams.values() for rule in stream.classes.values()]
        used = next((rule.operator for rule in rules if rule and rule.operator in KEYED), "")
        if self.keys is None and used:
            raise ValueError(
                f"`operator: {used}` needs a key: add `keys: {{id: k1, secret: file:token.key}}`,"
                " or let `forebay keys rotate POLICY` make one"
            )
        return self


class MaskingOptions(Options):
    """The agent's `masking` section."""

    policy: str = "base"
    """`base`, `strict`, or the path of a policy file relative to the configuration."""
