"""The rows and records kernels, compiled and reference: one body for both."""

from __future__ import annotations

import json
import math
import struct
import threading
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from forebay import quality
from forebay_core import IMPLEMENTATION, row_codes
from forebay_core.reference import records as reference_records
from forebay_core.reference import rows as reference_rows
from forebay_core.row_codes import ISO, ROOT, ColumnType, Dest, Kind, Reason, Role, Status

IMPLEMENTATIONS = [pytest.param((reference_rows, reference_records), id="reference")]
if IMPLEMENTATION == "compiled":
    from forebay_core import _records, _rows

    IMPLEMENTATIONS.append(pytest.param((_rows, _records), id="compiled"))


@pytest.fixture(params=IMPLEMENTATIONS)
def core(request: pytest.FixtureRequest) -> tuple[ModuleType, ModuleType]:
    return request.param


def split(core: Any, data: bytes, *, final: bool = True) -> np.ndarray:
    spans = np.zeros((64, 4), np.int64)
    return spans[: core[1].split_lines(data, 0, final, spans)]


def one_column(core: Any, type_: ColumnType, lines: list[str], *, takes: str = "all", **options: int) -> Any:
    """Return the cells and codes of key `v`, and the reasons of rejected lines."""
    parser = core[0].RowParser(**options)
    column = parser.add_column(type_)
    node = parser.add_node(ROOT, b"v")
    dest = [column] * 8
    if takes == "numbers":
        dest = [Dest.TYPE, column, column, column, column, column, Dest.TYPE, Dest.TYPE]
    parser.set_node(node, Role.FIELD, column, dest)
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    status, _ = parser.parse_json(data, split(core, data), 0)
    assert status == Status.DONE
    rejects = [r[1] for r in struct.iter_unpack("<4q", parser.take_rejects())]
    rows = parser.rows
    _, _, _, columns = parser.take()
    values, offsets, codes = columns[0]
    codes = list(codes or bytes(rows))
    if type_ is ColumnType.STR:
        ends = struct.unpack(f"<{rows + 1}q", offsets)
        cells: list[Any] = [values[a:b].decode() for a, b in pairwise(ends)]
    else:
        cells = list(struct.unpack(f"<{rows}{'d' if type_ is ColumnType.F64 else 'q'}", values))
    return cells, codes, rejects


def test_the_compiled_core_is_loaded_unless_pure_was_asked_for() -> None:
    from forebay_core import rows

    module = "forebay_core._rows" if IMPLEMENTATION == "compiled" else "forebay_core.reference.rows"
    assert rows.RowParser.__module__ == module


def test_quality_codes_of_the_kernel_are_those_of_the_product() -> None:
    for name in ("MISSING", "NULL", "NAN", "TYPE", "SIZE", "OVERFLOW"):
        assert getattr(row_codes, name) == getattr(quality, name)


@pytest.mark.parametrize(
    "text",
    ["0", "-0", "1", "-1.5", "0.1", "1e22", "1e23", "123456789012345678", "9007199254740993", "2.5e-324",
     "4.9e-324", "1.7976931348623157e308", "1.8e308", "-1e999", "2.2250738585072011e-308",
     "0.30000000000000004",
     "7.2057594037927933e16", "1448997445238699", "9214843084008499.5", "8.5e-310", "1e-400", "0e999999999",
     "123456789012345678901234567890", "0.000000000000000000000000000000000000000123456789",
     "9007199254740992.5", "179769313486231580793728971405301e276", "1" * 5000, "3.14159265358979323846"],
)  # fmt: skip
def test_numbers_become_the_double_that_python_makes_of_them(core: Any, text: str) -> None:
    (value,), codes, rejects = one_column(core, ColumnType.F64, [f'{{"v":{text}}}'])
    assert rejects == []
    assert codes == [0]
    assert struct.pack("<d", value) == struct.pack("<d", float(text))


PLAIN_OR_NOT = [
    "0", "-0", "-0.0", "00", "-", "1.", ".5", "1.0", "-12.50", "999999999999999", "-999999999999999",
    "1000000000000000", "99999999999999.9", "0.00000000000001", "0.000000000000001", "1e3", "1.5e3", "12a",
    "1 ", " 1", "1\t", "9007199254740993", "9223372036854775807", "null", "true", '"1"', "1,", "1}", "+1", "--1",
]  # fmt: skip


