"""Base of every options class and the types whose unit is written in the value."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class Options(BaseModel):
    """Base of configuration sections: unknown keys refused, frozen, inputs never shown in errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        str_strip_whitespace=False,
        arbitrary_types_allowed=False,
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe each key by the docstring under its attribute.

        pydantic's own `use_attribute_docstrings` reads the sources of all classes at every start; only a
        JSON Schema needs them.
        """
        from forebay.config.describe import attribute_docstrings

        made = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for name, text in attribute_docstrings(cls).items():
            field = cls.model_fields.get(name)
            shown = properties.get(field.alias or name) if field is not None else None
            if shown is not None and handler.resolve_ref_schema(shown).get("description") != text:
                shown.setdefault("description", text)
        return made


_DURATION_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_SIZE_BYTES = {"B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    _SIZE_BYTES[f"{_letter}iB"] = 1024**_power
    _SIZE_BYTES[f"{_letter}B" if _letter != "K" else "kB"] = 1000**_power


def _quantity(text: Any, units: dict[str, int], what: str, example: str) -> int:
    if not isinstance(text, str):
        if text == 0 and not isinstance(text, bool):
            return 0
        raise ValueError(f"expected {what} with its unit such as `{example}`, found {type(text).__name__}")
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ]+)\s*", text)
    if match is None and text.strip() == "0":
        return 0
    if match is None or match[2] not in units:
        raise ValueError(f"expected {what} with its unit such as `{example}`; units are {', '.join(units)}")
    try:
        value = Decimal(match[1]) * units[match[2]]
    except InvalidOperation as error:  # pragma: no cover - the pattern admits only numbers
        raise ValueError(f"expected {what} such as `{example}`") from error
    if value != value.to_integral_value():
        raise ValueError(f"{what} is finer than its smallest unit, {next(iter(units))}")
    if value >= 2**63:
        raise ValueError(f"{what} is too large")
    return int(value)


def parse_duration(text: Any) -> int:
    """Return nanoseconds of e.g. `10s`, `1.5h`, `250ms`. Raises ValueError."""
    return _quantity(text, _DURATION_NS, "a duration", "10s")


def parse_size(text: Any) -> int:
    """Return bytes of e.g. `64KiB`, `2GiB`, `1MB`. Raises ValueError."""
    return _quantity(text, _SIZE_BYTES, "a size", "64KiB")


def parse_rate(text: Any) -> float:
    """Return units per second of e.g. `5/s`, `300/min`, `0.5/h`. Raises ValueError."""
    match = (
        re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*([a-zµ]+)\s*", text) if isinstance(text, str) else None
    )
    if match is None or match[2] not in _DURATION_NS:
        raise ValueError("expected a rate such as `5/s`")
    return float(match[1]) * 1e9 / _DURATION_NS[match[2]]


def parse_byte_rate(text: Any) -> int:
    """Return bytes a second of e.g. `64KiB/s`. Raises ValueError."""
    if isinstance(text, str) and text.strip() != "0":
        size, slash, second = text.partition("/")
        if not slash or second.strip() != "s":
            raise ValueError("expected bytes a second such as `64KiB/s`")
        return parse_size(size)
    return _quantity(text, {}, "bytes a second", "64KiB/s")


def format_duration(ns: int) -> str:
    """Return the shortest exact text of a duration, e.g. `10s`."""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        if ns and ns % _DURATION_NS[unit] == 0:
            return f"{ns // _DURATION_NS[unit]}{unit}"
    return f"{ns}ns" if ns else "0s"


def format_size(size: int) -> str:
    """Return the shortest exact text of a size, e.g. `64KiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_BYTES[unit] == 0:
            return f"{size // _SIZE_BYTES[unit]}{unit}"
    return f"{size}B"


def _keep_parsed(parse: Any) -> Any:
    # Defaults are written in code as integers and are not validated; a model that is validated again from
    # its own dump sees text once more, so only text passes here.
    return BeforeValidator(parse)


def _schema(pattern: str, example: str) -> WithJsonSchema:
    # The only number that needs no unit is 0; `pattern` binds text, the bounds bind numbers.
    kinds = {"type": ["string", "integer"], "minimum": 0, "maximum": 0}
    return WithJsonSchema({**kinds, "pattern": pattern, "examples": [example]})


Duration = Annotated[
    int,
    _keep_parsed(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    _schema(r"^\s*(0|[0-9]+(\.[0-9]+)?\s*(ns|us|µs|ms|s|m|min|h|d))\s*$", "10s"),
]
"""Nanoseconds; written `10s` in YAML."""

Size = Annotated[
    int,
    _keep_parsed(parse_size),
    PlainSerializer(format_size, return_type=str),
    _schema(r"^\s*(0|[0-9]+(\.[0-9]+)?\s*(B|[KMGT]iB|kB|[MGT]B))\s*$", "64KiB"),
]
"""Bytes; written `64KiB` in YAML."""

Rate = Annotated[
    float,
    _keep_parsed(parse_rate),
    PlainSerializer(lambda per_second: f"{per_second:g}/s", return_type=str),
    _schema(r"^\s*[0-9]+(\.[0-9]+)?\s*/\s*(ns|us|µs|ms|s|m|min|h|d)\s*$", "5/s"),
]
"""Units per second; written `5/s` in YAML."""

ByteRate = Annotated[
    int,
    _keep_parsed(parse_byte_rate),
    PlainSerializer(lambda per_second: f"{format_size(per_second)}/s", return_type=str),
    _schema(r"^\s*(0|[0-9]+(\.[0-9]+)?\s*(B|[KMGT]iB|kB|[MGT]B)\s*/\s*s)\s*$", "64KiB/s"),
]
"""Bytes per second; written `64KiB/s` in YAML."""

ConfigPath = Annotated[
    Path,
    BeforeValidator(lambda v: Path(v) if isinstance(v, str) and v else v),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
"""A path, relative to the configuration file; resolved by the loader's `base` at use."""
