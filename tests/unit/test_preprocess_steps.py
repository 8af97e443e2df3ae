"""What each preprocessing step does to a block."""

from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest

from forebay import quality as q
from forebay.blocks import MAX_ROWS, Block, Column, Field, Grade, Lane, Schema, Type
from forebay.config.preprocess import STEP_OPTIONS
from forebay.errors import ConfigError, InputError
from forebay.preprocess import STEPS, StreamStep, build
from forebay.stages import Step

S = 10**9
TYPES = {float: Type.F64, int: Type.I64, str: Type.STR, bool: Type.BOOL}


def block(
    at: Any = None, *, key: str = "", codes: dict[str, list[int]] | None = None, **columns: Any
) -> Block:
    """Build a block; the type of a column is that of its first value."""
    n = len(next(iter(columns.values())))
    fields, cells = [], []
    for name, values in columns.items():
        type_ = TYPES[type(next(v for v in values if v is not None))]
        given = None if codes is None or name not in codes else np.array(codes[name], np.uint8)
        fields.append(Field(name, type_, unit="bar" if type_ in (Type.F64, Type.I64) else ""))
        cells.append(Column.of(type_, values, given))
    times = (np.array(range(n) if at is None else at, dtype=np.float64) * S).astype(np.int64)
    return Block(Schema("pump", tuple(fields), key), times, tuple(cells))


def step(name: str, *, key: str = "", max_keys: int = 10_000, **options: Any) -> StreamStep:
    return build(name, STEP_OPTIONS[name].model_validate(options), key=key, max_keys=max_keys)


def values(made: Block, name: str) -> list[Any]:
    return made.column(name).to_list(made.schema.fields[made.schema.index(name)].type)


def codes(made: Block, name: str) -> list[int]:
    quality = made.column(name).quality
    return [0] * made.rows if quality is None else quality.tolist()


def test_steps_meet_the_contract_and_pass_what_is_empty() -> None:
    made: Step = step("deadband", absolute=1)
    empty = block(t=[1.0]).take(slice(0, 0))
    assert made.process(empty) == [empty]
    assert set(STEPS) == set(STEP_OPTIONS)


def test_a_step_with_options_of_another_is_refused() -> None:
    with pytest.raises(ConfigError, match="no preprocessing step"):
        build("validate", STEP_OPTIONS["scale"].model_validate({"factor": 2}))
    with pytest.raises(ConfigError, match="no preprocessing step"):
        build("nothing", STEP_OPTIONS["scale"].model_validate({"factor": 2}))


# -- validate


def test_validate_marks_and_keeps_values_and_leaves_good_blocks_alone() -> None:
    made = step("validate", field="t", range=[-40, 150], max_rate="5/s")
    good = block(t=[20.0, 21.0])
    assert made.process(good) == [good]
    (bad,) = made.process(block([2, 3, 4], t=[200.0, 22.0, 90.0]))
    assert values(bad, "t") == [200.0, 22.0, 90.0]
    assert codes(bad, "t") == [q.RANGE, 0, q.RATE]


def test_validate_without_fields_takes_all_numbers_but_the_key() -> None:
    (made,) = step("validate", range=[0, 10], key="id").process(
        block(key="id", id=[99, 99], a=[1.0, 99.0], b=[99, 1], s=["x", "y"])
    )
    assert [codes(made, name) for name in ("id", "a", "b", "s")] == [
        [0, 0],
        [0, q.RANGE],
        [q.RANGE, 0],
        [0, 0],
    ]


def test_field_names_compare_case_folded() -> None:
    (made,) = step("validate", field="Temp", range=[0, 10]).process(block(temp=[11.0]))
    assert codes(made, "temp") == [q.RANGE]


def test_required_fields_are_counted_where_missing(caplog: pytest.LogCaptureFixture) -> None:
    made = step("validate", fields=["t", "u"], required=True)
    given = block(t=[1.0, None, 2.0], codes={"t": [0, q.MISSING, 0]})
    assert made.process(given) == [given]
    made.process(given)
    assert made.counts == {"missing:t": 2, "missing:u": 6}
    assert caplog.text.count("required field `u`") == 1