@pytest.mark.parametrize("type_", [ColumnType.F64, ColumnType.I64, ColumnType.STR])
@pytest.mark.parametrize("text", PLAIN_OR_NOT)
def test_a_member_reads_the_same_where_it_is_expected_and_where_it_is_not(
    core: Any, type_: ColumnType, text: str
) -> None:
    first = one_column(core, type_, [f'{{"v":{text}}}'], takes="numbers")
    cells, codes, rejects = one_column(core, type_, ['{"v":7}', f'{{"v":{text}}}'], takes="numbers")
    assert (cells[1:], codes[1:], rejects) == first
    assert [math.copysign(1, c) for c in cells[1:] if type_ is ColumnType.F64] == [
        math.copysign(1, c) for c in first[0] if type_ is ColumnType.F64
    ]
    spaced = one_column(core, type_, ['{"v":7}', f'{{ "v" : {text} }}'], takes="numbers")
    assert spaced == (cells, codes, rejects)


@pytest.mark.parametrize("power", [0, 3, 6, 9])
@pytest.mark.parametrize("text", ["1760000000003", "-1", "0", "99999999999999", "1.5", "9223372036854775"])
def test_a_time_reads_the_same_where_it_is_expected_and_where_it_is_not(
    core: Any, text: str, power: int
) -> None:
    time, _, rejects = times(core, [text], power)
    after, _, rejects_after = times(core, ["7", text], power)
    assert (after[1:], rejects_after) == (time, rejects)


def test_integers_keep_every_digit_and_say_when_they_do_not_fit(core: Any) -> None:
    texts = ["9223372036854775807", "-9223372036854775808", "9223372036854775808", "5.0", "1e3", "5.5", "-7"]
    cells, codes, _ = one_column(core, ColumnType.I64, [f'{{"v":{t}}}' for t in texts], takes="numbers")
    assert cells == [2**63 - 1, -(2**63), 0, 5, 1000, 0, -7]
    assert codes == [0, 0, quality.OVERFLOW, 0, 0, quality.TYPE, 0]


def test_null_missing_nan_and_text_each_have_their_own_quality(core: Any) -> None:
    lines = ['{"v":null}', "{}", '{"v":NaN}', '{"v":"x"}', '{"v":true}', '{"v":[1]}', '{"v":-Infinity}']
    cells, codes, _ = one_column(core, ColumnType.F64, lines, takes="numbers")
    q = quality
    assert codes == [q.NULL, q.MISSING, q.NAN, q.TYPE, q.TYPE, q.TYPE, 0]
    assert cells == [0, 0, 0, 0, 0, 0, -math.inf]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"plain", "plain"),
        (r"a\"b\\c\/d\b\f\n\r\t", 'a"b\\c/d\b\f\n\r\t'),
        (r"\u4e2d\u6587 中文", "中文 中文"),
        (r"\ud83d\ude00", "😀"),
        (r"\ud83d", "\ufffd"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\u0041", "\ufffdA"),
        (r"\ud83dx", "\ufffdx"),
        (r"a\u0000b", "a\ufffdb"),
        (r"\u00e9\u0020\u0022", 'é "'),
        ("", ""),
    ],
)
def test_strings_are_decoded_with_nul_and_lone_surrogates_replaced(core: Any, raw: str, text: str) -> None:
    cells, codes, rejects = one_column(core, ColumnType.STR, [f'{{"v":"{raw}"}}'])
    assert (cells, codes, rejects) == ([text], [0], [])


def test_str_columns_take_any_value_as_its_text(core: Any) -> None:
    lines = ['{"v":1.50}', '{"v":true}', '{"v":[1, {"a":"\\u4e2d\\u0022\\/"}]}', '{"v":12345678901234567890}']
    cells, _, _ = one_column(core, ColumnType.STR, lines)
    assert cells == ["1.50", "true", '[1, {"a":"中\\u0022/"}]', "12345678901234567890"]


