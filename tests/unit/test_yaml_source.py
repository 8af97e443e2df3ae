"""The YAML reader: the 1.2 core schema, places, and what it refuses."""

import math

import pytest

from forebay.config.findings import ConfigErrors
from forebay.config.yaml_source import MAX_DEPTH, MAX_FILE_BYTES, Document, parse


def read(text: str | bytes) -> Document:
    return parse(text.encode() if isinstance(text, str) else text, "f.yaml")


def refusal(text: str | bytes) -> str:
    with pytest.raises(ConfigErrors) as caught:
        read(text)
    return str(caught.value.errors[0])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("12:30", "12:30"),
        ("2024-05-01", "2024-05-01"),
        ("1_000", "1_000"),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("014", 14),
        ("0o14", 12),
        ("0x1F", 31),
        ("-7", -7),
        ("+7", 7),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("1.2.3", "1.2.3"),
        ("0b11", "0b11"),
        ("=", "="),
        ('"12"', "12"),
        ("'true'", "true"),
        ("'~'", "~"),
        ("|\n  12\n", "12\n"),
    ],
)
def test_scalars_follow_the_1_2_core_schema(written, meant):
    value = read(f"a: {written}").value["a"]
    assert value == meant
    assert type(value) is type(meant)


def test_nan_is_a_number():
    assert math.isnan(read("a: .nan").value["a"])


def test_keys_are_text_as_written():
    assert read("on: 1\n12: 2\ntrue: 3\n~: 4").value == {"on": 1, "12": 2, "true": 3, "~": 4}


def test_every_value_and_key_has_its_place():
    document = read("a:\n  - x\n  - b: 1\n    c:   two\nd: {e: [1, 22]}\n")
    assert document.position(("a", 0)) == (2, 5)
    assert document.position(("a", 1, "c")) == (4, 10)
    assert document.key_position(("a", 1, "c")) == (4, 5)
    assert document.position(("d", "e", 1)) == (5, 12)
    assert document.position(("d", "missing", "deep")) == (5, 4)


def test_columns_count_characters_not_bytes():
    assert read('a: {unit: "°C", next: 1}').position(("a", "next")) == (1, 23)


def test_a_byte_order_mark_is_left_out():
    document = read(b"\xef\xbb\xbfa: 1")
    assert document.value == {"a": 1}
    assert document.position(("a",)) == (1, 4)


def test_an_alias_is_the_anchored_value():
    assert read("a: &x {b: 1}\nc: *x").value == {"a": {"b": 1}, "c": {"b": 1}}


def test_all_recoverable_faults_are_noted_at_once():
    document = read("a: 1\nb:\na: 2\nc: !!str 3\n<<: {}\n? [k]\n: 1\n")
    assert [
        (f.line, f.col, f.message.split(",")[0]) for f in sorted(document.findings, key=lambda f: f.line)
    ] == [
        (2, 3, "expected a value"),
        (3, 1, "the key is there twice"),
        (4, 4, "tag `tag:yaml.org"),
        (5, 1, "merge keys are not part of YAML 1.2"),
        (6, 3, "expected a word as key"),
    ]


def test_the_first_of_two_equal_keys_is_named():
    assert "first in line 1" in str(read("a: 1\n'a': 2").findings[0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found an empty file"),
        ("# only a comment\n", "found an empty file"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: expected one document, found a second"),
        ("a:\n\tb: 1\n", "f.yaml:2:1: a tab where YAML wants spaces"),
        ("a: b: c\n", "f.yaml:1:5: YAML syntax: mapping values are not allowed"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2:2: YAML syntax: did not find expected ',' or ']'"),
        ("a: 'open\n", "unexpected end of stream"),
        ("a: 1\nb: ['x, 2]\nc: 3\nd: 'y'\n", "f.yaml:2:5: a quote is opened here and not closed"),
        ("a:\n  b： 1\n  c: 2\n", "f.yaml:2:4: a full-width `：` where YAML wants an ASCII one (write `:`"),
        ("a: {b: 1， c: 2}\n", "f.yaml:1:9: a full-width `，`"),
        ("a: ｛b: 1｝\n", "f.yaml:1:4: a full-width `｛`"),
        (
            "a:\n　　b: 1\n  c: 2\n",
            "f.yaml:2:1: a wide space where YAML wants an ASCII one (write plain spaces",
        ),
        ("a:\n\xa0\xa0b: 1\n  c: 2\n", "f.yaml:2:1: a no-break space"),
        ("a:\n  b:1\n  c: 2\n", "f.yaml:2:4: a `:` without a space behind it"),
        ("a: 泵房，一号：二\n   b: 1\n", "f.yaml:2:5: YAML syntax: mapping values"),
        ("a: @x\n", "text that begins with @"),
        ("a: *nowhere\n", "f.yaml:1:4: alias `*nowhere` has no anchor"),
        ("a: &x [*x]\n", "f.yaml:1:8: alias `*x` contains itself"),
        (b"a: 1\nb: \xff\xfe\n", "f.yaml:2:4: expected UTF-8 text, found other bytes"),
        ("a: 1".encode("utf-16"), "found UTF-16"),
        ("a: 1\nb: x\x07y\n", "f.yaml:2:5: expected text, found the control character U+0007"),
        ("a: " + "9" * 500, "a number of 500 digits"),
        ("[" * (MAX_DEPTH + 1), "levels deep"),
        ("[" * 50_000, "levels deep"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text, says):
    assert says in refusal(text)


def test_a_full_width_colon_in_a_key_without_a_value_is_named():
    assert "f.yaml:1:8: a.b：1: expected a value, found nothing (`：` is full-width: write `:`)" in [
        str(f) for f in read("a: {b：1}").findings
    ]


def test_full_width_signs_in_texts_and_comments_are_texts():
    text = 'a: 泵房，一号：二  # ：\nb: "x： y"\n# c： d\n'
    assert read(text).value == {"a": "泵房，一号：二", "b": "x： y"}


def test_the_size_limit_is_exact():
    body = b"a: 1\n#"
    assert read(body + b"x" * (MAX_FILE_BYTES - len(body))).value == {"a": 1}
    assert "KiB" in refusal(body + b"x" * (MAX_FILE_BYTES - len(body) + 1))


def test_nested_aliases_cannot_multiply_without_bound():
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "after expanding aliases" in refusal("\n".join(rows))


def test_nested_aliases_cannot_exceed_the_depth():
    rows = ["a0: &a0 [1]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, MAX_DEPTH + 5)]
    assert "levels deep after expanding" in refusal("\n".join(rows))
