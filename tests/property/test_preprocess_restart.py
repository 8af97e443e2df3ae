"""However a series is cut into blocks and however often the agent restarts, a step gives the same rows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.preprocess import STEP_OPTIONS
from forebay.preprocess import StreamStep, build

S = 10**9
SCHEMA = Schema(
    "pump", (Field("dev", Type.STR), Field("t", Type.F64, "°C"), Field("n", Type.I64), Field("st", Type.STR)),
    key="dev",
)  # fmt: skip

STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "validate": ("validate", {"field": "t", "range": [-1, 1], "max_rate": "0.4/s", "stuck": "2s"}),
    "deadband": ("deadband", {"absolute": 0.3, "max_silence": "4s"}),
    "deadband relative": ("deadband", {"field": "t", "relative": "20%"}),
    "hampel": ("hampel", {"window": 5, "sigmas": 1.0, "action": "replace"}),
    "hampel 7": ("hampel", {"field": "t"}),
    "rows": ("window", {"size": 4, "stats": ["mean", "kurtosis", "p50", "count", "first"]}),
    "sliding rows": ("window", {"size": 5, "slide": 2, "keep": True}),
    "time": ("window", {"every": "3s"}),
    "time with percentiles": ("window", {"every": "3s", "stats": ["mean", "std", "count", "p50", "last"]}),
    "time kept": ("window", {"every": "2s", "stats": ["sum", "crest", "skewness"], "keep": True}),
    "sliding time": ("window", {"field": "t", "every": "6s", "slide": "2s"}),
    "smooth": ("smooth", {"tau": "3s"}),
    "gaps": ("gaps", {"every": "1s", "factor": 1.5, "fill": 3, "length": "gap"}),
    "crossings": ("window", {"size": 4, "stats": ["zero_crossings", "crossing_rate"], "zero": "mean"}),
    "waveform": (
        "window",
        {
            "size": 16,
            "slide": 3,
            "stats": ["rms"],
            "rate": "1Hz",
            "bands": [[0, "0.2Hz"], ["0.2Hz", "0.5Hz"]],
            "tones": ["0.1Hz"],
            "envelope": {"band": ["0.1Hz", "0.4Hz"], "tones": ["0.05Hz"]},
        },
    ),
    "alarm": ("alarm", {"when": 't > 0.2 and not st == "b" for 2s', "clear": "t < 0 or bad(t)"}),
    "linear": ("resample", {"every": "2s", "max_gap": "6s"}),
    "last": ("resample", {"every": "2s", "method": "last", "max_gap": "4s"}),
    "mean": ("resample", {"every": "2s", "method": "mean"}),
}
BY_KEY = {"linear", "last", "mean"}  # rows of one key keep their order, keys mingle block by block


@st.composite
def series(draw: st.DrawFn) -> Block:
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = rng.choice([-60, -1, 0, 0.25, 0.5, 1, 1, 1, 2, 7, 100], n, p=[0.02, 0.05, *[0.1] * 7, 0.2, 0.03])
    null = {q.MISSING, q.NULL, q.UNCHANGED, q.DEVICE_ERROR}

    def column(type_: Type, values: list[Any]) -> Column:
        codes = rng.choice(
            [0, q.SPIKE, q.RANGE, q.MISSING, q.NULL, q.UNCHANGED, q.DEVICE_ERROR], n,
            p=[0.7, 0.05, 0.05, 0.08, 0.04, 0.04, 0.04],
        )  # fmt: skip
        cells = [None if code in null else v for v, code in zip(values, codes.tolist(), strict=True)]
        return Column.of(type_, cells, codes.astype(np.uint8))

    devices = draw(st.sampled_from([["a"], ["a", "b"], ["a", "b", "c", "d"]]))
    columns = (
        Column.of(Type.STR, rng.choice(devices, n).tolist()),
        column(Type.F64, np.round(rng.normal(0, 0.6, n), 1).tolist()),
        column(Type.I64, rng.integers(-2, 3, n).tolist()),
        column(Type.STR, rng.choice(["a", "b"], n).tolist()),
    )
    return Block(SCHEMA, (np.cumsum(steps) * S).astype(np.int64), columns)


def make(case: str) -> StreamStep:
    name, options = STEPS[case]
    return build(name, STEP_OPTIONS[name].model_validate(options), key="dev", max_keys=3)


def rows(blocks: list[Block], case: str) -> Any:
    """Return every row of every stream as text: it differs if a value differs by a bit, or a code."""
    out: dict[Any, list[Any]] = {}
    for block in blocks:
        cells = []
        for field, column in zip(block.schema.fields, block.columns, strict=True):
            codes = [0] * block.rows if column.quality is None else column.quality.tolist()
            values = column.to_list(field.type)
            cells.append([f"{field.name}={v!r}/{c}" for v, c in zip(values, codes, strict=True)])
        for time, row in zip(block.time.tolist(), zip(*cells, strict=True), strict=True):
            stream = (block.stream, row[0]) if case in BY_KEY else block.stream
            out.setdefault(stream, []).append((time, row))
    return out


@pytest.mark.parametrize("case", STEPS)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), block=series())
def test_cuts_and_restarts_do_not_change_what_comes_out(case: str, data: st.DataObject, block: Block) -> None:
    step = make(case)
    whole = step.process(block) + step.flush()
    cuts = sorted(data.draw(st.lists(st.integers(0, block.rows), max_size=6)))
    step, parts = make(case), []
    for start, stop in zip([0, *cuts], [*cuts, block.rows], strict=True):
        parts += step.process(block.take(slice(start, stop)))
        if data.draw(st.booleans()):
            saved = step.state()
            step = make(case)
            if saved is not None:
                step.restore(saved)
    parts += step.flush()
    parts = [part for part in parts if part.rows]
    assert rows(parts, case) == rows(whole, case)


@pytest.mark.parametrize("case", STEPS)
@settings(max_examples=25, deadline=None)
@given(block=series())
def test_a_null_cell_never_hides_a_value_and_inputs_stay_untouched(case: str, block: Block) -> None:
    before = rows([block], "")
    for column in block.columns:
        column.values.flags.writeable = False
    step = make(case)
    for made in step.process(block) + step.flush():
        for field, column in zip(made.schema.fields, made.columns, strict=True):
            assert column.rows == made.rows
            null = column.is_null()
            if column.offsets is None:
                assert not column.values[null].any(), field.name
                assert column.values.dtype == {"f64": "f8", "i64": "i8"}[field.type]
                assert not np.isnan(column.values).any()
            else:
                assert not np.diff(column.offsets)[null].any()
    assert rows([block], "") == before


@given(damage=st.binary(max_size=200), cut=st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_a_damaged_state_is_a_named_error(damage: bytes, cut: int) -> None:
    from forebay.errors import ForebayError

    step = make("time")
    column = Column.of(Type.F64, [1.0])
    step.process(Block(Schema("pump", (Field("t", Type.F64),)), np.array([5 * S]), (column,)))
    saved = step.state()
    assert saved is not None
    for broken in (damage, saved[:cut] + damage + saved[cut + len(damage) :]):
        try:
            make("time").restore(broken)
        except ForebayError:
            continue
        assert broken == saved or len(broken) >= len(saved)