BROKEN = [
    "", "x", "[1]", "1", '"a"', "{", '{"v"}', '{"v":}', '{"v":1,}', '{"v":1}}', '{"v":1} x', '{v:1}',
    '{"v":01}',
    '{"v":1.}', '{"v":.5}', '{"v":+1}', '{"v":1e}', '{"v":-}', '{"v":tru}', '{"v":"a}', '{"v":"\\x"}',
    '{"v":"\\u12g4"}', '{"v":"\\u12"}', '{"v":"a\tb"}', '{"v":[1,]}', '{"v":[1 2]}', '{"v":{"a":1]}}',
    '{"v":"a\\"}', "{'v':1}", '{"v":1;"w":2}', '{"w":"\\q"}', '{"w":[{"a":}]}',
    '{"v":' + "[" * 70 + "]" * 70 + "}",
]  # fmt: skip


@pytest.mark.parametrize("line", BROKEN[1:])
def test_a_broken_line_is_rejected_and_leaves_nothing_behind(core: Any, line: str) -> None:
    lines = ['{"v":"before"}', line, '{"v":"after"}']
    cells, codes, rejects = one_column(core, ColumnType.STR, lines, max_nodes=1)
    assert (cells, codes) == (["before", "after"], [0, 0])
    assert rejects == [Reason.LINE]


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8"]
)
def test_invalid_utf8_is_a_rejected_line(core: Any, bad: bytes) -> None:
    parser = core[0].RowParser()
    data = b'{}\n{"v":"' + bad + b'"}\n{}'
    assert parser.parse_json(data, split(core, data), 0) == (Status.DONE, 3)
    assert [r[:2] for r in struct.iter_unpack("<4q", parser.take_rejects())] == [(1, Reason.UTF8)]
    assert parser.rows == 2


def test_limits_hold_one_below_and_one_above(core: Any) -> None:
    cells, codes, _ = one_column(core, ColumnType.STR, ['{"v":"abcd"}', '{"v":"abcde"}'], max_str=4)
    assert (cells, codes) == (["abcd", ""], [0, quality.SIZE])
    _, _, rejects = one_column(core, ColumnType.STR, ['{"v":"abc"}', '{"v":"abcd"}'], max_record=11)
    assert rejects == [Reason.SIZE]


def test_the_last_of_two_equal_keys_counts(core: Any) -> None:
    cells, _, _ = one_column(
        core, ColumnType.STR, ['{"v":"first","v":"2"}', '{"v":"x","v":null}', '{"v":"z"}']
    )
    assert cells == ["2", "", "z"]


def test_an_unknown_key_stops_at_its_row_and_goes_on_from_there(core: Any) -> None:
    parser = core[0].RowParser()
    data = b'{"a":1}\n{"a":2,"b":{"c\\u002ed":"x"}}\n'
    spans = split(core, data)
    column = parser.add_column(ColumnType.I64)
    parser.set_node(parser.add_node(ROOT, b"a"), Role.FIELD, column, [column] * 8)
    assert parser.parse_json(data, spans, 0) == (Status.STOPPED, 1)
    assert parser.rows == 1
    assert parser.node_path(parser.stop_node) == (b"b", b"c.d")
    assert parser.stop_kind == Kind.TEXT
    text = parser.add_column(ColumnType.STR)
    parser.set_node(parser.stop_node, Role.FIELD, text, [text] * 8)
    assert parser.parse_json(data, spans, 1) == (Status.DONE, 2)
    _, _, _, columns = parser.take()
    assert columns[0] == (struct.pack("<2q", 1, 2), None, None)
    assert columns[1] == (b"x", struct.pack("<3q", 0, 0, 1), bytes([quality.MISSING, 0]))


def test_keys_beyond_the_limit_are_counted_not_kept(core: Any) -> None:
    parser = core[0].RowParser(max_nodes=1)
    parser.set_node(parser.add_node(ROOT, b"a"), Role.FIELD, Dest.IGNORE, [Dest.IGNORE] * 8)
    data = b'{"b":1,"c":{"d":[1,2]}}\n{"a":1}'
    assert parser.parse_json(data, split(core, data), 0) == (Status.DONE, 2)
    assert parser.ignored == 3
    assert parser.add_node(ROOT, b"z") == -1


