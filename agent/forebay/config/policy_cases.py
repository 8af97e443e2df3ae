"""Tests in a policy file: a record, and what must become of it. Loaded only by who runs them."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from forebay.blocks import Grade
from forebay.config.base import Options
from forebay.config.fields import PersonalClass


class GivenField(Options):
    """What a test declares about a field, as a pipeline's `fields` would."""

    grade: Grade | None = None
    """Grade of the data."""

    classes: tuple[PersonalClass, ...] = ()
    """Personal-data classes of the values."""

    unit: str = ""
    """Unit of the values."""


class Changed(Options):
    """Expects anything but the given value."""

    changed: Literal[True]
    """The value differs, or is null."""


class Matches(Options):
    """Expects text of a form."""

    matches: str = Field(max_length=1024)
    """A regular expression for the whole text."""

    @field_validator("matches")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error.msg}") from None
        return pattern


Value = str | bool | int | float


class PolicyTest(Options):
    """One record and what must become of it. Run by `forebay check`, under a key that belongs to nobody."""

    name: str = Field(default="", max_length=200)
    """What is tested."""

    stream: str = "test"
    """Stream that the record comes from."""

    fields: dict[str, GivenField] = Field(default_factory=dict)
    """What is declared about fields."""

    given: dict[str, Value] = Field(min_length=1)
    """The record: texts, numbers and booleans by field. Invented ones only: this file is no place for data."""

    expect: dict[str, Value | Changed | Matches | None] = Field(default_factory=dict)
    """What each field holds afterwards; `null` if its value must be gone. Fields left out are not compared."""

    dropped: bool = False
    """The whole record must be dropped."""

    @model_validator(mode="after")
    def _expects_something(self) -> PolicyTest:
        if not self.dropped and not self.expect:
            raise ValueError("expected `expect` or `dropped: true`: a test that cannot fail tests nothing")
        strange = sorted((set(self.expect) | set(self.fields)) - set(self.given))
        if strange:
            raise ValueError(f"`{strange[0]}` is not among the fields of `given`")
        return self