def test_a_field_that_is_absent_or_text_is_logged_once_and_may_come_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = step("validate", fields=["late", "s"], range=[0, 1])
    for _ in range(3):
        made.process(block(s=["x"]))
    assert caplog.text.count("field `late` is not in the data") == 1
    assert caplog.text.count("field `s` is str") == 1
    assert codes(made.process(block(late=[5.0]))[0], "late") == [q.RANGE]


# -- scale


@pytest.mark.parametrize(
    ("options", "given", "wanted"),
    [
        ({"factor": 0.1}, [3, 215, -7], [0.3, 21.5, -0.7]),
        ({"factor": 0.01, "offset": -40}, [6512, 0], [25.12, -40.0]),
        ({"offset": 273.15}, [20, -1], [293.15, 272.15]),
        ({"raw": [4, 20], "to": [0, 100]}, [4, 12, 20, 22], [0.0, 50.0, 100.0, 112.5]),
        ({"raw": [0, 10], "to": [5, -5]}, [0, 10], [5.0, -5.0]),
        ({"factor": 1e-30}, [2], [2e-30]),
        ({"factor": 1 / 3}, [2], [2 / 3]),
    ],
)
def test_scale_gives_the_decimals_that_are_meant(
    options: dict[str, Any], given: list[int], wanted: list[float]
) -> None:
    (made,) = step("scale", **options).process(block(t=given))
    assert values(made, "t") == wanted
    assert made.schema.fields[0].type is Type.F64


def test_scale_keeps_nulls_and_quality_and_sets_the_unit() -> None:
    given = block(t=[1.0, None, 3.0], u=[1, 2, 3], codes={"t": [q.STUCK, q.NULL, 0]})
    (made,) = step("scale", field="t", factor=2, offset=1, unit="kPa").process(given)
    assert values(made, "t") == [3.0, None, 7.0]
    assert codes(made, "t") == [q.STUCK, q.NULL, 0]
    assert [f.unit for f in made.schema.fields] == ["kPa", "bar"]
    assert made.columns[1] is given.columns[1]


# -- deadband


def test_deadband_blanks_unchanged_cells_and_drops_rows_with_nothing_left() -> None:
    given = block(t=[1.0, 1.05, 1.05, 2.0], u=[5, 5, 9, 9])
    (made,) = step("deadband", absolute=0.1).process(given)
    assert made.time.tolist() == [0, 2 * S, 3 * S]
    assert values(made, "t") == [1.0, None, 2.0]
    assert values(made, "u") == [5, 9, None]
    assert codes(made, "t") == [0, q.UNCHANGED, 0]
    assert made.readings() == 4


def test_deadbands_in_a_row_drop_what_all_of_them_blanked() -> None:
    first, second = (step("deadband", key="d", field=f, absolute=0.1) for f in ("t", "u"))
    (made,) = first.process(block(key="d", d=["a"] * 4, t=[1.0, 1.0, 1.0, 2.0], u=[5, 5, 9, 9]))
    assert made.rows == 4
    (made,) = second.process(made)
    assert made.time.tolist() == [0, 2 * S, 3 * S]
    assert second.process(block([9], d=["a"], u=[9])) == []


def test_a_row_that_a_deadband_did_not_touch_is_not_dropped() -> None:
    given = block(t=[None, 1.0], codes={"t": [q.NULL, 0]})
    assert step("deadband", absolute=1).process(given) == [given]


def test_a_failing_sensor_is_reported_once_also_through_two_deadbands() -> None:
    t_codes = {"t": [0, q.DEVICE_ERROR, q.DEVICE_ERROR, 0]}
    given = block(t=[1.0, None, None, 1.0], u=[5, 5, 5, 5], codes=t_codes)
    (made,) = step("deadband", field="t", absolute=1).process(given)
    (made,) = step("deadband", field="u", absolute=1).process(made)
    assert made.time.tolist() == [0, S, 3 * S]
    assert codes(made, "t") == [0, q.DEVICE_ERROR, 0]