ISO_TIMES = [
    ("1970-01-01T00:00:00Z", 0),
    ("2014-01-01T00:10:00Z", 1388535000 * 10**9),
    ("2024-02-29 23:59:59.123456789+08:00", 1709222399123456789),
    ("2024-02-29t23:59:59,5-0330", 1709263799500000000),
    ("2024/05/01 08:00+08", 1714521600 * 10**9),
    ("2016-12-31T23:59:60Z", 1483228800 * 10**9),
    ("1969-12-31T23:59:59.999999999Z", -1),
    ("2024-05-01T08:00:00.1234567899Z", 1714550400123456789),
]


def times(
    core: Any, texts: list[str], power: int, *, naive: bool = False
) -> tuple[list[int], list[int], list[int]]:
    parser = core[0].RowParser()
    parser.set_time(True, power, naive)
    parser.set_node(parser.add_node(ROOT, b"t"), Role.TIME, Dest.IGNORE, [Dest.IGNORE] * 8)
    data = "\n".join(f'{{"t":{text}}}' for text in texts).encode()
    parser.parse_json(data, split(core, data), 0)
    rejects = [r[1] for r in struct.iter_unpack("<4q", parser.take_rejects())]
    rows = parser.rows
    time, local, _, _ = parser.take()
    return list(struct.unpack(f"<{rows}q", time)), list(local), rejects


@pytest.mark.parametrize(("text", "expected"), ISO_TIMES)
def test_iso_times_become_ns(core: Any, text: str, expected: int) -> None:
    assert times(core, [json.dumps(text)], ISO) == ([expected], [0], [])


@pytest.mark.parametrize(
    "text",
    ["", "2024", "2024-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2024-01-01T24:00:00Z",
     "2024-01-01T00:60:00Z",
     "2024-01-01T00:00:61Z", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00.Z", "2024-01-01T0:00Z",
     "1600-01-01T00:00:00Z", "2300-01-01T00:00:00Z", "2024-01-01X00:00:00Z", "2024-01/01T00:00:00Z",
     "2024-01-01T00:00:00Zx", "2024-01-01T00:00:0", "2024-01-01T00:00:00+8", "中文"],
)  # fmt: skip
def test_text_that_is_no_time_rejects_the_record(core: Any, text: str) -> None:
    assert times(core, [json.dumps(text, ensure_ascii=False)], ISO) == ([], [], [Reason.TIME])


def test_a_time_without_zone_needs_leave_and_is_flagged(core: Any) -> None:
    text = '"2024-05-01T08:00:00"'
    assert times(core, [text], ISO)[2] == [Reason.TIME_NAIVE]
    assert times(core, [text, '"2024-05-01"'], ISO, naive=True)[:2] == (
        [1714550400 * 10**9, 1714521600 * 10**9],
        [1, 1],
    )


def test_times_as_numbers_are_exact_to_the_nanosecond(core: Any) -> None:
    texts = ["1700000000.123456789", '"1700000000.5"', "-1.5", "1.7e9", "0", "1700000000.12345678987654321"]
    stamps = [1700000000123456789, 1700000000500000000, -1500000000, 17 * 10**17, 0, 1700000000123456789]
    assert times(core, texts, 9) == (stamps, [0] * 6, [])
    assert times(core, ["1700000000123.25"], 6)[0] == [1700000000123250000]
    assert times(core, ["9223372036854775807", "-9223372036854775807"], 0)[0] == [2**63 - 1, -(2**63) + 1]


def test_times_out_of_range_or_of_the_wrong_kind_are_rejected(core: Any) -> None:
    assert (
        times(core, ["1e10", "9223372036854775808", '"x"', "null", "true", "[1]", "1e99999999"], 9)[2]
        == [5] * 7
    )
    assert times(core, ["1700000000"], ISO)[2] == [Reason.TIME_NUMBER]


def test_a_row_without_a_time_is_rejected_with_its_count_of_values(core: Any) -> None:
    parser = core[0].RowParser()
    parser.set_time(True, ISO, False)
    column = parser.add_column(ColumnType.I64)
    for key in (b"a", b"b"):
        parser.set_node(parser.add_node(ROOT, key), Role.FIELD, column, [column] * 8)
    data = b'{"a":1,"b":2}'
    parser.parse_json(data, split(core, data), 0)
    assert list(struct.iter_unpack("<4q", parser.take_rejects())) == [(0, Reason.TIME_MISSING, 2, 0)]


