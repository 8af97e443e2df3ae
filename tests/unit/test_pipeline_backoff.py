"""How long a failed pipeline waits: ever longer while nothing of it becomes durable, briefly once something has."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from forebay import supervise
from forebay.blocks import Block, Column, Field, Lane, Schema, Type
from forebay.clock import SystemClock
from forebay.stages import Chunk, Commit
from forebay.supervise import ONCE_TRIES, Parts, SourceRunner, Unit
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import Worker, WorkerOptions

WAIT_S = 20.0
CRASHES = 5


class Idle:
    """A source that brings nothing until it is stopped."""

    replayable = False

    def __init__(self) -> None:
        self.ended = threading.Event()

    def run(self, emit, position):
        self.ended.wait(WAIT_S)

    def stop(self) -> None:
        self.ended.set()


class Pass:
    def apply(self, block: Block, *, early: bool = False) -> Block:
        return block

    check = apply


class Disk:
    """A spool that is durable, or not, at once."""

    def __init__(self, *, works: bool) -> None:
        self.works = works

    def submit(self, commit: Commit) -> None:
        for done in commit.done:
            done(self.works)

    def outstanding(self, owner: str) -> int:
        return 0

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        return True


class Failing(Worker):
    """Commits one chunk and then dies."""

    def run(self) -> None:
        block = Block(Schema("pump", (Field("t", Type.F64),)), np.arange(3), (Column(np.ones(3)),))
        self._take(Chunk([block]))
        self._seal_open()
        self._submit()
        raise RuntimeError("no more")


def failing_pipeline(monkeypatch, *, durable: bool, once: bool) -> tuple[list[int], Unit]:
    """Let a pipeline die until it gives up or has died often enough; return the failures it counted."""
    seen: list[int] = []
    units: list[Unit] = []

    def backoff(failures: int) -> float:
        seen.append(failures)
        if len(seen) == CRASHES:
            units[0].stop_reading()
        return 0.0

    def build() -> Parts:
        sealer = Sealer(Context("gw", "s/pump", "boot", "0"), lambda: Stamp(1, 2, "synced"))
        options = WorkerOptions("s/pump", "pump", Lane.NORMAL, linger_ns=0)
        worker = Failing(options, [], Pass(), Pass(), sealer, Disk(works=durable), SystemClock())
        return Parts(worker, SourceRunner("s", Idle(), worker, None, once=once))

    monkeypatch.setattr(supervise, "backoff_s", backoff)
    units.append(Unit("pump", build, SimpleNamespace(write=lambda *_: None), once=once))
    units[0].start()
    assert units[0].join(WAIT_S)
    return seen, units[0]


@pytest.mark.parametrize(("durable", "expected"), [(False, [1, 2, 3, 4, 5]), (True, [1, 1, 1, 1, 1])])
def test_a_pipeline_that_commits_is_soon_built_anew(monkeypatch, durable, expected):
    seen, _ = failing_pipeline(monkeypatch, durable=durable, once=False)
    assert seen == expected


@pytest.mark.parametrize("durable", [False, True])
def test_a_finite_run_comes_to_an_end_whatever_it_commits(monkeypatch, durable):
    seen, unit = failing_pipeline(monkeypatch, durable=durable, once=True)
    assert seen == list(range(1, ONCE_TRIES))
    assert "it failed too often" in unit.failed