def test_deadband_state_is_per_key_and_rows_beyond_max_keys_pass() -> None:
    made = step("deadband", absolute=1, key="d", max_keys=2)
    given = block(key="d", d=["a", "b", "c", "a", "b", "c"], t=[1.0, 5.0, 9.0, 1.0, 9.0, 9.0])
    (out,) = made.process(given)
    assert values(out, "d") == ["a", "b", "c", "b", "c"]
    assert made.bypassed == 2


def test_a_number_may_be_the_key() -> None:
    (out,) = step("deadband", absolute=1, key="d").process(
        block(key="d", d=[7, 8, 7, None], t=[1.0, 5.0, 1.0, 1.0])
    )
    assert values(out, "d") == [7, 8, None]


# -- hampel


@pytest.mark.parametrize(("action", "shown"), [("mark", 500), ("replace", 21)])
def test_hampel_marks_a_spike_and_replaces_it_if_told(action: str, shown: int) -> None:
    given = block(t=[20, 21, 20, 21, 22, 20, 500, 21])
    (made,) = step("hampel", action=action).process(given)
    assert codes(made, "t") == [0] * 6 + [q.SPIKE, 0]
    assert values(made, "t") == [20, 21, 20, 21, 22, 20, shown, 21]
    assert values(given, "t")[6] == 500


# -- select, drop, rename


def test_select_and_drop_keep_the_key() -> None:
    given = block(key="d", d=["a"], t=[1.0], u=[2])
    assert step("select", fields=["U"], key="d").process(given)[0].schema.names() == ("d", "u")
    assert step("drop", fields=["u"], key="d").process(given)[0].schema.names() == ("d", "t")
    assert step("drop", fields=["t", "u"], key="d").process(given) == []
    with pytest.raises(ConfigError, match="cannot be dropped"):
        step("drop", fields=["d"], key="d")


def test_rename_keeps_the_name_given_and_never_makes_two_of_one(caplog: pytest.LogCaptureFixture) -> None:
    given = block(key="d", d=["a"], t=[1.0], u=[2])
    made = step("rename", fields={"t": "temperature", "u": "D"}, key="d")
    (out,) = made.process(given)
    assert out.schema.names() == ("d", "temperature", "u")
    assert out.schema.fields[1].given == "t"
    assert "keeps its name" in caplog.text
    (swapped,) = step("rename", fields={"t": "u", "u": "t"}).process(given)
    assert (values(swapped, "u"), values(swapped, "t")) == ([1.0], [2])
    with pytest.raises(ConfigError, match="cannot be renamed"):
        step("rename", fields={"d": "x"}, key="d")


# -- state and streams


def test_streams_do_not_share_state_and_alarms_pass_untouched() -> None:
    made, given = step("deadband", absolute=1), block(t=[1.0])
    other = replace(given, schema=replace(given.schema, stream="other"))
    assert made.process(given) == [given]
    assert made.process(other) == [other]
    assert made.process(given) == []
    alarm = block(alarm=["x", "x"], state=["raised", "cleared"], t=[1.0, 1.0])
    alarm = replace(alarm, schema=replace(alarm.schema, stream="pump_alarms"))
    assert made.process(alarm) == [alarm]


def test_a_step_without_memory_has_no_state() -> None:
    made = step("scale", factor=2)
    made.process(block(t=[1.0]))
    assert made.state() is None


def test_a_state_of_other_options_is_refused_by_name() -> None:
    made = step("deadband", absolute=1)
    made.process(block(t=[1.0]))
    state = made.state()
    assert state is not None
    with pytest.raises(ConfigError, match="another configuration"):
        step("deadband", absolute=2).restore(state)
    body = msgpack.unpackb(state)
    body["streams"]["pump"]["tables"]["t"]["value"] = ["<f8", [3], b"\0" * 8]
    with pytest.raises(InputError, match="damaged"):
        step("deadband", absolute=1).restore(msgpack.packb(body))
    with pytest.raises(InputError, match="damaged"):
        step("deadband", absolute=1).restore(b"\xc1 not a state")