def test_a_full_block_is_handed_out_before_more_is_read(core: Any) -> None:
    parser = core[0].RowParser(max_rows=2)
    data = b"{}\n\n{}\n{}\n"
    spans = split(core, data)
    assert parser.parse_json(data, spans, 0) == (Status.FULL, 3)
    _, _, lines, _ = parser.take()
    assert struct.unpack("<2q", lines) == (0, 2)
    assert parser.parse_json(data, spans, 3) == (Status.DONE, 4)
    assert parser.rows == 1


def test_read_only_and_other_buffers_pass(core: Any) -> None:
    data = np.frombuffer(b"{}\n{}\n", np.uint8)
    spans = split(core, data)
    spans.setflags(write=False)
    assert core[0].RowParser().parse_json(data, spans, 0)[1] == 2
    assert core[0].RowParser().parse_json(b"", spans[:0], 0) == (Status.DONE, 0)


def test_spans_outside_of_the_data_are_refused(core: Any) -> None:
    for span in ([0, 3, 3, 0], [-1, 1, 1, 0], [2, 1, 2, 0]):
        with pytest.raises(ValueError, match="outside"):
            core[0].RowParser().parse_json(b"{}", np.array([span]), 0)


def test_misuse_is_refused(core: Any) -> None:
    parser = core[0].RowParser()
    column = parser.add_column(ColumnType.F64)
    with pytest.raises(ValueError, match="fixed"):
        parser.set_type(column, ColumnType.STR)
    with pytest.raises(ValueError, match="no such node"):
        parser.set_node(0, Role.FIELD, column, [column] * 8)
    node = parser.add_node(ROOT, b"a")
    with pytest.raises(ValueError, match="no such column"):
        parser.set_node(node, Role.FIELD, column + 1, [column] * 8)
    with pytest.raises(ValueError, match="needs a column"):
        parser.set_node(node, Role.FIELD, Dest.IGNORE, [Dest.TYPE] * 8)


def test_csv_records_end_at_newlines_outside_of_quotes(core: Any) -> None:
    spans = np.zeros((9, 4), np.int64)
    data = b'a,b\r\n"x\ny","q""\n"\n5" pipe,"z"\n"open,\n'
    count = core[1].split_csv(data, 0, False, ord(","), spans)
    assert [data[a:b] for a, b, _, _ in spans[:count].tolist()] == [b"a,b", b'"x\ny","q""\n"', b'5" pipe,"z"']
    assert spans[:count, 3].tolist() == [0, 1, 4]
    assert core[1].split_csv(data, 0, True, ord(","), spans) == 4


@pytest.mark.parametrize(
    ("text", "elements"),
    [(b" [1, {\"a\":[2,3]}\n, \"],\"] ", [b"1", b' {"a":[2,3]}\n', b' "],"']), (b"[]", []), (b"[ ]", []),
     (b"{}", None), (b"[1", None), (b"[1]]", None), (b"[1}", None), (b'["\\"]', None), (b"", None),
     (b"[", None)],
)  # fmt: skip
def test_json_arrays_are_cut_into_elements(core: Any, text: bytes, elements: list[bytes] | None) -> None:
    spans = np.zeros((9, 4), np.int64)
    count = core[1].split_array(text, spans)
    assert (None if count < 0 else [text[a:b] for a, b, _, _ in spans[:count].tolist()]) == elements


def test_other_threads_run_while_the_kernel_parses(core: Any) -> None:
    if core[0] is reference_rows:
        pytest.skip("plain Python holds the GIL")
    parser = core[0].RowParser(max_rows=200_000)
    data = b'{"a":"' + b"x" * 60 + b'"}\n'
    data *= 100_000
    spans = np.zeros((100_000, 4), np.int64)
    core[1].split_lines(data, 0, True, spans)
    parser.set_node(parser.add_node(ROOT, b"a"), Role.FIELD, Dest.IGNORE, [Dest.IGNORE] * 8)
    beats, stop = [0], threading.Event()

    def beat() -> None:
        while not stop.is_set():
            beats[0] += 1

    thread = threading.Thread(target=beat)
    thread.start()
    before = beats[0]
    for _ in range(20):
        parser.parse_json(data, spans, 0)
        parser.clear()
    stop.set()
    thread.join()
    assert beats[0] > before
