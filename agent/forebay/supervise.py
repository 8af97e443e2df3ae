"""Threads of sources: restarted with backoff, from where they last emitted, without a chunk lost or doubled."""

from __future__ import annotations

import logging
import threading

from forebay.errors import ForebayError
from forebay.stages import Chunk, Source
from forebay.worker import Worker

log = logging.getLogger("forebay.source")

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ONCE_TRIES = 3  # a finite run does not try for ever


class SourceRunner:
    """Runs one source of one pipeline.

    Attributes
    ----------
    failed : set when a finite run gave up: the reason, for the exit code and the summary
    """

    def __init__(
        self, name: str, source: Source, worker: Worker, position: bytes | None, *, once: bool
    ) -> None:
        self.name = name
        self.failed: ForebayError | None = None
        self._source, self._worker, self._position, self._once = source, worker, position, once
        self.hold: ForebayError | None = None  # why it must not start at all
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"source-{name}", daemon=True)

    def stop(self) -> None:
        """Ask the source to end."""
        self._stop.set()
        self._source.stop()

    def _run(self) -> None:
        if self.hold is not None:
            log.error("source is held source=%s: %s", self.name, self.hold)
            self.failed = self.hold
            return
        failures = 0
        while not self._stop.is_set():
            before = self._position
            try:
                self._source.run(self._emit, self._position)
                return
            except ForebayError as error:
                problem = error
            except Exception as error:
                log.exception("a source failed in a way nobody foresaw source=%s", self.name)
                problem = ForebayError(f"unexpected {type(error).__name__}", place=self.name, retryable=True)
            failures = 1 if self._position != before else failures + 1
            if self._once and (not problem.retryable or failures >= ONCE_TRIES):
                log.error("source gives up source=%s: %s", self.name, problem)
                self.failed = problem
                return
            pause = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
            log.error(
                "source failed, it will be tried again source=%s pause_s=%g: %s", self.name, pause, problem
            )
            self._stop.wait(pause)

    def _emit(self, chunk: Chunk) -> bool:
        if self._stop.is_set():
            return False
        nbytes = chunk.nbytes or sum(block.nbytes for block in chunk.blocks)
        taken = self._worker.queue.put(chunk, nbytes)
        if taken and chunk.position is not None:
            self._position = chunk.position
        return taken and not self._stop.is_set()
