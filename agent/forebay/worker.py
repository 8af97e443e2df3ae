"""The worker of one pipeline: steps, mask, guard, seal, commit. The order of mask, guard and seal is fixed here.

Two laws that no configuration can break:
1. Mask before disk: only blocks that went through `_protect` are sealed, and only sealed bytes leave.
2. The guard fails closed: whatever goes wrong in masking or in the guard, cells become null and rows go on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Lane, null_out
from forebay.clock import Clock
from forebay.holding import Holding
from forebay.queues import ByteQueue, Closed
from forebay.stages import AuditNote, Chunk, Commit, LedgerCounts, Sealed, Step

log = logging.getLogger("forebay.pipeline")

MOST_COMMITS_AHEAD = 2
GATHER_BYTES = (
    64 * 1024
)  # while more waits, a commit within its linger grows to this: fewer fsyncs, less wear
MASK_STATE = "mask"  # the masker's place among the states of the steps
REJECTED_LOGGED = 3  # broken records named in the log per chunk


class Masker(Protocol):
    """Applies the policy to a block."""

    def apply(self, block: Block, *, early: bool = False) -> Block:
        """Return the block with personal data masked; `early`: all but pictures."""


class Guard(Protocol):
    """Stands at the spool's door."""

    def check(self, block: Block) -> Block:
        """Return the block with every value null that has no business in the spool."""


class Memory(Protocol):
    """What masking must remember over a restart: noise budgets."""

    def state(self) -> bytes | None:
        """Return what must be stored with the rows, None: nothing."""

    def restore(self, state: bytes) -> None:
        """Take over a saved state. What cannot be read closes; it never raises."""


class Seal(Protocol):
    """Makes batches."""

    bodies: dict[bytes, bytes]

    def seal(self, block: Block, position: bytes | None) -> Sealed:
        """Return the block as a batch."""


class CommitSink(Protocol):
    """The spool's writer as a pipeline sees it."""

    def submit(self, commit: Commit) -> None:
        """Queue a commit."""

    def outstanding(self, owner: str) -> int:
        """Return how many commits are not durable yet."""

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        """Wait until fewer than `limit` are."""


