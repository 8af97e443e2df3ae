"""The first law in the worker: what steps see, remember and store is masked, pictures excepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.clock import SystemClock
from forebay.mask import Guard, Masker, load_policy
from forebay.stages import Chunk, Commit
from forebay.wire.envelope import Context, Envelope, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import Worker, WorkerOptions

MOBILE = "13812345678"


class Remembering:
    """A step that remembers what it sees, as keyed steps do."""

    name = "remembering"

    def __init__(self) -> None:
        self.seen = b""

    def process(self, block: Block) -> list[Block]:
        self.seen += b"".join(c.values.tobytes() for c in block.columns)
        return [block, block]

    def flush(self) -> list[Block]:
        return []

    def state(self) -> bytes:
        return self.seen

    def restore(self, state: bytes) -> None:
        self.seen = state


class Writer:
    """Takes commits and calls them durable at once."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def submit(self, commit: Commit) -> None:
        self.commits.append(commit)

    def outstanding(self, owner: str) -> int:
        return 0

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        return True


def run(steps, masker=None, policy=None):
    policy = policy or load_policy("base", Path())
    writer = Writer()
    sealer = Sealer(Context("gw", "s/p", "boot", "0"), lambda: Stamp(0, 0, "synced"))
    worker = Worker(
        WorkerOptions("s/p", "p"),
        steps,
        masker or Masker(policy),
        Guard(policy),
        sealer,
        writer,
        SystemClock(),
    )
    schema = Schema("p", (Field("dev", Type.STR), Field("phone", Type.I64), Field("t", Type.F64)), key="dev")
    block = Block(
        schema,
        np.arange(3, dtype=np.int64),
        (
            Column.of(Type.STR, [f"truck {MOBILE}", "pump-1", "pump-2"]),
            Column.of(Type.I64, [int(MOBILE), 5, 6]),
            Column.of(Type.F64, [1.0, 2.0, 3.0]),
        ),
    )
    worker.queue.put(Chunk([block], position=b"here"), block.nbytes)
    worker.queue.close()
    worker.run()
    (commit,) = writer.commits
    return commit


def test_steps_and_their_saved_state_never_hold_an_unmasked_identifier():
    commit = run([Remembering()])
    state = commit.state["0.remembering"]
    assert b"pump-1" in state
    assert MOBILE.encode() not in state
    assert int(MOBILE).to_bytes(8, "little") not in state


def test_hits_of_the_entry_are_attested_once_however_often_a_step_repeats_a_block():
    commit = run([Remembering()])
    hits = [Envelope.unpack(batch.data).hits for batch in commit.batches]
    assert sum(h.get("mobile:keep", 0) for h in hits) == 1


def test_a_masker_that_breaks_costs_the_values_and_not_the_rows():
    class Broken:
        def apply(self, block: Block, *, early: bool = False) -> Block:
            raise RuntimeError(MOBILE)

    commit = run([], masker=Broken())
    ledger = commit.ledger
    assert sum(batch.rows for batch in commit.batches) == 3
    assert sum(batch.readings for batch in commit.batches) == 0
    assert ledger["p", "read", ""] == 6
    assert ledger["p", "filtered", "mask"] + ledger["p", "guarded", ""] == 6


def test_a_step_that_breaks_costs_nothing_and_stays_masked():
    class Breaking(Remembering):
        def process(self, block: Block) -> list[Block]:
            raise RuntimeError(MOBILE)

    commit = run([Breaking()])
    assert sum(batch.rows for batch in commit.batches) == 3
    assert all(MOBILE.encode() not in batch.data for batch in commit.batches)


def test_only_the_last_batch_of_a_seal_says_where_the_source_stands():
    class Splitting(Remembering):
        def process(self, block: Block) -> list[Block]:
            other = Block(replace(block.schema, stream="p_alarms"), block.time, block.columns, block.lane)
            return [other, block]

    commit = run([Splitting()])
    positions = [Envelope.unpack(batch.data).position for batch in commit.batches]
    assert positions == [None, b"here"]
