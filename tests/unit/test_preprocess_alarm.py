"""Alarms: the language of conditions and the step."""

from typing import Any

import numpy as np
import pytest

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Grade, Lane, Schema, Type
from forebay.config.expression import parse
from forebay.config.preprocess import AlarmOptions
from forebay.preprocess import StreamStep, build

S = 10**9


def alarm(when: str, *, key: str = "", **options: Any) -> StreamStep:
    return build("alarm", AlarmOptions.model_validate({"when": when, **options}), key=key)


def rows(
    at: Any = None, *, key: str = "", codes: dict[str, list[int]] | None = None, **columns: Any
) -> Block:
    types = {float: Type.F64, int: Type.I64, str: Type.STR, bool: Type.BOOL}
    n = len(next(iter(columns.values())))
    fields, cells = [], []
    for name, values in columns.items():
        type_ = types[type(next(v for v in values if v is not None))]
        fields.append(Field(name, type_))
        cells.append(
            Column.of(type_, values, None if not codes or name not in codes else np.array(codes[name]))
        )
    times = (np.array(range(n) if at is None else at, dtype=np.float64) * S).astype(np.int64)
    return Block(Schema("pump", tuple(fields), key), times, tuple(cells))


def events(step: StreamStep, given: Block) -> list[tuple[int, str]]:
    """Return (second, state) of each alarm row; the data must come out as it went in."""
    *alarms, data = step.process(given)
    assert data is given
    out = []
    for made in alarms:
        out += zip((made.time // S).tolist(), made.column("state").to_list(Type.STR), strict=True)
    return out


def holds(when: str, **columns: Any) -> list[bool]:
    """Return at which rows a condition holds, each row judged by itself."""
    given, out = rows(**columns), []
    for row in range(given.rows):
        out.append(bool(events(alarm(when), given.take(slice(row, row + 1)))))
    return out


@pytest.mark.parametrize(
    ("when", "wanted"),
    [
        ("t > 3", [False, False, True]),
        ("t >= 3", [False, True, True]),
        ("3 < t", [False, False, True]),
        ("t == 3 or t < 0", [True, True, False]),
        ("not t > 3", [True, True, False]),
        ("not (t > 3 or t < 0) and n != 5", [False, True, False]),
        ("-1 < t <= 3", [False, True, False]),
        ("abs(t) > 3.5 and n > 1e0", [True, False, True]),
        ("t + n * 2 - 1 > 6", [False, False, True]),
        ("(t + n) * 2 > 11", [False, False, True]),
        ("n / 2 > 1.4", [False, False, True]),
        ("max(t, n) > 3 and min(t, n) < 3", [False, False, False]),
        ("-t > 3", [True, False, False]),
        ('st == "run"', [True, False, False]),
        ("'停' == st", [False, True, False]),
        ('st != "run"', [False, True, True]),
        ("st == ''", [False, False, True]),
        ("on", [True, False, True]),
        ("not on", [False, True, False]),
        ("on == true", [True, False, True]),
        ("温度 > 20 and `a b-c` > 0", [False, True, True]),
        ("T > 3", [False, False, True]),
        ("t / (n - 1) > 0", [False, True, True]),
        ("(t > 3) == (n > 2)", [True, True, True]),
    ],
)
def test_conditions_mean_what_they_say(when: str, wanted: list[bool]) -> None:
    data = {
        "t": [-4.0, 3.0, 4.0], "n": [1, 2, 3], "st": ["run", "停", ""], "on": [True, False, True],
        "温度": [1.0, 21.0, 22.0], "a b-c": [1, 2, 3],
    }  # fmt: skip
    if when.startswith("abs"):
        data["n"] = [2, 2, 3]
    if when.startswith("max"):
        wanted = [(max(a, b) > 3 and min(a, b) < 3) for a, b in zip(data["t"], data["n"], strict=True)]
    assert holds(when, **data) == wanted


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "a condition is expected"),
        ("t >", 4, "ends too early"),
        ("t > 3 &&", 7, "write `and`"),
        ("t = 3", 3, "write `==`"),
        ("! t", 1, "write `not`"),
        ("t > 3 t", 7, "combine conditions"),
        ("(t > 3", 7, "closing"),
        ("abs(t > 3", 10, "closing"),
        ("t > 3)", 6, "not expected"),
        ("ab(t) > 3", 1, "did you mean `abs`"),
        ("abs(t, n) > 3", 1, "takes 1 values, found 2"),
        ("min(t) > 3", 1, "takes 2 to 8 values"),
        ("bad(3)", 1, "quality of one field"),
        ("t + 1", 1, "a condition is expected here, found a value"),
        ("not t + 1", 5, "found a value"),
        ("t > 1 and 3", 11, "found a value"),
        ("t > 5C", 6, "no unit"),
        ("3 > 2", 1, "names no field"),
        ("t < 'x'", 3, "by == or !="),
        ("'a' == 'b'", 5, "by == or !="),
        ("t + 'x' > 3", 3, "text cannot be calculated"),
        ("t > 1e999", 5, "too large"),
        ("t > 3 for", 11, "a duration is expected"),
        ("t > 3 for 5", 11, "with its unit"),
        ("t > 3 for 5 parsecs", 11, "units are"),
        ("t > 3 for 5s and n > 3", 11, "at the end"),
        ('t > "x', 5, "close the quote"),
        ("t § 3", 3, "backticks"),
        ("__import__('os') > 1", 1, "no function"),
        ("t.real > [1]", 10, "unexpected character"),
        ("(" * 60 + "t > 1", 51, "nested deeper"),
        ("not " * 60 + "t > 1", 201, "nested deeper"),
        ("-" * 60 + "t > 1", 51, "nested deeper"),
        ("abs(" * 60 + "t > 1", 201, "nested deeper"),
    ],
)
def test_a_slip_in_a_condition_is_shown_with_its_place(text: str, column: int, says: str) -> None:
    with pytest.raises(ValueError, match="column") as caught:
        parse(text)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"column {column}:")


