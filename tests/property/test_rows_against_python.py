"""Decoding compared with Python's json, csv and float, and the compiled kernel with its twin."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.config.fields import FieldOptions
from forebay.sources.fields import StreamFields
from forebay.sources.formats import CsvDecoder, JsonLinesDecoder, Place
from forebay_core import IMPLEMENTATION
from forebay_core.reference import records as reference_records
from forebay_core.reference import rows as reference_rows
from forebay_core.row_codes import ISO, ROOT, ColumnType, Dest, Kind, Role, Status

needs_both = pytest.mark.skipif(IMPLEMENTATION != "compiled", reason="compares the compiled core")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KEYS = st.sampled_from(["a", "b", "c", "long key", "中", 'q"uote', "back\\slash"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), TEXT)


class StillClock:
    def wall_ns(self) -> int:
        return 10**18

    def monotonic_ns(self) -> int:
        return 0


def rows_of(decoder: Any, data: bytes) -> tuple[list[dict[str, Any]], list[Any]]:
    """Decode all; each row as its non-null cells by given name."""
    rows: list[dict[str, Any]] = []
    rejected: list[Any] = []
    for part in decoder.decode(data, Place("x", 1), final=True):
        rejected += part.rejected
        if part.block is None:
            continue
        block = part.block
        lists = [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]
        for i in range(block.rows):
            row = {}
            for spec, cells in zip(block.schema.fields, lists, strict=True):
                if cells[i] is not None:
                    row[spec.name] = cells[i]
            rows.append(row)
    return rows, rejected


@given(st.floats(allow_nan=False), st.sampled_from(["%r", "%.17g", "%.3f", "%.20e", "%g"]))
@settings(max_examples=150, deadline=None)
def test_any_float_reads_back_bit_for_bit(value: float, layout: str) -> None:
    text = layout % value
    if "inf" in text:
        return
    decoder = JsonLinesDecoder("s", StillClock(), {"v": FieldOptions(type="f64")})
    rows, _ = rows_of(decoder, b'{"v":' + text.encode() + b"}")
    assert struct.pack("<d", rows[0]["v"]) == struct.pack("<d", float(text))


@given(st.integers(0, 10**19), st.integers(-360, 330))
@settings(max_examples=200, deadline=None)
def test_any_digits_and_exponent_become_what_python_reads(digits: int, exponent: int) -> None:
    text = f"{digits}e{exponent}"
    decoder = JsonLinesDecoder("s", StillClock(), {"v": FieldOptions(type="f64")})
    rows, _ = rows_of(decoder, b'{"v":' + text.encode() + b"}")
    assert struct.pack("<d", rows[0]["v"]) == struct.pack("<d", float(text))


@given(
    st.lists(st.dictionaries(KEYS, SCALARS, max_size=5), min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from([(", ", ": "), (",", ":")]),
)
@settings(max_examples=120, deadline=None)
def test_every_json_value_is_kept_under_its_name_or_one_beside_it(
    records: list[dict], ascii_only: bool, separators: tuple[str, str]
) -> None:
    data = "\n".join(json.dumps(r, ensure_ascii=ascii_only, separators=separators) for r in records).encode()
    rows, rejected = rows_of(JsonLinesDecoder("s", StillClock()), data)
    assert rejected == []
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        kept = sorted((k, v) for k, v in record.items() if v is not None)
        assert len(row) == len(kept)
        for name, value in kept:
            cell = next(v for k, v in row.items() if k == name or k.startswith(name + "_"))
            if isinstance(cell, str) and not isinstance(value, str):
                value = json.dumps(value)
            if isinstance(cell, str):
                value = value.replace("\0", "\ufffd")
            assert cell == value


CELLS = st.text(st.sampled_from('ab",\n 中;0'), max_size=6)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8), st.sampled_from(",;"))
@settings(max_examples=150, deadline=None)
def test_csv_text_reads_as_pythons_csv_reads_it(table: list[list[str]], delimiter: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerows([["x", "y", "z"], *table])
    fields = {name: FieldOptions(type="str") for name in "xyz"}
    rows, rejected = rows_of(
        CsvDecoder("s", StillClock(), fields, delimiter=delimiter), out.getvalue().encode()
    )
    assert rejected == []
    expected = list(csv.reader(io.StringIO(out.getvalue(), newline=""), delimiter=delimiter))[1:]
    assert rows == [{k: v for k, v in zip("xyz", cells, strict=True) if v} for cells in expected]


def drive(rows: ModuleType, records: ModuleType, data: bytes, *, as_csv: bool, declared: Any) -> Any:
    """Everything that a kernel says about some bytes."""
    parser = rows.RowParser(max_rows=4, max_record=60, max_str=9, max_nodes=12)
    parser.set_time(bool(data) and data[0] % 2 == 0, ISO if len(data) % 3 else 9, True)
    fields = StreamFields(parser, "s", declared, "k", "t")
    spans = np.zeros((40, 4), np.int64)
    if as_csv:
        count = records.split_csv(data, 0, True, ord(","), spans)
        parser.set_header([fields.add_csv_column(name)[0] for name in ("t", "a", "b")], ord(","))
        for node in range(3):
            if node in fields._entries:  # types open, as after a restart
                fields._route(node, fields._entries[node])
    else:
        count = records.split_lines(data, 0, True, spans)
    out: list[Any] = [count, spans[:count].tolist(), records.split_array(data, spans.copy())]
    at = 0
    for _ in range(400):
        status, at = (parser.parse_csv if as_csv else parser.parse_json)(data, spans[:count], at)
        out.append((int(status), at, parser.rows, parser.ignored))
        if status == Status.STOPPED:
            out.append((parser.node_path(parser.stop_node), int(parser.stop_kind)))
            fields.resolve(parser.stop_node, Kind(parser.stop_kind))
        elif status == Status.FULL:
            out.append(parser.take())
        elif status == Status.RESPLIT:
            at += 1
        else:
            break
    return [*out, parser.take_rejects(), parser.take(), fields.schema, fields.state()]


JSON_BITS = st.sampled_from(
    ['{"t":"2024-05-01T08:00:00Z",', '{"t":1.5,', '"t":"2024-05-01 08:00"', '"a":', '"b":', '"c":',
     '"\\u0061":', "{",
     "}", "[", "]", ",", ":", "1", "-0", "1.5", "1e5", "9007199254740993", "99999999999999999999",
     "01", "null", "true",
     "false", "NaN", '"x"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\q"', "\n", " ", "\r", "\t", '"', "\\",
     "Infinity",
     '{"a":1}', '{"a":2.5,"b":"y"}', '{"a":{"b":[1,"\\u4e2d"]}}', "中", "\x00", '"0123456789"']
)  # fmt: skip
CSV_BITS = st.sampled_from(
    ["2024-05-01T08:00:00Z,", "1,", "2.5,", "007,", "+8613800138000", "true", "NA", "nan", "-inf", "x",
     '"', '""', ",",
     "\n", "\r\n", " ", "\t", "中", "\x00", "99999999999999999999", "9007199254740993", '"q,q"', "1e5",
     "0123456789",
     "2024-05-01T08:00:00Z,1,2\n", "1.5,,\n", ".5", "5.", "-", "--", "1_0", "\x85"]
)  # fmt: skip
DECLARED = st.sampled_from(
    [{}, {"a": FieldOptions(type="f64")}, {"a": FieldOptions(type="i64"), "b": FieldOptions(type="str")},
     {"a": FieldOptions(type="bool")}, {"b": FieldOptions(decimals=1), "A": FieldOptions()}]
)  # fmt: skip


@needs_both
@given(st.lists(JSON_BITS, max_size=14).map("".join), DECLARED)
@settings(max_examples=200, deadline=None)
def test_the_twin_agrees_on_any_json_like_text(text: str, declared: Any) -> None:
    compare(text.encode(), as_csv=False, declared=declared)


@needs_both
@given(st.lists(CSV_BITS, max_size=14).map("".join), DECLARED)
@settings(max_examples=200, deadline=None)
def test_the_twin_agrees_on_any_csv_like_text(text: str, declared: Any) -> None:
    compare(text.encode(), as_csv=True, declared=declared)


@needs_both
@given(st.binary(max_size=80), st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_twin_agrees_on_any_bytes(data: bytes, as_csv: bool) -> None:
    compare(data, as_csv=as_csv, declared={})


def compare(data: bytes, **options: Any) -> None:
    from forebay_core import _records, _rows

    compiled = drive(_rows, _records, data, **options)
    reference = drive(reference_rows, reference_records, data, **options)
    assert repr(compiled) == repr(reference)


ISO_BITS = st.one_of(
    st.datetimes().map(lambda d: d.isoformat() + "Z"),
    st.lists(st.sampled_from(list("0123456789-+:.,TZz /")), max_size=26).map("".join),
    st.from_regex(
        r"20[0-9]{2}[-/](0[1-9]|1[0-2])-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]"
        r"(:[0-6][0-9](\.[0-9]{1,11})?)?(Z|[+-][0-2][0-9]:?[0-6]?[0-9]?)?",
        fullmatch=True,
    ),
    st.from_regex(r"[-+]?[0-9]{0,25}(\.[0-9]{0,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
)  # fmt: skip


@needs_both
@given(ISO_BITS, st.sampled_from([ISO, 9, 6, 3, 0]))
@settings(max_examples=200, deadline=None)
def test_the_twin_agrees_on_any_time(text: str, power: int) -> None:
    from forebay_core import _rows

    data = ('{"t":"' + text + '"}').encode()
    spans = np.array([[0, len(data), len(data), 0]], np.int64)
    results = []
    for module in (_rows, reference_rows):
        parser = module.RowParser()
        parser.set_time(True, power, True)
        parser.set_node(parser.add_node(ROOT, b"t"), Role.TIME, Dest.IGNORE, [Dest.IGNORE] * 8)
        results.append((parser.parse_json(data, spans, 0), parser.take_rejects(), parser.take()))
    assert results[0] == results[1]


def test_infinities_and_nan_in_csv_are_what_python_calls_them() -> None:
    decoder = CsvDecoder("s", StillClock(), {"v": FieldOptions(type="f64")})
    rows, _ = rows_of(decoder, b"v,w\ninf,1\n-Infinity,1\n+INF,1\nnan,1\n")
    assert [row.get("v") for row in rows] == [math.inf, -math.inf, math.inf, None]


def test_the_column_types_have_the_numbers_that_the_kernel_knows() -> None:
    assert [int(t) for t in ColumnType] == [0, 1, 2, 3, 4]
