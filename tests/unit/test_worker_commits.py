"""When a worker hands its commit to the spool: at once where somebody waits, together where more is there."""

from __future__ import annotations

import numpy as np
import pytest

from forebay.blocks import MAX_ROWS, Block, Column, Field, Lane, Schema, Type
from forebay.clock import SystemClock
from forebay.stages import Chunk, Commit
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import GATHER_BYTES, Worker, WorkerOptions

SECOND = 1_000_000_000


class Pass:
    def apply(self, block: Block, *, early: bool = False) -> Block:
        return block

    check = apply


class Spool:
    """Takes commits and makes them durable at once."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def submit(self, commit: Commit) -> None:
        self.commits.append(commit)
        for done in commit.done:
            done(True)

    def outstanding(self, owner: str) -> int:
        return 0

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        return True


def full_block(first: int, *, noisy: bool = False) -> Block:
    time = np.arange(first, first + MAX_ROWS, dtype=np.int64)
    values = np.random.default_rng(first).normal(size=MAX_ROWS) if noisy else time / 10
    return Block(Schema("pump", (Field("t", Type.F64),)), time, (Column(values),))


def commits_of(chunks: list[Chunk], *, linger_ns: int = SECOND, lane: Lane = Lane.NORMAL) -> list[Commit]:
    spool = Spool()
    sealer = Sealer(Context("gw", "f/pump", "boot", "0"), lambda: Stamp(1, 2, "synced"))
    options = WorkerOptions("f/pump", "pump", lane, linger_ns)
    worker = Worker(options, [], Pass(), Pass(), sealer, spool, SystemClock())
    for chunk in chunks:
        worker.queue.put(chunk, 1)
    worker.queue.close()
    worker.run()
    assert sum(b.rows for c in spool.commits for b in c.batches) == len(chunks) * MAX_ROWS
    return spool.commits


def test_full_blocks_that_wait_share_a_commit_with_the_last_position():
    chunks = [Chunk([full_block(n * MAX_ROWS)], position=b"%d" % n) for n in range(5)]
    (commit,) = commits_of(chunks)
    assert commit.position == b"4"
    assert commit.ledger["pump", "accepted", ""] == commit.ledger["pump", "read", ""] == 5 * MAX_ROWS


def test_a_commit_does_not_grow_beyond_what_saves_anything():
    commits = commits_of([Chunk([full_block(n * MAX_ROWS, noisy=True)]) for n in range(40)])
    biggest = max(b.nbytes for b in commits)
    assert len(commits) > 2
    assert biggest < GATHER_BYTES + 16 * MAX_ROWS


def test_without_linger_every_block_is_a_commit():
    assert len(commits_of([Chunk([full_block(n * MAX_ROWS)]) for n in range(5)], linger_ns=0)) == 5


@pytest.mark.parametrize("hurried", ["urgent lane", "a sender that waits"])
def test_nothing_is_gathered_where_somebody_waits(hurried):
    told: list[bool] = []
    done = told.append if hurried == "a sender that waits" else None
    lane = Lane.URGENT if hurried == "urgent lane" else Lane.NORMAL
    chunks = [Chunk([full_block(n * MAX_ROWS)], done=done) for n in range(5)]
    assert len(commits_of(chunks, lane=lane)) == 5
    assert len(told) == (5 if done else 0)


@pytest.mark.parametrize(
    ("linger_ns", "expected"),
    [(SECOND, 30 * SECOND), (5 * SECOND, 60 * SECOND), (0, 0), (90 * SECOND, 90 * SECOND)],
)
def test_where_bytes_are_scarce_blocks_wait_longer_up_to_a_minute(linger_ns, expected):
    scarce = [False]
    options = WorkerOptions("f/pump", "pump", linger_ns=linger_ns, harder=lambda: scarce[0])
    sealer = Sealer(Context("gw", "f/pump", "boot", "0"), lambda: Stamp(1, 2, "synced"))
    worker = Worker(options, [], Pass(), Pass(), sealer, Spool(), SystemClock())
    assert worker._linger_ns() == linger_ns
    scarce[0] = True
    assert worker._linger_ns() == expected