def test_a_condition_of_unreasonable_length_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 2000"):
        parse("t > 1 or " * 400 + "t > 1")
    with pytest.raises(ValueError, match="longer than 400 words"):
        parse("t+" * 300 + "t > 1")
    long = "t" + "+t" * 190 + " > 100"
    assert holds(long, t=[0.5, 1.0]) == [False, True]


def test_a_rule_knows_its_fields_and_duration() -> None:
    rule = parse("b > 1 and a < 2 or b > 5 FOR 1.5min")
    assert (rule.fields, rule.hold_ns) == (("b", "a"), 90 * S)


def test_an_alarm_is_raised_after_its_time_and_cleared_at_once() -> None:
    given = rows([0, 4, 5, 6, 7], t=[95.0, 95.0, 95.0, 95.0, 20.0])
    step = alarm("t > 90 for 5s")
    assert events(step, given) == [(5, "raised"), (7, "cleared")]
    assert step.counts == {"raised": 1, "cleared": 1}


def test_the_clear_condition_gives_hysteresis() -> None:
    given = rows(t=[95.0, 85.0, 95.0, 75.0, 75.0, 75.0])
    assert events(alarm("t > 90", clear="t < 80 for 2s"), given) == [(0, "raised"), (5, "cleared")]


def test_the_alarm_block_says_what_and_who_and_how_much() -> None:
    given = rows(key="dev", dev=["a", "b"], t=[95.0, 20.0], state=["on", "off"], other=[1, 2])
    step = alarm(
        't > 90 and state == "on"', key="dev", name="overheat", message="close valve 3", lane="normal"
    )
    made, _ = step.process(given)
    assert made.stream == "pump_alarms"
    assert made.lane is Lane.NORMAL
    assert made.schema.key == "dev"
    assert made.schema.names() == ("alarm", "state", "dev", "t", "state_value", "message")
    shown = [c.to_list(f.type) for f, c in zip(made.schema.fields, made.columns, strict=True)]
    assert shown == [["overheat"], ["raised"], ["a"], [95.0], ["on"], ["close valve 3"]]
    assert [f.grade for f in made.schema.fields] == [Grade.GENERAL] * 2 + [None] * 3 + [Grade.GENERAL]
    assert alarm("t > 90").process(given)[0].column("alarm").to_list(Type.STR) == ["t > 90"]
    assert alarm("t > 90").process(given)[0].lane is Lane.URGENT


def test_alarms_are_per_key() -> None:
    given = rows([0, 0, 5, 5], key="dev", dev=list("abab"), t=[9.0, 9.0, 9.0, 1.0])
    made, _ = alarm("t > 5 for 5s", key="dev").process(given)
    assert made.column("dev").to_list(Type.STR) == ["a"]


def test_blanked_and_missing_cells_keep_the_last_value_other_nulls_change_nothing() -> None:
    codes = {"t": [0, q.UNCHANGED, q.MISSING, q.DEVICE_ERROR, q.MISSING, 0]}
    given = rows([0, 2, 5, 6, 7, 8], t=[95.0, None, None, None, None, 1.0], codes=codes)
    step = alarm("t > 90 for 5s")
    assert events(step, given) == [(5, "raised"), (8, "cleared")]
    made, _ = alarm("t > 90 for 5s").process(given)
    assert made.column("t").to_list(Type.F64) == [95.0, 1.0]


def test_fields_that_come_in_separate_rows_are_judged_together() -> None:
    codes = {"a": [0, q.MISSING], "b": [q.MISSING, 0]}
    assert events(alarm("a > 1 and b > 1"), rows(a=[2, None], b=[None, 2], codes=codes)) == [(1, "raised")]
    assert events(alarm("a > 1 and later > 1"), rows(a=[2, 2])) == []


def test_bad_values_count_and_quality_can_be_asked_for() -> None:
    codes = {"t": [0, q.RANGE, q.NAN, q.MISSING, q.STUCK, 0]}
    given = rows(t=[20.0, 160.0, None, None, 20.0, 20.0], codes=codes)
    assert events(alarm("t > 90"), given) == [(1, "raised"), (4, "cleared")]
    assert events(alarm("bad(t)"), given) == [(1, "raised"), (4, "cleared")]
    assert events(alarm("null(t)"), given) == [(2, "raised"), (4, "cleared")]
    assert events(alarm("uncertain(t) or t > 90"), given) == [(1, "raised"), (5, "cleared")]


def test_a_field_of_another_type_is_unknown_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    step = alarm('t == "x"')
    assert events(step, rows(t=[1.0])) == events(step, rows(t=[1.0])) == []
    assert caplog.text.count("field `t` is not of the type") == 1
    assert events(alarm("st > 3"), rows(st=["4"])) == []


def test_division_by_zero_and_infinity_are_no_surprise() -> None:
    assert holds("t / t > 0", t=[0.0, 2.0]) == [False, True]
    assert holds("1 / t > 5", t=[0.0, 2.0]) == [True, False]
    assert holds("t - t == 0", t=[float("inf"), 2.0]) == [False, True]


def test_further_steps_leave_an_alarm_block_alone() -> None:
    made, _ = alarm("t > 3").process(rows(t=[4.0]))
    assert alarm("t > 3").process(made) == [made]
