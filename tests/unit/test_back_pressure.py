"""A spool that takes nothing holds up everything before it: memory is bounded, nobody is told `accepted`."""

from __future__ import annotations

import threading

import numpy as np

from forebay.blocks import MAX_ROWS, Block, Column, Field, Lane, Schema, Type
from forebay.clock import SystemClock
from forebay.config.sources_live import SystemOptions
from forebay.pieces import BATCH_BYTES
from forebay.sources import system
from forebay.sources.context import SourceContext, Ticks
from forebay.stages import Chunk, Commit
from forebay.supervise import SourceRunner
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import MOST_COMMITS_AHEAD, Worker, WorkerOptions

QUEUE_BYTES = 256 * 1024
COMMIT_BYTES = 32 * 1024
WAIT_S = 60.0


class Pass:
    def apply(self, block: Block, *, early: bool = False) -> Block:
        return block

    check = apply


class StuckSpool:
    """Takes commits and makes none durable until it is released."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.free = threading.Event()
        self.refused = threading.Event()  # the worker has asked for room and there was none

    def submit(self, commit: Commit) -> None:
        self.commits.append(commit)
        if self.free.is_set():
            self._settle([commit])

    def outstanding(self, owner: str) -> int:
        return 0 if self.free.is_set() else len(self.commits)

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        if self.outstanding(owner) >= limit:
            self.refused.set()
        return self.free.wait(WAIT_S)

    def release(self) -> None:
        self.free.set()
        self._settle(self.commits)

    def _settle(self, commits: list[Commit]) -> None:
        for commit in commits:
            while commit.done:
                commit.done.pop()(True)


class Endless:
    """Noise, so that sealed bytes are as many as those that went in; a sender waits for each block's answer."""

    replayable = False

    def __init__(self) -> None:
        self.emitted = 0
        self.accepted = 0

    def run(self, emit, position):
        rng = np.random.default_rng(1)
        schema, time = Schema("pump", (Field("t", Type.F64),)), np.arange(MAX_ROWS)
        going = True
        while going:
            self.emitted += 1  # the one that is held up counts
            going = emit(Chunk([Block(schema, time, (Column(rng.random(MAX_ROWS)),))], done=self._told))

    def _told(self, durable: bool) -> None:
        self.accepted += durable

    def stop(self) -> None:
        return


def running(source, spool, queue_bytes=QUEUE_BYTES, commit_bytes=COMMIT_BYTES):
    sealer = Sealer(Context("gw", "s/pump", "boot", "0"), lambda: Stamp(1, 2, "synced"))
    options = WorkerOptions(
        "s/pump", "pump", Lane.NORMAL, linger_ns=0, queue_bytes=queue_bytes, commit_bytes=commit_bytes
    )
    worker = Worker(options, [], Pass(), Pass(), sealer, spool, SystemClock())
    runner = SourceRunner("s", source, worker, None, once=False)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    runner.thread.start()
    return worker, runner, thread


def await_full(worker, spool, item_bytes):
    """Wait until the worker is held up and the queue before it has no room for another item."""
    assert spool.refused.wait(WAIT_S)
    for _ in range(int(WAIT_S * 100)):
        if worker.queue.nbytes + item_bytes > QUEUE_BYTES:
            return
        threading.Event().wait(0.01)
    raise AssertionError("the queue does not fill")


def end(worker, runner, thread, spool):
    spool.release()
    runner.stop()
    worker.queue.close()
    for each in (runner.thread, thread):
        each.join(WAIT_S)
        assert not each.is_alive()
    spool.release()


def test_a_stuck_spool_stops_the_source_within_bounded_memory_and_accepts_nothing():
    spool, source = StuckSpool(), Endless()
    worker, runner, thread = running(source, spool)
    item = 16 * MAX_ROWS
    try:
        await_full(worker, spool, item)
        held = len(spool.commits)
        stored = sum(c.nbytes for c in spool.commits)
        emitted = source.emitted
        assert source.accepted == 0
        assert held == MOST_COMMITS_AHEAD
        assert worker.queue.nbytes <= QUEUE_BYTES
        assert stored <= MOST_COMMITS_AHEAD * (COMMIT_BYTES + BATCH_BYTES)
        # what the queue holds, what is with the spool, and one commit that grows before it
        ahead = QUEUE_BYTES + MOST_COMMITS_AHEAD * (COMMIT_BYTES + item) + COMMIT_BYTES + 2 * item
        assert emitted * item <= 2 * ahead
        assert len(spool.commits) == held, "it stands still"
        assert source.emitted <= emitted + 1, "but for the block that waits for room"
    finally:
        end(worker, runner, thread, spool)
    assert source.accepted > 0
    assert source.emitted >= source.accepted >= emitted - 1, "the one held up may be refused at the end"
    assert sum(b.rows for c in spool.commits for b in c.batches) == source.accepted * MAX_ROWS


def test_a_polled_source_is_not_asked_again_while_the_spool_is_stuck(monkeypatch):
    monkeypatch.setattr(system, "_FIRST_S", 0.0)
    monkeypatch.setattr(Ticks, "seconds_left", lambda self: 0.0)
    spool = StuckSpool()
    polls = [0]
    source = system.SystemSource(SystemOptions(metrics=("memory",)), SourceContext("self", "pump"))
    run = source.run

    def counted(emit, position):
        def count(chunk):
            polls[0] += 1
            return emit(chunk)

        run(count, position)

    monkeypatch.setattr(source, "run", counted)
    worker, runner, thread = running(source, spool, 8 * 1024, 1024)
    try:
        assert spool.refused.wait(WAIT_S)
        queue = worker.queue
        for _ in range(int(WAIT_S * 100)):
            before = polls[0]
            threading.Event().wait(0.05)
            if polls[0] == before and queue.nbytes > 4 * 1024:
                break
        else:
            raise AssertionError("it is polled on and on")
        assert queue.nbytes <= 8 * 1024
    finally:
        end(worker, runner, thread, spool)
    assert sum(b.rows for c in spool.commits for b in c.batches) >= polls[0] - 1


def test_a_source_that_is_held_up_ends_when_told():
    spool, source = StuckSpool(), Endless()
    worker, runner, thread = running(source, spool)
    await_full(worker, spool, 16 * MAX_ROWS)
    runner.stop()
    worker.queue.close()
    runner.thread.join(WAIT_S)
    assert not runner.thread.is_alive(), "a stop does not wait for the spool"
    end(worker, runner, thread, spool)