HARDER_LINGERS = 30  # at 50 rows a block a reading costs three times the bytes that it costs at 1,000
MOST_LINGER_NS = 60 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Settings of one pipeline. `stream` is the stream of its data blocks."""

    owner: str
    stream: str
    lane: Lane = Lane.NORMAL
    linger_ns: int = 1_000_000_000
    queue_bytes: int = 8 * 1024 * 1024
    commit_bytes: int = 1024 * 1024  # a commit that waits for the writer grows up to this
    harder: Callable[[], bool] = lambda: False  # bytes on the link are scarce: larger blocks compress better


class Worker:
    """The work of one worker thread; `run` returns when the queue is closed and empty."""

    def __init__(
        self,
        options: WorkerOptions,
        steps: Sequence[Step],
        masker: Masker,
        guard: Guard,
        sealer: Seal,
        writer: CommitSink,
        clock: Clock,
        audit: Callable[[], AuditNote | None] = lambda: None,
        memory: Memory | None = None,
        counts: Callable[[], LedgerCounts] = Counter,
    ) -> None:
        self.options, self._audit, self._memory, self._counts = options, audit, memory, counts
        self.queue: ByteQueue[Chunk] = ByteQueue(options.queue_bytes)
        self._steps, self._masker, self._guard = list(steps), masker, guard
        self._sealer, self._writer, self._clock = sealer, writer, clock
        self._held = Holding(self._protect)
        self._deadline_ns: int | None = None
        self._hits: Counter[str] = Counter()  # of masking at the entry, for the next batch's attestation
        self._commit = Commit(options.owner)
        self._dirty = False  # chunks went in since the last commit
        self._since_ns = 0  # when the first of them did
        self._hurry = False  # something urgent was sealed, or somebody waits for the answer
        self.finish_steps = False  # a finite source ended: unfinished windows are due
        self.tap: Callable[[Block], None] | None = None  # sees what goes to the spool; must not block
        self.last_progress_ns = clock.monotonic_ns()
        self.has_committed = False  # something of it is durable

    def restore(self, progress: dict[str, bytes]) -> None:
        """Give each step the state saved under its place; one that no longer fits starts afresh."""
        if self._memory is not None and MASK_STATE in progress:
            self._memory.restore(progress[MASK_STATE])
        for name, step in self._named_steps():
            state = progress.get(name)
            if state is None:
                continue
            try:
                step.restore(state)
            except Exception as error:  # noqa: BLE001 - whatever it is, the step can start afresh
                log.warning(
                    "a step starts afresh, its saved state is of another configuration"
                    " owner=%s step=%s error=%s",
                    self.options.owner,
                    name,
                    type(error).__name__,
                )

    def _named_steps(self) -> Iterable[tuple[str, Step]]:
        return ((f"{place}.{step.name}", step) for place, step in enumerate(self._steps))

    # -- the loop -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until the queue is closed and empty; then seal and submit what is left."""
        while True:
            try:
                chunk = self.queue.get(self._wait_s())
            except Closed:
                break
            if chunk is not None:
                self._take(chunk)
            if self._must_seal(chunk):
                self._seal_open()
            self._submit_if_possible()
            self.last_progress_ns = self._clock.monotonic_ns()
        if self.finish_steps:
            self._finish()
        self._seal_open()
        self._submit()

    # -- for those who supervise ----------------------------------------------------------------------------

    def clock_ns(self) -> int:
        """Return the monotonic clock by which `last_progress_ns` is read."""
        return self._clock.monotonic_ns()

    def step_names(self) -> list[str]:
        """Return the names of the steps in their order."""
        return [step.name for step in self._steps]

    def reports(self) -> dict[str, Any]:
        """Return what steps say of themselves, by name (`infer`, `infer_2`): names and numbers, never a data value."""
        told, seen = {}, Counter[str]()
        for step in self._steps:
            seen[step.name] += 1
            report = getattr(step, "report", None)
            if report is not None:
                count = seen[step.name]
                told[step.name if count == 1 else f"{step.name}_{count}"] = report()
        return told

    def abandon(self) -> None:
        """Tell the senders of what is in memory that it was not accepted. Only when `run` does not run."""
        waiting = [*self._commit.done]
        self._commit.done.clear()
        try:
            while (chunk := self.queue.get(0)) is not None:
                if chunk.done is not None:
                    waiting.append(chunk.done)
        except Closed:
            log.debug("queue is empty and closed owner=%s", self.options.owner)
        for done in waiting:
            done(False)

    def is_durable(self, timeout: float) -> bool:
        """Wait until everything submitted is on disk. Return whether it is."""
        return self._writer.wait_below(self.options.owner, 1, timeout)

    # -- waiting --------------------------------------------------------------------------------------------

    def _wait_s(self) -> float | None:
        if self._deadline_ns is None:
            return 0.5
        return max(0.0, (self._deadline_ns - self._clock.monotonic_ns()) / 1e9)

    def _must_seal(self, chunk: Chunk | None) -> bool:
        if not self._dirty:
            return False
        if self._held.urgent or self._held.is_full():
            return True
        if chunk is not None and chunk.wants_reply and not len(self.queue):
            return True
        return self._deadline_ns is not None and self._clock.monotonic_ns() >= self._deadline_ns

    def _take(self, chunk: Chunk) -> None:
        ledger, stream = self._commit.ledger, self.options.stream
        if chunk.done is not None:
            self._commit.done.append(chunk.done)
            self._hurry = True
        for reason, readings in chunk.rejected_counts.items():
            ledger[stream, "rejected", reason] += readings
            ledger[stream, "read", ""] += readings
        for record in chunk.rejected[:REJECTED_LOGGED]:
            log.warning(
                "input rejected place=%s reason=%s length=%d: %s",
                record.place,
                record.reason,
                record.length,
                record.detail,
            )
        for block in chunk.blocks:
            block = self._enter(block)
            if not block.rows:  # the policy dropped them all
                continue
            for out in self._through_steps([block], self._steps):
                self._held.add(out)
        if chunk.position is not None:
            self._commit.position = chunk.position
        now = self._clock.monotonic_ns()
        if not self._dirty:
            self._dirty, self._since_ns = True, now
        if self._deadline_ns is None:
            self._deadline_ns = now + self._linger_ns()

    def _linger_ns(self) -> int:
        linger = self.options.linger_ns
        return max(linger, min(HARDER_LINGERS * linger, MOST_LINGER_NS)) if self.options.harder() else linger

    def _finish(self) -> None:
        """Ask each step for what it still holds and send that through the steps behind it."""
        for place, step in enumerate(self._steps):
            held = self._guarded_call(step, step.flush, [])
            for block in held:
                self._commit.ledger[block.stream, "read", ""] += block.readings()
            for out in self._through_steps(held, self._steps[place + 1 :]):
                self._held.add(out)
            self._dirty = self._dirty or bool(held)
        self._dirty = True  # the states changed

    # -- steps ----------------------------------------------------------------------------------------------

    def _through_steps(self, blocks: list[Block], steps: Sequence[Step]) -> list[Block]:
        """Send data blocks through the steps.

        Blocks of other streams (alarms) pass those behind their maker, but for steps that ask for all streams:
        those over detections.
        """
        for step in steps:
            out: list[Block] = []
            for block in blocks:
                if block.stream != self.options.stream and not getattr(step, "all_streams", False):
                    out.append(block)
                    continue
                self.last_progress_ns = self._clock.monotonic_ns()
                made = self._guarded_call(step, lambda s=step, b=block: s.process(b), [block])  # type: ignore[misc]
                self._count(step.name, block, made)
                out += made
            blocks = out
        return blocks

    def _guarded_call(
        self, step: Step, call: Callable[[], list[Block]], otherwise: list[Block]
    ) -> list[Block]:
        """Call a step; if it fails the block goes on as it was: a broken model must not cost the data."""
        try:
            return call()
        except Exception as error:
            # Only the kind and our own words: an exception's text may quote data.
            log.error(
                "a step failed, its input goes on unchanged owner=%s step=%s error=%s",
                self.options.owner,
                step.name,
                type(error).__name__,
            )
            log.debug("where the step failed", exc_info=True)
            return otherwise

    def _count(self, step: str, before: Block, after: list[Block]) -> None:
        """Keep the ledger's first equation: what a step takes is filtered, what it makes is read."""
        ledger = self._commit.ledger
        left = sum(b.readings() for b in after if b.stream == before.stream)
        change = left - before.readings()
        if change < 0:
            ledger[before.stream, "filtered", step] -= change
        else:
            ledger[before.stream, "read", ""] += change
        for block in after:
            if block.stream != before.stream:
                ledger[block.stream, "read", ""] += block.readings()

    # -- mask and guard -------------------------------------------------------------------------------------

    def _enter(self, block: Block) -> Block:
        """Count a block in and mask all but its pictures.

        Steps remember values and names of devices, and their memory is stored with the batches: what they
        see must be masked already, or the first law would have a hole.
        """
        self._commit.ledger[block.stream, "read", ""] += block.readings()
        if block.lane is not self.options.lane:
            block = replace(block, lane=self.options.lane)
        masked = self._mask(block, early=True)
        if not masked.hits:
            return masked
        # Steps may hand hits on twice, or not at all: they are kept here and go with the next batch.
        self._hits.update(masked.hits)
        return replace(masked, hits=Counter())

    def _mask(self, block: Block, *, early: bool) -> Block:
        before = block.readings()
        try:
            masked = self._masker.apply(block, early=early)
        except Exception as error:  # noqa: BLE001 - fails closed
            log.error(
                "masking failed, the values are kept back stream=%s error=%s",
                block.stream,
                type(error).__name__,
            )
            masked = _all_null(block)
        self._commit.ledger[block.stream, "filtered", "mask"] += before - masked.readings()
        return masked

    def _protect(self, block: Block) -> Block:
        """Mask what steps made and pictures, then let the guard look at everything."""
        masked = self._mask(block, early=False)
        before = masked.readings()
        try:
            guarded = self._guard.check(masked)
        except Exception as error:  # noqa: BLE001 - fails closed
            log.error(
                "the guard failed, the values are kept back stream=%s error=%s",
                block.stream,
                type(error).__name__,
            )
            guarded = _all_null(masked)
        self._commit.ledger[block.stream, "guarded", ""] += before - guarded.readings()
        if guarded.rows and block.stream == self.options.stream and self._hits:
            guarded = replace(guarded, hits=guarded.hits + self._hits)
            self._hits = Counter()
        return guarded

    # -- sealing --------------------------------------------------------------------------------------------

    def _seal_open(self) -> None:
        """Seal everything that is open: position and ledger then stand for exactly what the commit holds."""
        commit, is_urgent = self._commit, self._held.urgent
        ready = self._held.take()
        for number, block in enumerate(ready, start=1):
            if self.tap is not None:
                self.tap(block)
            # Only the last one says where the source stands: who has it has all that came before it.
            sealed = self._sealer.seal(block, commit.position if number == len(ready) else None)
            commit.batches.append(sealed)
            for key in sealed.bodies:
                commit.bodies[key] = self._sealer.bodies[key]
            commit.ledger[block.stream, "accepted", ""] += sealed.readings
        self._hurry = self._hurry or is_urgent
        self._deadline_ns = None

    def _submit_if_possible(self) -> None:
        """Hand over when the writer is free; while it is busy the commit grows, so one fsync serves more."""
        if not self._dirty or self._deadline_ns is not None:
            return  # nothing new, or still lingering
        if self._may_gather():
            return
        ahead = self._writer.outstanding(self.options.owner)
        if ahead == 0 or (ahead < MOST_COMMITS_AHEAD and self._commit.nbytes >= self.options.commit_bytes):
            self._submit()
            return
        while self._commit.nbytes >= self.options.commit_bytes:
            if self._writer.outstanding(self.options.owner) < MOST_COMMITS_AHEAD:
                self._submit()
                return
            self._writer.wait_below(self.options.owner, MOST_COMMITS_AHEAD, 0.5)
            self.last_progress_ns = self._clock.monotonic_ns()  # held up by the spool, not stuck

    def _may_gather(self) -> bool:
        """Return whether the commit may wait for more: it is small, more is there, and nobody is in a hurry."""
        if self._hurry or not len(self.queue) or self._commit.nbytes >= GATHER_BYTES:
            return False
        return self._clock.monotonic_ns() - self._since_ns < self.options.linger_ns

    def _submit(self) -> None:
        if not self._dirty:
            return
        commit, self._commit = self._commit, Commit(self.options.owner)
        self._dirty = self._hurry = False
        for name, step in self._named_steps():
            state = step.state()
            if state is not None:
                commit.state[name] = state
        mask_state = self._memory.state() if self._memory is not None else None
        if mask_state is not None:
            commit.state[MASK_STATE] = mask_state
        commit.audit_note = self._audit()
        commit.ledger.update(self._counts())
        commit.ledger = Counter({key: n for key, n in commit.ledger.items() if n})
        commit.done.append(self._committed)
        self._writer.submit(commit)

    def _committed(self, durable: bool) -> None:
        self.has_committed = self.has_committed or durable
        self.queue.poke()


def _all_null(block: Block) -> Block:
    """Return the block with every cell null: what is left when nothing can be vouched for."""
    mask = np.ones(block.rows, dtype=np.bool_)
    columns = tuple(
        null_out(replace(c, spans=None, frames=None), mask, q.DETECTOR_FAILED) for c in block.columns
    )
    return replace(block, columns=columns)
