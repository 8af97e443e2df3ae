"""What keeps running: sources and pipelines, each restarted alone with backoff, without a chunk lost or doubled.

A source that fails starts again from where it last emitted. A pipeline that fails loses what was in its memory,
so it is built anew, with its source, from what is durable: a file is read again from its stored position, a
sender that was not answered sends again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from forebay.crash import CrashReports
from forebay.errors import ForebayError
from forebay.stages import Chunk, Source
from forebay.worker import Worker

log = logging.getLogger("forebay.source")

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ONCE_TRIES = 3  # a finite run does not try for ever
HEALTHY_S = 60.0  # a pipeline that ran so long starts its backoff afresh
SOURCE_END_S = 20.0  # a driver that does not let go of its device by then cannot be started a second time


def backoff_s(failures: int) -> float:
    """Return the pause after so many failures in a row."""
    return BACKOFF_S[min(max(failures, 1), len(BACKOFF_S)) - 1]


class SourceRunner:
    """Runs one source of one pipeline.

    Attributes
    ----------
    failed : set when a finite run gave up: the reason, for the exit code and the summary
    restarts : how often it was started again
    trouble : what is wrong at the moment, empty when nothing is
    """

    def __init__(
        self, name: str, source: Source, worker: Worker, position: bytes | None, *, once: bool
    ) -> None:
        self.name = name
        self.failed: ForebayError | None = None
        self.restarts = 0
        self.trouble = ""
        self._source, self._worker, self._position, self._once = source, worker, position, once
        self.begin: Callable[[threading.Event], bytes | None] | None = None  # finds its position, if need be
        self._handed_on = 0  # chunks
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"source-{name}", daemon=True)

    def stop(self) -> None:
        """Ask the source to end."""
        self._stop.set()
        self._source.stop()

    def _run(self) -> None:
        if not self._find_position():
            return
        failures = 0
        while not self._stop.is_set():
            before, handed_on = self._position, self._handed_on
            try:
                self._source.run(self._emit, self._position)
                return
            except ForebayError as error:
                problem = error
            except Exception as error:
                log.exception("a source failed in a way nobody foresaw source=%s", self.name)
                problem = ForebayError(f"unexpected {type(error).__name__}", place=self.name, retryable=True)
            # Who hands on is not failing in a row; a finite run must get further, too, or it would never end.
            moved = self._position != before or (not self._once and self._handed_on != handed_on)
            failures = 1 if moved else failures + 1
            if self._once and (not problem.retryable or failures >= ONCE_TRIES):
                log.error("source gives up source=%s: %s", self.name, problem)
                self.failed = problem
                return
            pause = backoff_s(failures)
            log.error(
                "source failed, it will be tried again source=%s pause_s=%g: %s", self.name, pause, problem
            )
            self.trouble = str(problem)
            self._stop.wait(pause)
            self.restarts += 1

    def _find_position(self) -> bool:
        """Find out how far the source was read, if that is in doubt. Return whether it may start."""
        if self.begin is None:
            return True
        self.trouble = "waits to know how far it was read"
        try:
            self._position = self.begin(self._stop)
        except ForebayError as error:
            log.error("source is held source=%s: %s", self.name, error)
            self.failed, self.trouble = error, str(error)
            return False
        except Exception as error:
            log.exception("it could not be found out how far a source was read source=%s", self.name)
            self.failed = ForebayError(f"unexpected {type(error).__name__}", place=self.name)
            self.trouble = str(self.failed)
            return False
        self.trouble = ""
        return not self._stop.is_set()

    def _emit(self, chunk: Chunk) -> bool:
        if self._stop.is_set():
            return False
        nbytes = chunk.nbytes or sum(block.nbytes for block in chunk.blocks)
        taken = self._worker.queue.put(chunk, nbytes)
        if taken:
            self._handed_on += 1
            if chunk.position is not None:
                self._position = chunk.position
        self.trouble = ""
        return taken and not self._stop.is_set()


@dataclass(slots=True)
class Parts:
    """One pipeline as built from what is durable, not yet started."""

    worker: Worker
    runner: SourceRunner


class Unit:
    """One pipeline with its source: one thread each, restarted together when the pipeline fails.

    Attributes
    ----------
    failed : why it will not start again, empty while it may
    restarts : how often it was built anew
    """

    def __init__(
        self, name: str, build: Callable[[], Parts], crashes: CrashReports, *, once: bool = False
    ) -> None:
        self.name, self.failed, self.restarts = name, "", 0
        self._build, self._crashes, self._once = build, crashes, once
        self._parts = build()
        self._stop = threading.Event()
        self._restarting = False
        self._thread = threading.Thread(target=self._run, name=f"pipeline-{name}", daemon=True)

    @property
    def worker(self) -> Worker:
        """The worker in use."""
        return self._parts.worker

    @property
    def runner(self) -> SourceRunner:
        """The source's runner in use."""
        return self._parts.runner

    def start(self) -> None:
        """Start source and worker: in this order, for a worker that fails at once waits for its source's end."""
        self.runner.thread.start()
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the worker runs or will."""
        return self._thread.is_alive()

    def is_working(self) -> bool:
        """Return whether the worker runs now: neither ended nor waiting to be built anew."""
        return self._thread.is_alive() and not self._restarting

    def is_reading(self) -> bool:
        """Return whether the source runs or will."""
        return self._restarting or self.runner.thread.is_alive()

    def finish(self) -> None:
        """A finite source has ended: let the worker take what is queued, unfinished windows too, and end."""
        self.worker.finish_steps = True
        self.worker.queue.close()

    def stop_reading(self) -> None:
        """Ask the source to end; what it emitted goes on."""
        self._stop.set()
        self.runner.stop()

    def stop_working(self) -> None:
        """Let the worker take what is queued and end."""
        self._stop.set()
        self.worker.queue.close()

    def join(self, timeout: float) -> bool:
        """Wait for the worker's end. Return whether it ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the worker's thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while True:
            worker = self.worker
            begun = worker.clock_ns()
            try:
                worker.run()
                return
            except Exception as error:
                self._restarting = not self._stop.is_set()
                log.exception(
                    "a pipeline failed; it is built anew from what is durable pipeline=%s", self.name
                )
                self._crashes.write("pipeline", self.name, error)
            healthy = worker.clock_ns() - begun > HEALTHY_S * 1e9
            # Who commits is not failing in a row, as with sources; a finite run must come to an end.
            moved = healthy or (worker.has_committed and not self._once)
            failures = 1 if moved else failures + 1
            if self._stop.is_set() or (self._once and failures >= ONCE_TRIES):
                self._give_up(
                    "it failed too often" if not self._stop.is_set() else "it failed while stopping"
                )
                return
            if not self._restart(failures):
                return

    def _restart(self, failures: int) -> bool:
        """Take the old parts down, build new ones, start their source. Return False when that cannot be."""
        if not self._take_down():
            self._give_up("its source does not end, so it cannot be started a second time")
            return False
        self._stop.wait(backoff_s(failures))
        while not self._stop.is_set():
            try:
                self._parts = self._build()
                break
            except Exception as error:  # noqa: BLE001 - a model or key may be back later
                log.error(
                    "a pipeline cannot be built, it will be tried again pipeline=%s: %s",
                    self.name,
                    error if isinstance(error, ForebayError) else type(error).__name__,
                )
                self._stop.wait(BACKOFF_S[-1])
        else:
            self._restarting = False
            return False
        self.restarts += 1
        self.runner.thread.start()
        self._restarting = False
        return True

    def _take_down(self) -> bool:
        """End the source, tell its senders that nothing was accepted, and wait for what is on its way to disk."""
        worker, runner = self.worker, self.runner
        runner.stop()
        worker.queue.close()
        worker.abandon()
        runner.thread.join(SOURCE_END_S)
        worker.abandon()  # what the source put in before it saw that the queue is closed
        while not worker.is_durable(0.5):
            if self._stop.is_set():
                break
        return not runner.thread.is_alive()

    def _give_up(self, reason: str) -> None:
        self.failed = f"pipeline {self.name}: {reason}"
        self._restarting = False
        self.runner.stop()
        self.worker.queue.close()
        self.worker.abandon()
