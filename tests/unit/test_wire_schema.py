"""The schema body: deterministic, addressed by its hash, strict about anything odd."""

from __future__ import annotations

import msgpack
import pytest

from forebay.blocks import Field, Grade, Schema, Type
from forebay.errors import WireError
from forebay.wire.schema import MAX_FIELDS, MAX_NAME_BYTES, body_id, parse_schema, schema_body

FULL = Schema(
    "泵站",
    (
        Field("dev", Type.STR),
        Field(
            "t",
            Type.F64,
            unit="°C",
            grade=Grade.IMPORTANT,
            description="bearing",
            identifier="urn:x:1",
            classes=("gps", "name"),
            media="image",
            given="T",
            model="m@1#ab",
        ),
        Field("n", Type.I64),
        Field("b", Type.BOOL),
        Field("y", Type.BYTES),
    ),
    key="dev",
    stamped_by="gateway",
)


def _map(**changes):
    body = {
        "v": 1,
        "stream": "s",
        "stamped_by": "device",
        "fields": [{"name": "a", "type": "i64"}],
        **changes,
    }
    return msgpack.packb(body)


@pytest.mark.parametrize("schema", [FULL, Schema("s", ()), Schema("s", (Field("a", Type.BOOL),))])
def test_schemas_come_back(schema):
    assert parse_schema(schema_body(schema)) == schema


def test_equal_schemas_have_equal_bodies_and_ids():
    again = parse_schema(schema_body(FULL))
    assert schema_body(again) == schema_body(FULL)
    assert len(body_id(schema_body(FULL))) == 8
    assert body_id(schema_body(FULL)) != body_id(schema_body(Schema("s", FULL.fields)))


def test_the_body_and_its_id_are_golden():
    body = schema_body(Schema("s", (Field("a", Type.I64, unit="V"),)))
    expected = (
        "84a17601a673747265616da173aa7374616d7065645f6279a6646576696365a66669656c64739183a46e616d65a161a4"
    )
    assert body.hex() == expected + "74797065a3693634a4756e6974a156"
    assert body_id(body).hex() == "41aafbbacf6398a9"


def test_keys_of_later_versions_are_skipped():
    body = _map(later={"x": [1, 2]}, fields=[{"name": "a", "type": "i64", "colour": 3}])
    assert parse_schema(body) == Schema("s", (Field("a", Type.I64),))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "schema"),
        (b"\xc1", "schema"),
        (_map() + b"\0", "schema"),
        (msgpack.packb([]), "schema"),
        (msgpack.packb({1: 2}), "schema"),
        (b"\x91" * 5000, "schema"),
        (b"\x81\xa1v\xdd\xff\xff\xff\xff", "schema"),
        (_map(v=2), "schema.v"),
        (_map(v=True), "schema.v"),
        (_map(stream=""), "schema.stream"),
        (_map(stream=5), "schema.stream"),
        (_map(stream=b"s"), "schema.stream"),
        (_map(stream="s\0"), "schema.stream"),
        (_map(stream="s" * (MAX_NAME_BYTES + 1)), "schema.stream"),
        (_map(stamped_by=""), "schema.stamped_by"),
        (_map(key="b"), "schema.key"),
        (_map(fields={}), "schema.fields"),
        (_map(fields=[3]), "schema.fields[0]"),
        (_map(fields=[{"name": "a", "type": "i64"}, {"name": "A", "type": "i64"}]), "schema.fields"),
        (_map(fields=[{"name": "a"}]), "schema.fields[0].type"),
        (_map(fields=[{"name": "a", "type": "f32"}]), "schema.fields[0].type"),
        (_map(fields=[{"type": "i64"}]), "schema.fields[0].name"),
        (_map(fields=[{"name": "a", "type": "i64", "grade": "top"}]), "schema.fields[0].grade"),
        (_map(fields=[{"name": "a", "type": "i64", "classes": "gps"}]), "schema.fields[0].classes"),
        (_map(fields=[{"name": "a", "type": "i64", "classes": ["gps", 3]}]), "schema.fields[0].classes[1]"),
        (_map(fields=[{"name": "a", "type": "i64", "classes": ["g"] * 33}]), "schema.fields[0].classes"),
    ],
)
def test_odd_bodies_are_refused_at_their_place(body, place):
    with pytest.raises(WireError) as caught:
        parse_schema(body)
    assert caught.value.place == place


def test_limits_hold_at_the_limit():
    fields = [{"name": f"f{i}", "type": "i64"} for i in range(MAX_FIELDS)]
    assert len(parse_schema(_map(fields=fields)).fields) == MAX_FIELDS
    with pytest.raises(WireError):
        parse_schema(_map(fields=[*fields, {"name": "one-more", "type": "i64"}]))
    assert parse_schema(_map(stream="s" * MAX_NAME_BYTES)).stream == "s" * MAX_NAME_BYTES