# -- window


def test_row_windows_have_the_time_of_their_last_row_and_leave_bad_samples_out() -> None:
    t_codes = {"t": [0, q.RANGE, q.SPIKE, 0, q.NULL, q.NULL, 0, 0]}
    given = block(t=[1.0, 99.0, 3.0, 5.0, None, None, 7.0, 7.0], codes=t_codes)
    made = step("window", size=2, stats=["mean", "count", "kurtosis", "max"])
    (out,) = made.process(given)
    assert out.stream == "pump"
    assert out.time.tolist() == [S, 3 * S, 5 * S, 7 * S]
    assert values(out, "t_mean") == [1.0, 4.0, None, 7.0]
    assert values(out, "t_count") == [1.0, 2.0, 0.0, 2.0]
    assert codes(out, "t_mean") == [0, 0, q.MISSING, 0]
    assert codes(out, "t_kurtosis") == [q.NAN, 0, q.MISSING, q.NAN]
    assert [f.unit for f in out.schema.fields] == ["bar", "", "", "bar"]


def test_windows_are_per_key_in_the_order_they_are_complete() -> None:
    made = step("window", size=2, stats=["sum"], key="d")
    (out,) = made.process(block(key="d", d=list("abbaab"), t=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert (values(out, "d"), values(out, "t_sum")) == (["b", "a"], [5.0, 5.0])
    (rest,) = made.flush()
    assert (values(rest, "d"), values(rest, "t_sum")) == (["a", "b"], [5.0, 6.0])
    assert made.flush() == []


def test_keep_passes_the_rows_and_gives_windows_a_stream_of_their_own() -> None:
    given = block(t=[1.0, 2.0])
    raw, windows = step("window", size=2, keep=True).process(given)
    assert raw is given
    assert windows.stream == "pump_window"


def test_sliding_rows_overlap_and_the_rest_is_given_once() -> None:
    made = step("window", size=3, slide=1, stats=["first", "last"])
    (out,) = made.process(block(t=[1.0, 2.0, 3.0, 4.0]))
    assert values(out, "t_first") == [1.0, 2.0]
    assert made.flush() == []
    made.process(block(t=[1.0]))
    assert values(made.flush()[0], "t_last") == [1.0]


def test_time_windows_end_at_multiples_and_have_that_time() -> None:
    made = step("window", every="10s", stats=["sum", "p50"])
    (out,) = made.process(block([8, 9, 10, 19, 35], t=[1.0, 2.0, 4.0, 8.0, 16.0]))
    assert out.time.tolist() == [10 * S, 20 * S]
    assert values(out, "t_sum") == [3.0, 12.0]
    assert values(out, "t_p50") == [1.5, 6.0]
    assert made.process(block([31, 12], t=[1.0, 1.0])) == []
    assert made.counts["late"] == 1
    (rest,) = made.flush()
    assert (rest.time.tolist(), values(rest, "t_sum")) == ([40 * S], [17.0])


def test_sliding_time_windows_share_panes() -> None:
    made = step("window", every="10s", slide="5s", stats=["sum"])
    (out,) = made.process(block([0, 5, 10, 30], t=[1.0, 2.0, 4.0, 8.0]))
    assert dict(zip((out.time // S).tolist(), values(out, "t_sum"), strict=True)) == {
        5: 1,
        10: 3,
        15: 6,
        20: 4,
    }


def test_a_clock_set_far_back_closes_the_window_and_goes_on() -> None:
    made = step("window", every="1s", stats=["count"])
    (out,) = made.process(block([1000, 2, 2.5, 3], t=[1.0] * 4))
    assert ((out.time // S).tolist(), values(out, "t_count")) == ([1001, 3], [1, 2])


def test_a_field_that_comes_later_joins_the_windows() -> None:
    made = step("window", size=2, stats=["count"])
    assert made.process(block(t=[1.0])) == []
    (out,) = made.process(block([1], u=[3]))
    assert out.schema.names() == ("t_count", "u_count")
    assert (values(out, "t_count"), values(out, "u_count")) == ([1.0], [1.0])


def test_windows_carry_grade_and_classes_but_not_the_points_identifier() -> None:
    field = Field("t", Type.F64, "g", Grade.CORE, "acceleration", "1.2.156", ("gps",))
    given = Block(Schema("s", (field,)), np.arange(2), (Column.of(Type.F64, [1.0, 2.0]),), Lane.BULK)
    (out,) = step("window", size=2, stats=["rms"]).process(given)
    assert out.schema.fields == (Field("t_rms", Type.F64, "g", Grade.CORE, classes=("gps",)),)
    assert out.lane is Lane.BULK


def test_many_windows_are_split_into_blocks_within_the_row_limit() -> None:
    made = step("window", every="1s", slide="10ms", stats=["count"])
    out = made.process(block([10.0 * i for i in range(40)], t=[1.0] * 40))
    assert sum(part.rows for part in out) == 3_900
    assert max(part.rows for part in out) <= MAX_ROWS


# -- resample


def test_resample_linear_waits_for_the_next_sample() -> None:
    made = step("resample", every="10s")
    assert made.process(block([5], t=[0.0])) == []
    (out,) = made.process(block([15, 27], t=[10.0, 22.0]))
    assert (out.time // S).tolist() == [10, 20]
    assert values(out, "t") == [5.0, 15.0]
    assert codes(out, "t") == [q.INTERPOLATED] * 2


def test_resample_leaves_long_gaps_empty_however_long() -> None:
    made = step("resample", every="1s", max_gap="2s")
    (out,) = made.process(block([0, 1, 1e9, 1e9 + 1, 1e9 + 2], t=[0, 1, 5, 6, 7]))
    assert (out.time // S).tolist() == [0, 1, 10**9, 10**9 + 1]
    assert values(out, "t") == [0.0, 1.0, 5.0, 6.0]


def test_resample_last_and_mean() -> None:
    given = block([1, 4, 12, 31], t=[1.0, 3.0, 5.0, 7.0])
    (last,) = step("resample", every="10s", method="last").process(given)
    assert (values(last, "t"), (last.time // S).tolist()) == ([3.0, 5.0, 5.0], [10, 20, 30])
    made = step("resample", every="10s", method="mean")
    (mean,) = made.process(given)
    assert (values(mean, "t"), (mean.time // S).tolist()) == ([2.0, 5.0], [10, 20])
    assert values(made.flush()[0], "t") == [7.0]


def test_resample_joins_fields_that_come_in_separate_rows() -> None:
    a = {"a": [0, q.MISSING, 0, q.MISSING], "b": [q.MISSING, 0, q.MISSING, 0]}
    given = block([0, 1, 4, 5], a=[0.0, None, 4.0, None], b=[None, 1.0, None, 5.0], codes=a)
    (out,) = step("resample", every="2s").process(given)
    assert (out.time // S).tolist() == [0, 2, 4]
    assert (values(out, "a"), values(out, "b")) == ([0.0, 2.0, 4.0], [None, 2.0, 4.0])


def test_times_at_the_ends_of_int64_do_not_stop_a_step() -> None:
    times = np.array([-(2**63), 0, 2**63 - 1, -(2**63), 2**63 - 1])
    schema = Schema("s", (Field("t", Type.F64),))
    wild = Block(schema, times, (Column.of(Type.F64, [1.0, 2.0, 3.0, 4.0, 5.0]),))
    for name, options in {
        "window": {"every": "7s", "slide": "1s"},
        "resample": {"every": "3s"},
        "deadband": {"absolute": 9, "max_silence": "1h"},
        "validate": {"stuck": "1h", "max_rate": "1/s"},
        "alarm": {"when": "t > 0 for 1h"},
    }.items():
        made = step(name, **options)
        assert all(part.rows for part in made.process(wild) + made.flush())
