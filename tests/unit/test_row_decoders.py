"""What decoders make of lines: types, names, quality, what is rejected and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forebay import quality as q
from forebay.blocks import MAX_ROWS, Grade, Type
from forebay.config.fields import FieldOptions
from forebay.config.sources import TimeOptions
from forebay.errors import InputError
from forebay.sources.fields import MAX_FIELDS
from forebay.sources.formats import CsvDecoder, Decoded, Decoder, JsonLinesDecoder, Place
from forebay.sources.times import LocalTimes


class StillClock:
    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000

    def monotonic_ns(self) -> int:
        return 0


CLOCK = StillClock()


def jsonl(**options: Any) -> JsonLinesDecoder:
    return JsonLinesDecoder("s", CLOCK, **options)


def csv(**options: Any) -> CsvDecoder:
    return CsvDecoder("s", CLOCK, **options)


def decode(decoder: Decoder, data: bytes, **options: Any) -> list[Decoded]:
    return list(decoder.decode(data, Place("x.csv", 1), final=True, **options))


def one(decoder: Decoder, data: bytes) -> Decoded:
    parts = decode(decoder, data)
    assert len(parts) == 1
    return parts[0]


def table(part: Decoded) -> dict[str, list[Any]]:
    assert part.block is not None
    pairs = zip(part.block.schema.fields, part.block.columns, strict=True)
    return {f.name: c.to_list(f.type) for f, c in pairs}


def types(part: Decoded) -> dict[str, str]:
    assert part.block is not None
    return {f.name: str(f.type) for f in part.block.schema.fields}


def codes(part: Decoded, name: str) -> list[int]:
    assert part.block is not None
    column = part.block.column(name)
    return [0] * column.rows if column.quality is None else column.quality.tolist()


# -- types -------------------------------------------------------------------------------------------------


def test_undeclared_fields_take_the_type_that_comes() -> None:
    part = one(jsonl(), b'{"a":1,"b":1.5,"c":true,"d":"x","e":[1,2],"f":{"g":1},"h":null}\n')
    assert types(part) == {"a": "i64", "b": "f64", "c": "bool", "d": "str", "e": "str", "f.g": "i64"}
    assert table(part) == {"a": [1], "b": [1.5], "c": [True], "d": ["x"], "e": ["[1,2]"], "f.g": [1]}


def test_integers_followed_by_decimals_widen_within_a_block_and_from_block_to_block() -> None:
    decoder = jsonl()
    assert table(one(decoder, b'{"v":1}\n{"v":2.5}')) == {"v": [1.0, 2.5]}
    decoder = jsonl()
    assert types(one(decoder, b'{"v":1}')) == {"v": "i64"}
    assert types(one(decoder, b'{"v":1.5}\n{"v":3}')) == {"v": "f64"}


def test_integers_beyond_2_53_are_never_widened() -> None:
    part = one(jsonl(), b'{"v":9007199254740993}\n{"v":2.5}\n{"v":3}')
    assert table(part) == {"v": [9007199254740993, None, 3], "v_f64": [None, 2.5, None]}
    part = one(jsonl(), b'{"v":2.5}\n{"v":9007199254740993}')
    assert table(part) == {"v": [2.5, None], "v_i64": [None, 9007199254740993]}


def test_what_does_not_fit_an_undeclared_column_goes_unharmed_to_one_beside_it() -> None:
    lines = b'{"v":1}\n{"v":"x"}\n{"v":true}\n{"v":12345678901234567890123}\n{"v":[1]}'
    part = one(jsonl(), lines)
    assert table(part) == {
        "v": [1, None, None, None, None],
        "v_str": [None, "x", None, "12345678901234567890123", "[1]"],
        "v_bool": [None, None, True, None, None],
    }
    assert part.rejected_counts == {}


def test_text_where_a_number_is_declared_is_null_bad_type_and_counted() -> None:
    fields = {"t": FieldOptions(unit="°C", grade=Grade.GENERAL), "n": FieldOptions(type=Type.I64)}
    part = one(jsonl(fields=fields), b'{"t":"12.5","n":1}\n{"t":2,"n":99999999999999999999}\n{"t":3,"n":1.5}')
    assert table(part) == {"t": [None, 2.0, 3.0], "n": [1, None, None]}
    assert codes(part, "t") == [q.TYPE, 0, 0]
    assert codes(part, "n") == [0, q.OVERFLOW, q.TYPE]
    assert part.rejected_counts == {"type": 2, "overflow": 1}
    assert {r.place for r in part.rejected} == {"x.csv:1", "x.csv:2", "x.csv:3"}
    assert "12.5" not in str(part.rejected)
    assert part.block is not None
    assert part.block.schema.fields[0].unit == "°C"
    assert part.block.schema.fields[0].grade is Grade.GENERAL


def test_declared_fields_are_in_the_schema_before_they_come() -> None:
    part = one(jsonl(fields={"t": FieldOptions(decimals=2)}, key="dev"), b'{"x":1}')
    assert types(part) == {"t": "f64", "dev": "str", "x": "i64"}
    assert codes(part, "t") == [q.MISSING]


def test_decimals_round_and_bytes_come_as_base64() -> None:
    fields = {"v": FieldOptions(decimals=1), "b": FieldOptions(type=Type.BYTES)}
    part = one(jsonl(fields=fields), b'{"v":1.25,"b":"aGk="}\n{"v":1.35,"b":"?"}\n{"v":1e308,"b":5}')
    assert table(part) == {"v": [1.2, 1.4, 1e308], "b": [b"hi", None, None]}
    assert codes(part, "b") == [0, q.TYPE, q.TYPE]


def test_the_key_is_text_unless_declared_otherwise() -> None:
    part = one(jsonl(key="dev"), b'{"dev":17,"v":1}')
    assert table(part) == {"dev": ["17"], "v": [1]}
    assert part.block is not None
    assert part.block.readings() == 1


def test_strings_beyond_the_limit_are_null_bad_size() -> None:
    part = one(jsonl(), b'{"v":"' + b"x" * 65536 + b'"}\n{"v":"' + b"x" * 65537 + b'"}')
    assert codes(part, "v") == [0, q.SIZE]
    assert part.rejected_counts == {"size": 1}


# -- names -------------------------------------------------------------------------------------------------


def test_system_names_and_names_that_differ_in_case_get_a_suffix_and_keep_what_was_given() -> None:
    part = one(jsonl(), b'{"time":1,"Quality":2,"a":3,"A":4,"a_2":5,"":6}')
    assert part.block is not None
    names = [(f.name, f.given) for f in part.block.schema.fields]
    assert names == [
        ("time_2", "time"),
        ("Quality_2", "Quality"),
        ("a", ""),
        ("A_2", "A"),
        ("a_2_2", "a_2"),
        ("_", ""),
    ]


def test_a_declared_field_is_found_in_another_case_and_under_its_name_in_the_source() -> None:
    fields = {"temp": FieldOptions(unit="K"), "flow": FieldOptions(type=Type.F64, **{"from": "data.f"})}
    part = one(jsonl(fields=fields), b'{"TEMP":1,"data":{"f":2}}')
    assert table(part) == {"temp": [1.0], "flow": [2.0]}
    assert part.block is not None
    assert [f.given for f in part.block.schema.fields] == ["TEMP", "data.f"]


def test_endless_new_names_are_bounded_and_counted() -> None:
    lines = b"".join(b'{"k%d":1}\n' % i for i in range(MAX_FIELDS + 50))
    parts = decode(jsonl(), lines)
    assert sum(p.block.rows for p in parts if p.block) == MAX_FIELDS + 50
    assert sum((p.rejected_counts for p in parts), start=type(parts[0].rejected_counts)()) == {"fields": 50}


# -- time --------------------------------------------------------------------------------------------------


def test_rows_without_a_time_of_their_own_are_stamped_by_the_gateway() -> None:
    part = one(jsonl(), b"{}\n{}")
    assert part.block is not None
    assert part.block.time.tolist() == [CLOCK.wall_ns()] * 2
    assert part.block.schema.stamped_by == "gateway"


def test_the_time_is_taken_out_of_the_row() -> None:
    part = one(jsonl(time=TimeOptions(field="meta.ts", unit="ms")), b'{"meta":{"ts":1700000000123},"v":1}')
    assert part.block is not None
    assert part.block.time.tolist() == [1_700_000_000_123_000_000]
    assert types(part) == {"v": "i64"}
    assert part.block.schema.stamped_by == "device"


def test_rows_whose_time_cannot_be_read_are_rejected_with_place_and_hint() -> None:
    data = b'{"ts":"2024-05-01T08:00:00","v":1,"w":2}\n{"ts":5,"v":1}\n{"v":1}\n{"ts":"nonsense"}\n'
    part = one(jsonl(time=TimeOptions(field="ts")), data)
    assert part.block is None
    assert part.rejected_counts == {"time": 5}
    assert [r.place for r in part.rejected] == ["x.csv:1", "x.csv:2", "x.csv:3", "x.csv:4"]
    assert "zone:" in part.rejected[0].detail
    assert "unit:" in part.rejected[1].detail
    assert "nonsense" not in str(part.rejected)


def test_local_times_follow_their_zone_through_both_changes_of_clocks() -> None:
    decoder = csv(time=TimeOptions(field="ts", zone="Europe/Paris"))
    stamps = ["2014-03-30 01:50", "2014-03-30 03:00", "2014-10-26 01:50", "2014-10-26 02:00",
    "2014-10-26 02:50",
              "2014-10-26 02:00", "2014-10-26 02:50", "2014-10-26 03:00", "2014-07-01T00:00:00Z"]  # fmt: skip
    part = one(decoder, ("ts\n" + "\n".join(stamps)).encode())
    assert part.block is not None
    utc = [str(np.datetime64(t, "ns").astype("datetime64[m]")) for t in part.block.time.tolist()]
    assert utc == ["2014-03-30T00:50", "2014-03-30T01:00", "2014-10-25T23:50", "2014-10-26T00:00",
    "2014-10-26T00:50",
                   "2014-10-26T01:00", "2014-10-26T01:50", "2014-10-26T02:00",
                   "2014-07-01T00:00"]  # fmt: skip


def test_a_skipped_local_hour_takes_the_offset_from_before() -> None:
    local = np.array([np.datetime64("2014-03-30T02:30", "ns").astype(np.int64)])
    assert LocalTimes("Europe/Paris").to_utc(local)[0] == np.datetime64("2014-03-30T01:30", "ns").astype(
        np.int64
    )


@pytest.mark.parametrize(("zone", "utc"), [("+08:00", "2014-03-29T18:30"), ("-03:30", "2014-03-30T06:00")])
def test_a_zone_may_be_an_offset(zone: str, utc: str) -> None:
    local = np.array([np.datetime64("2014-03-30T02:30", "ns").astype(np.int64)])
    assert LocalTimes(zone).to_utc(local)[0] == np.datetime64(utc, "ns").astype(np.int64)


# -- CSV ---------------------------------------------------------------------------------------------------


def test_the_first_rows_of_a_csv_decide_on_types() -> None:
    data = b"a,b,c,d,e,f\n1,1,x,true,007,\n2,2.5,3,FALSE,12,NA\n,NaN,4,,1,\n"
    part = one(csv(), data)
    assert types(part) == {"a": "i64", "b": "f64", "c": "str", "d": "bool", "e": "str"}
    assert table(part) == {
        "a": [1, 2, None], "b": [1.0, 2.5, None], "c": ["x", "3", "4"], "d": [True, False, None],
        "e": ["007", "12", "1"],
    }  # fmt: skip
    assert codes(part, "a") == [0, 0, q.NULL]
    assert codes(part, "b") == [0, 0, q.NAN]


def test_only_what_was_declared_is_bad_when_a_row_lacks_it() -> None:
    part = one(jsonl(), b'{"t":1,"note":""}\n{"h":2,"note":null}\n{"t":null}\n')
    assert codes(part, "t") == [0, q.ABSENT, q.NULL], "a number that is there and null is bad in any case"
    assert codes(part, "note") == [0, q.ABSENT, q.ABSENT]
    part = one(csv(), b"t,note\n1,x\n,\n")
    assert codes(part, "t") == [0, q.NULL]
    assert codes(part, "note") == [0, q.ABSENT]
    fields = {"t": FieldOptions(), "note": FieldOptions(type=Type.STR)}
    part = one(jsonl(fields=fields), b'{"t":1,"note":"x"}\n{"note":null}\n')
    assert codes(part, "t") == [0, q.MISSING]
    assert codes(part, "note") == [0, q.NULL]
    levels = [q.level(code) for code in (q.MISSING, q.NULL, q.ABSENT)]
    assert levels == [q.Level.BAD, q.Level.BAD, q.Level.GOOD]


def test_text_that_comes_later_to_a_csv_column_of_numbers_is_kept_beside_it() -> None:
    decoder = csv()
    decode(decoder, b"a\n1\n")
    part = one(decoder, b"ERR-17\n2\n")
    assert table(part) == {"a": [None, 2], "a_str": ["ERR-17", None]}


def test_csv_with_bom_crlf_quotes_newlines_delimiter_and_repeated_headers() -> None:
    data = b'\xef\xbb\xbfname;v;v;\r\n"a;""b""\nc";1;2;3\r\n'
    part = one(csv(delimiter=";"), data)
    assert table(part) == {"name": ['a;"b"\nc'], "v": [1], "v_2": [2], "column_4": [3]}
    assert part.block is not None
    assert part.block.schema.fields[2].given == "v"
    assert (part.consumed, part.lines) == (len(data), 3)


def test_csv_without_a_header_takes_the_configured_names() -> None:
    assert table(one(csv(columns=("a", "b")), b"1,x\n2,y\n")) == {"a": [1, 2], "b": ["x", "y"]}


def test_broken_csv_lines_are_rejected_with_place_and_length_and_the_rest_goes_on() -> None:
    data = b'a,b\n1,2\n1\n1,2,3\n"x"y,2\n\xff,1\n\n3,4\n'
    part = one(csv(), data)
    assert table(part)["b"] == [2, 4]
    assert [(r.reason, r.place, r.length) for r in part.rejected] == [
        ("line", "x.csv:3", 1), ("line", "x.csv:4", 5), ("line", "x.csv:5", 6), ("utf8", "x.csv:6", 3),
    ]  # fmt: skip
    assert part.rejected[0].detail == "expected 2 cells as in the header, found 1"
    assert part.rejected_counts == {"line": 1 + 2 + 1, "utf8": 1}


def test_a_quote_that_is_never_closed_costs_one_line() -> None:
    data = b'a,b\n1,2\n"oops,3\n4,5\n6,7\n'
    part = one(csv(), data)
    assert table(part) == {"a": [1, 4, 6], "b": [2, 5, 7]}
    assert [(r.reason, r.place) for r in part.rejected] == [("line", "x.csv:3")]


def test_a_quote_that_is_closed_many_lines_later_costs_its_own_lines() -> None:
    part = one(csv(), b'a,b\n1,2\n"oops,3\n4,5\n6",7,8\n9,10\n')
    assert table(part) == {"a": [1, 4, 9], "b": [2, 5, 10]}
    assert [r.place for r in part.rejected] == ["x.csv:3", "x.csv:5"]


# -- pieces, limits, state ---------------------------------------------------------------------------------


def rows(parts: list[Decoded]) -> int:
    return sum(p.block.rows for p in parts if p.block)


def test_blocks_have_at_most_the_rows_of_a_block() -> None:
    parts = decode(jsonl(), b'{"a":1}\n' * (2 * MAX_ROWS + 5))
    assert [p.block.rows for p in parts if p.block] == [MAX_ROWS, MAX_ROWS, 5]
    assert [(p.consumed, p.lines, p.whole) for p in parts] == [
        (8000, 1000, True), (16000, 2000, True), (16040, 2005, True),
    ]  # fmt: skip


def test_rows_wait_for_a_full_block_unless_flushed() -> None:
    decoder = jsonl()
    (part,) = decoder.decode(b'{"a":1}\n{"a', Place("x", 1), flush=False)
    assert (part.block, part.consumed, part.whole, decoder.holds_rows) == (None, 8, False, True)
    (part,) = decoder.decode(b'{"a":2}\n', Place("x", 2))
    assert table(part) == {"a": [1, 2]}


@pytest.mark.parametrize("make", [jsonl, csv])
def test_a_line_of_any_length_is_passed_piece_by_piece_and_counted_once(make: Any) -> None:
    decoder = make(max_line=1024)
    list(decoder.decode(b"abc\n" if make is csv else b"{}\n", Place("x", 1)))
    length, pending = 0, b""
    for _ in range(50):
        pending += b"z" * 300
        length += 300
        (part,) = decoder.decode(pending, Place("x", 2))
        pending = pending[part.consumed :]
        assert len(pending) <= 1024
        assert part.rejected == []
    (part,) = decoder.decode(pending + (b"z\n5\n" if make is csv else b'z\n{"abc":5}\n'), Place("x", 2))
    assert [(r.reason, r.place, r.length) for r in part.rejected] == [("size", "x:2", length + 1)]
    assert table(part) == {"abc": [5]}


def test_types_stay_through_a_restart() -> None:
    first = csv(key="k")
    decode(first, b"k,a,b,c,v\nx,1,1.5,,9007199254740993\n")
    second = csv(key="k")
    second.restore(first.state())
    second.enter_file(first.file_state())
    data = b"y,text,3,true,2.5\n"
    part, again = one(first, data), one(second, data)
    assert part.block is not None
    assert again.block is not None
    assert part.block.schema == again.block.schema
    assert table(part) == table(again)
    assert types(again) == {
        "k": "str", "a": "i64", "b": "f64", "c": "bool", "v": "i64", "a_str": "str", "v_f64": "f64",
    }  # fmt: skip


def test_a_field_declared_since_the_restart_has_its_declaration() -> None:
    first = jsonl()
    one(first, b'{"a":1,"b":1}')
    second = jsonl(fields={"a": FieldOptions(type=Type.STR)})
    second.restore(first.state())
    assert table(one(second, b'{"a":1,"b":2}')) == {"a": ["1"], "b": [2]}


@pytest.mark.parametrize(
    "state", [b"", b"\xc1", b"\x93\x01\x02", b"\x93\x63\xc0\x90", b"\x93\x01\xc0\x91\x01"]
)
def test_a_damaged_state_is_a_named_error(state: bytes) -> None:
    with pytest.raises(InputError, match="state"):
        jsonl().restore(state)


def test_messages_hold_one_object_or_an_array_of_them() -> None:
    decoder = jsonl()
    part = decoder.message(b'\n{"a":\n1}\n', Place("topic"))
    assert table(part) == {"a": [1]}
    part = decoder.message(b'[{"a":1},\n 5, {"a":2}]', Place("topic"))
    assert table(part) == {"a": [1, 2]}
    assert [(r.reason, r.place, r.length) for r in part.rejected] == [("line", "topic", 3)]
    assert decoder.message(b'[{"a":1}', Place("topic")).rejected_counts == {"line": 1}
    assert decoder.message(b"[]", Place("topic")).rejected_counts == {}
    many = b"[" + b",".join([b"{}"] * 5000) + b"]"
    assert rows(list(decoder.message_blocks(many, Place("topic")))) == 5000


def test_many_rejected_records_are_all_counted_but_not_all_told() -> None:
    part = one(jsonl(), b"x\n" * 100)
    assert part.rejected_counts == {"line": 100}
    assert len(part.rejected) == 16


def test_a_header_that_is_no_csv_record_is_a_named_error() -> None:
    for header in (b"a,b\rc\n1,2\n", b"x" * 140_000 + b",b\n1,2\n"):
        with pytest.raises(InputError, match="header is no CSV record") as caught:
            decode(csv(), header)
        assert b"x,b" not in str(caught.value).encode()
