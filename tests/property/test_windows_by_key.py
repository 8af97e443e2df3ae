"""Windows of many keys are made at once: each key gets those that it gets alone, whatever waits for others."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.preprocess import WindowOptions
from forebay.errors import InputError
from forebay.preprocess import StreamStep, build
from forebay.preprocess.held import HeldRows
from forebay.preprocess.pending import Rows
from forebay.preprocess.window_plan import first_at_least

S = 10**9
SCHEMA = Schema("pump", (Field("dev", Type.STR), Field("t", Type.F64), Field("n", Type.I64)), key="dev")
WINDOWS: dict[str, dict[str, Any]] = {
    "rows": {"size": 7, "stats": ["mean", "count", "last"]},
    "sliding rows": {"size": 9, "slide": 2, "stats": ["sum", "p90"]},
    "sliding time": {"every": "12s", "slide": "3s", "stats": ["mean", "max", "count"]},
    "percentiles": {"every": "5s", "stats": ["p50", "p99", "count"]},
}


def step(case: str) -> StreamStep:
    return build("window", WindowOptions.model_validate(WINDOWS[case]), key="dev")


def series(seed: int, rows: int, keys: int) -> Block:
    """Keys in bursts and in turns, some silent for long, clocks that jump, cells that are bad or null."""
    rng = np.random.default_rng(seed)
    turns = np.arange(rows) % keys
    chosen = np.where(rng.random(rows) < 0.3, rng.integers(0, keys, rows), turns // rng.integers(1, 4))
    jumps = rng.choice([0, 0.2, 1, 3, 40, -1, -90], rows, p=[0.3, 0.3, 0.3, 0.07, 0.01, 0.015, 0.005])
    codes = rng.choice([0, q.SPIKE, q.RANGE, q.NULL], rows, p=[0.8, 0.08, 0.06, 0.06]).astype(np.uint8)
    values = np.where(codes == q.NULL, 0.0, rng.normal(size=rows).round(2))
    columns = (
        Column.of(Type.STR, [f"pump-{k}" for k in chosen.tolist()]),
        Column(values, None, codes),
        Column(rng.integers(-9, 9, rows)),
    )
    return Block(SCHEMA, (np.cumsum(jumps) * S).astype(np.int64), columns)


def by_key(blocks: list[Block]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for block in blocks:
        cells = [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]
        for time, key, *rest in zip(block.time.tolist(), *cells, strict=True):
            out.setdefault(key, []).append((time, rest))
    return out


@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("keys", [1, 2, 40])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 900), cut=st.integers(1, 300))
def test_a_key_gets_the_windows_that_it_gets_alone(
    case: str, keys: int, seed: int, rows: int, cut: int
) -> None:
    block = series(seed, rows, keys)
    together, made = step(case), []
    for number, start in enumerate(range(0, rows, cut)):
        made += together.process(block.take(slice(start, start + cut)))
        if number % 3 == 2:
            saved = together.state()
            together = step(case)
            assert saved is not None
            together.restore(saved)
    found = by_key(made + together.flush())
    names = np.array(block.columns[0].to_list(Type.STR))
    for name in set(names.tolist()):
        one = step(case)
        alone = one.process(block.take(names == name)) + one.flush()
        assert found.get(name) == by_key(alone).get(name)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_slot_holds_what_was_put_there_last(data: st.DataObject) -> None:
    held, model, serial = HeldRows(), dict[int, list[int]](), 0
    for _ in range(data.draw(st.integers(1, 25))):
        slots = np.array(sorted(data.draw(st.sets(st.integers(0, 12), min_size=1))), dtype=np.int64)
        held.fit(int(slots.max()) + 1, 2)
        assert held.count(slots).tolist() == [len(model.get(s, [])) for s in slots.tolist()]
        taken = held.take(slots)
        assert taken.time.tolist() == [v for s in slots.tolist() for v in model.get(s, [])]
        assert (taken.values[1] == taken.time * 2.0).all()
        assert (taken.codes[1] == taken.time % 200).all()
        counts = np.array([data.draw(st.integers(0, 400)) for _ in slots], dtype=np.int64)
        time = np.arange(serial, serial + int(counts.sum()) + 3, dtype=np.int64)
        serial += len(time)
        rows = Rows(time, np.stack([time, time * 2.0]), np.stack([time, time % 200]).astype(np.uint8))
        starts = np.cumsum(counts) - counts + 3
        held.put(slots, rows, starts, counts)
        for slot, start, count in zip(slots.tolist(), starts.tolist(), counts.tolist(), strict=True):
            model[slot] = time[start : start + count].tolist()
        if data.draw(st.booleans()):
            saved, held = held.dump(), HeldRows()
            held.load(saved, 13, 2)
    assert held.slots().tolist() == sorted(s for s, kept in model.items() if kept)


def test_a_field_that_came_later_was_missing_before() -> None:
    held = HeldRows()
    held.fit(1, 1)
    zero, two = np.zeros(1, dtype=np.int64), np.full(1, 2)
    held.put(zero, Rows(np.arange(2), np.ones((1, 2)), np.zeros((1, 2), dtype=np.uint8)), zero, two)
    held.fit(1, 2)
    assert held.take(zero).codes.tolist() == [[0, 0], [q.MISSING, q.MISSING]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s[:4],
        lambda s: [s[1], *s[1:]],
        lambda s: [s[0], s[2], *s[2:]],
        lambda s: [*s[:3], s[4], s[3]],
        lambda s: [*s[:2], s[1], *s[3:]],
    ],
)
def test_held_rows_that_do_not_fit_each_other_are_refused(damage: Any) -> None:
    one = step("rows")
    one.process(series(3, 40, 9))
    import msgpack

    state = one.state()
    assert state is not None
    body = msgpack.unpackb(state)
    body["streams"]["pump"]["held"] = damage(body["streams"]["pump"]["held"])
    with pytest.raises(InputError, match="damaged"):
        step("rows").restore(msgpack.packb(body))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-5, 5), max_size=9), max_size=6), st.integers(-6, 6))
def test_first_at_least_is_a_binary_search_of_each_stretch(stretches: list[list[int]], bound: int) -> None:
    values = np.array([v for part in stretches for v in sorted(part)], dtype=np.int64)
    ends = np.cumsum([0, *map(len, stretches)])
    found = first_at_least(values, ends[:-1], ends[1:], np.full(len(stretches), bound))
    expected = [np.searchsorted(values[a:b], bound) + a for a, b in pairwise(ends.tolist())]
    assert found.tolist() == expected
