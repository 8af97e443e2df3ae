"""The schema body: what both ends must know of a stream, as deterministic msgpack, addressed by its hash.

The body is a map with the keys of `Schema`; empty and absent values are left out, keys have one order, so
that equal schemas have equal bytes and equal ids. docs/wire-format.md, "Schema body", lists the keys.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack

from forebay.blocks import Field, Grade, Schema, Type
from forebay.errors import WireError

MAX_BODY_BYTES = 1024 * 1024
MAX_FIELDS = 1024
MAX_NAME_BYTES = 256  # names of streams and fields, units, classes
MAX_TEXT_BYTES = 4096  # descriptions, identifiers
MAX_CLASSES = 32
_MAX_EXTRA_KEYS = 64  # of a later version: skipped
_VERSION = 1


def schema_body(schema: Schema) -> bytes:
    """Return the schema's body. Equal schemas give equal bytes."""
    body: dict[str, Any] = {"v": _VERSION, "stream": schema.stream}
    if schema.key:
        body["key"] = schema.key
    body["stamped_by"] = schema.stamped_by
    body["fields"] = [_field_map(field) for field in schema.fields]
    return bytes(msgpack.packb(body, use_bin_type=True))


def _field_map(field: Field) -> dict[str, Any]:
    out: dict[str, Any] = {"name": field.name, "type": field.type.value}
    if field.grade is not None:
        out["grade"] = field.grade.value
    for key in ("unit", "description", "identifier", "media", "given", "model"):
        if value := getattr(field, key):
            out[key] = value
    if field.classes:
        out["classes"] = list(field.classes)
    return out


def body_id(body: bytes) -> bytes:
    """Return the short id of a schema or context body: 8 bytes of BLAKE2b."""
    return hashlib.blake2b(body, digest_size=8).digest()


def parse_schema(body: bytes) -> Schema:
    """Read a schema body, which may be anything at all.

    Parameters
    ----------
    body : untrusted; keys that this version does not know are skipped

    Returns
    -------
    Schema

    Raises
    ------
    WireError : not a schema body, or one beyond the limits of this module
    """
    if len(body) > MAX_BODY_BYTES:
        raise _error("schema", f"expected at most {MAX_BODY_BYTES} bytes, found {len(body)}")
    try:
        unpacked = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_str_len=MAX_TEXT_BYTES,
            max_bin_len=MAX_TEXT_BYTES,
            max_array_len=MAX_FIELDS,
            max_map_len=16 + _MAX_EXTRA_KEYS,
            max_ext_len=0,
        )
    except (ValueError, RecursionError, msgpack.UnpackException):
        # The cause is not chained: its text may hold bytes of the body.
        raise _error("schema", "expected msgpack within the limits of a schema body") from None
    top = _expect(unpacked, dict, "schema")
    if _expect(top.get("v"), int, "schema.v") != _VERSION:
        raise _error("schema.v", f"expected version {_VERSION}, found another")
    fields = _expect(top.get("fields"), list, "schema.fields")
    schema = Schema(
        stream=_text(top, "stream", "schema", MAX_NAME_BYTES, required=True),
        fields=tuple(_field(_expect(f, dict, f"schema.fields[{i}]"), i) for i, f in enumerate(fields)),
        key=_text(top, "key", "schema", MAX_NAME_BYTES),
        stamped_by=_text(top, "stamped_by", "schema", MAX_NAME_BYTES, required=True),
    )
    names = schema.names()
    if len({name.casefold() for name in names}) != len(names):
        raise _error("schema.fields", "expected field names that differ, case folded")
    if schema.key and schema.key not in names:
        raise _error("schema.key", "expected the name of a field")
    return schema


def _field(given: dict[str, Any], index: int) -> Field:
    place = f"schema.fields[{index}]"
    classes = _expect(given.get("classes", []), list, f"{place}.classes")
    if len(classes) > MAX_CLASSES:
        raise _error(f"{place}.classes", f"expected at most {MAX_CLASSES}, found {len(classes)}")
    type_ = _text(given, "type", place, MAX_NAME_BYTES, required=True)
    if type_ not in set(Type):
        raise _error(f"{place}.type", f"expected one of {', '.join(Type)}")
    grade = _text(given, "grade", place, MAX_NAME_BYTES)
    if grade and grade not in set(Grade):
        raise _error(f"{place}.grade", f"expected one of {', '.join(Grade)}")
    return Field(
        name=_text(given, "name", place, MAX_NAME_BYTES, required=True),
        type=Type(type_),
        unit=_text(given, "unit", place, MAX_NAME_BYTES),
        grade=Grade(grade) if grade else None,
        description=_text(given, "description", place, MAX_TEXT_BYTES),
        identifier=_text(given, "identifier", place, MAX_TEXT_BYTES),
        classes=tuple(_string(c, f"{place}.classes[{i}]", MAX_NAME_BYTES) for i, c in enumerate(classes)),
        media=_text(given, "media", place, MAX_NAME_BYTES),
        given=_text(given, "given", place, MAX_TEXT_BYTES),
        model=_text(given, "model", place, MAX_TEXT_BYTES),
    )


def _text(given: dict[str, Any], key: str, place: str, limit: int, required: bool = False) -> str:
    text = _string(given.get(key, ""), f"{place}.{key}", limit)
    if required and not text:
        raise _error(f"{place}.{key}", "expected a text that is not empty")
    return text


def _string(value: Any, place: str, limit: int) -> str:
    text: str = _expect(value, str, place)
    if len(text.encode()) > limit:
        raise _error(place, f"expected at most {limit} bytes, found {len(text.encode())}")
    if "\0" in text:
        raise _error(place, "expected text without NUL")
    return text


def _expect(value: Any, type_: type, place: str) -> Any:
    if type(value) is not type_:
        raise _error(place, f"expected {type_.__name__}, found {type(value).__name__}")
    return value


def _error(place: str, message: str) -> WireError:
    return WireError(message, place=place)
