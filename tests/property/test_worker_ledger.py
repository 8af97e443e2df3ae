"""The ledger's first equation, whatever steps, masker and guard do to the rows.

read = accepted + filtered + guarded + rejected, per stream, in every commit.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Lane, Schema, Type, null_out
from forebay.clock import SystemClock
from forebay.stages import Chunk, Commit, Rejected
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import Worker, WorkerOptions

SCHEMA = Schema("pump", (Field("a", Type.F64), Field("b", Type.STR), Field("dev", Type.STR)), key="dev")
ALARMS = Schema("pump_alarms", (Field("alarm", Type.STR),))


def block_of(cells: list[tuple[float | None, str | None]]) -> Block:
    a, b = zip(*cells, strict=True)
    columns = (
        Column.of(Type.F64, a),
        Column.of(Type.STR, b),
        Column.of(Type.STR, [f"d{i % 3}" for i in range(len(cells))]),
    )
    return Block(SCHEMA, np.arange(len(cells), dtype=np.int64), columns)


class Drop:
    """Keeps some rows only."""

    name = "drop"

    def __init__(self, pattern: int) -> None:
        self.pattern = pattern

    def process(self, block: Block) -> list[Block]:
        keep = np.array([(self.pattern >> (i % 8)) & 1 for i in range(block.rows)], dtype=bool)
        return [block.take(keep)] if keep.any() else []

    def flush(self) -> list[Block]:
        return []

    def state(self) -> bytes | None:
        return None

    def restore(self, state: bytes) -> None:
        raise AssertionError(state)


class Double(Drop):
    """Makes more rows than came, in two blocks."""

    name = "double"

    def process(self, block: Block) -> list[Block]:
        return [block, block]


class Add(Drop):
    """Makes a column more."""

    name = "add"

    def process(self, block: Block) -> list[Block]:
        return [block.with_columns({}, [(Field("extra", Type.I64), Column(np.arange(block.rows)))])]


class Blank(Drop):
    """Nulls cells of one column."""

    name = "blank"

    def process(self, block: Block) -> list[Block]:
        rows = np.array([(self.pattern >> (i % 8)) & 1 for i in range(block.rows)], dtype=bool)
        return [block.with_columns({"a": null_out(block.columns[0], rows, q.UNCHANGED)})]


class Alarm(Drop):
    """Adds rows of a stream of its own."""

    name = "alarm"

    def process(self, block: Block) -> list[Block]:
        raised = Block(ALARMS, block.time[:1], (Column.of(Type.STR, ["x"]),), Lane.URGENT)
        return [block, raised] if self.pattern & 1 else [raised, block]


class Hold(Drop):
    """Keeps blocks back until more come or the source ends."""

    name = "hold"

    def __init__(self, pattern: int) -> None:
        super().__init__(pattern)
        self.held: list[Block] = []

    def process(self, block: Block) -> list[Block]:
        self.held.append(block)
        if len(self.held) > self.pattern % 3:
            out, self.held = self.held, []
            return out
        return []

    def flush(self) -> list[Block]:
        out, self.held = self.held, []
        return out


class Broken(Drop):
    """Fails now and then."""

    name = "broken"

    def process(self, block: Block) -> list[Block]:
        if block.rows % 2 == self.pattern % 2:
            raise RuntimeError("value 13812345678")
        return [block]

    flush = process  # wrong number of arguments: a TypeError at the end


class Mask:
    """Nulls cells, or fails."""

    def __init__(self, pattern: int) -> None:
        self.pattern = pattern

    def apply(self, block: Block, *, early: bool = False) -> Block:
        if self.pattern == 7:
            raise RuntimeError("value 13812345678")
        rows = np.array([(self.pattern >> (i % 3)) & 1 for i in range(block.rows)], dtype=bool)
        return replace(block, columns=tuple(null_out(c, rows, q.SUPPRESSED) for c in block.columns))

    check = apply


class Writer:
    """Keeps the commits."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def submit(self, commit: Commit) -> None:
        self.commits.append(commit)

    def outstanding(self, owner: str) -> int:
        return 0

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        return True


CELL = st.tuples(st.none() | st.floats(allow_nan=True), st.none() | st.text("ab", max_size=3))
CHUNK = st.tuples(
    st.lists(st.lists(CELL, min_size=1, max_size=12).map(block_of), max_size=3),
    st.dictionaries(st.sampled_from(["line", "type", "size"]), st.integers(1, 5), max_size=2),
)
STEP = st.builds(
    lambda kind, pattern: kind(pattern),
    st.sampled_from([Drop, Double, Add, Blank, Alarm, Hold, Broken]),
    st.integers(0, 255),
)


@settings(deadline=None)
@given(
    st.lists(CHUNK, max_size=5),
    st.lists(STEP, max_size=4),
    st.integers(0, 7),
    st.integers(0, 7),
    st.booleans(),
)
def test_what_is_read_is_accepted_filtered_guarded_or_rejected(chunks, steps, mask, guard, finish):
    writer, clock = Writer(), SystemClock()
    sealer = Sealer(Context("gw-1", "s/p", "b", "0"), lambda: Stamp(1, 2, "synced"))
    options = WorkerOptions("s/p", "pump", linger_ns=0)
    worker = Worker(options, steps, Mask(mask), Mask(guard), sealer, writer, clock)
    told: list[bool] = []
    for number, (blocks, rejected) in enumerate(chunks):
        records = [Rejected(reason, "x:1", 3, "broken", n) for reason, n in rejected.items()]
        position = str(number).encode()
        worker.queue.put(Chunk(blocks, position, records, Counter(rejected), done=told.append), 1)
    worker.finish_steps = finish
    worker.queue.close()
    worker.run()

    total: Counter[tuple[str, str]] = Counter()
    for commit in writer.commits:
        for (stream, kind, _), readings in commit.ledger.items():
            assert readings > 0
            total[stream, kind] += readings
        for stream in ("pump", "pump_alarms"):
            into = sum(n for (s, kind, _), n in commit.ledger.items() if s == stream and kind != "read")
            assert commit.ledger[stream, "read", ""] == into
        for done in commit.done:
            done(True)
    for stream in ("pump", "pump_alarms"):
        sealed = sum(b.readings for c in writer.commits for b in c.batches if b.stream == stream)
        assert total[stream, "accepted"] == sealed
    rejected_total = sum(n for _, rejected in chunks for n in rejected.values())
    assert total["pump", "rejected"] == rejected_total
    assert told == [True] * len(chunks)
    moves = [c.position for c in writer.commits if c.position is not None]
    assert moves == sorted(moves)
    assert moves[-1:] == [str(len(chunks) - 1).encode()] * bool(chunks)


def test_a_failing_step_never_puts_its_text_into_the_log(caplog):
    writer = Writer()
    sealer = Sealer(Context("gw-1", "s/p", "b", "0"), lambda: Stamp(1, 2, "synced"))
    worker = Worker(
        WorkerOptions("s/p", "pump"), [Broken(0)], Mask(7), Mask(7), sealer, writer, SystemClock()
    )
    worker.queue.put(Chunk([block_of([(1.0, "x"), (2.0, "y")])], b"1"), 1)
    worker.queue.close()
    thread = threading.Thread(target=worker.run)
    thread.start()
    thread.join(10)
    messages = [r.getMessage() for r in caplog.records if r.levelname != "DEBUG"]
    assert any("a step failed" in text for text in messages)
    assert any("masking failed" in text for text in messages)
    assert not any("13812345678" in text for text in messages)
    batches = [b for c in writer.commits for b in c.batches]
    assert [b.readings for b in batches] == [0], "all values were kept back, the rows went on"
