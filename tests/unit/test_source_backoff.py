"""How long a failed source waits: ever longer while it brings nothing, briefly once it has brought something."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from forebay import supervise
from forebay.errors import ForebayError
from forebay.stages import Chunk
from forebay.supervise import SourceRunner

WAIT_S = 20.0


class Failing:
    """A source without positions that hands on so many chunks a start, and then fails."""

    replayable = False

    def __init__(self, chunks: int, starts: int) -> None:
        self.chunks, self.starts, self.runner = chunks, starts, None

    def run(self, emit, position):
        self.starts -= 1
        if self.starts < 0:
            self.runner.stop()
            return
        for _ in range(self.chunks):
            emit(Chunk([]))
        raise ForebayError("the line is noisy", retryable=True)

    def stop(self) -> None:
        return


def pauses_of(monkeypatch, chunks: int, *, once: bool) -> tuple[list[int], SourceRunner]:
    seen: list[int] = []

    def backoff(failures: int) -> float:
        seen.append(failures)
        return 0.0

    monkeypatch.setattr(supervise, "backoff_s", backoff)
    source = Failing(chunks, starts=5)
    worker = SimpleNamespace(queue=SimpleNamespace(put=lambda chunk, nbytes: True))
    runner = source.runner = SourceRunner("noisy", source, worker, None, once=once)
    runner.thread.start()
    runner.thread.join(WAIT_S)
    assert not runner.thread.is_alive()
    return seen, runner


@pytest.mark.parametrize(("chunks", "expected"), [(0, [1, 2, 3, 4, 5]), (2, [1, 1, 1, 1, 1])])
def test_a_source_that_brought_something_is_soon_tried_again(monkeypatch, chunks, expected):
    assert pauses_of(monkeypatch, chunks, once=False)[0] == expected


def test_a_finite_run_gives_up_a_source_that_brings_the_same_again_and_again(monkeypatch):
    seen, runner = pauses_of(monkeypatch, 2, once=True)
    assert seen == [1, 2]
    assert "the line is noisy" in str(runner.failed)


def test_the_pauses_grow_to_half_a_minute():
    pauses = [supervise.backoff_s(failures) for failures in range(1, 10)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.5
    assert pauses[-1] == 30
