"""The running agent: what is started in which order, how it stops, and when a finite run is done."""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial

from forebay import __version__
from forebay.clock import Clock, SystemClock, boot_id
from forebay.config.agent import AgentConfig, ForwardOptions
from forebay.config.loader import LoadedConfig
from forebay.errors import ForebayError
from forebay.forward import (
    Budget,
    BudgetPlan,
    Forwarder,
    LinkMemory,
    LinkOptions,
    Notary,
    Rung,
    SpoolDoor,
)
from forebay.keys import read_public, read_secret
from forebay.pipeline import Plumbing, at_rest_lock, build_plumbing, spool_limits
from forebay.signing import sign_apart
from forebay.spool import Spool
from forebay.wire.atrest import GatewayLock
from forebay.wire.messages import PROTOCOL, Hello
from forebay.wire.seal import read_range

log = logging.getLogger("forebay.agent")

SWITCH_INTERVAL_S = 0.0005  # at the default of 5 ms one busy thread keeps a waiting one from its deadline
STOP_SOURCES_S = 5.0
DRAIN_S = 20.0
CLOSE_S = 10.0
LEAST_CLOSE_S = 0.5  # when the spool cannot write anyway
GIVE_UP_NS = 30 * 1_000_000_000  # a finite run gives up when nothing was acknowledged for this long
_PR_SET_DUMPABLE = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `undelivered` counts readings that the receiver has not acknowledged."""

    complete: bool
    reason: str = ""
    undelivered: int = 0


def link_options(options: ForwardOptions) -> LinkOptions:
    """Return the forwarder's settings."""
    return LinkOptions(
        window=options.window,
        ack_timeout_ns=options.ack_timeout,
        backoff_min_ns=options.retry_min,
        backoff_max_ns=options.retry_max,
        heartbeat_ns=options.heartbeat,
        rate=options.rate_limit,
        newest_first=options.backfill.order == "newest_first",
        backfill_share=options.backfill.share,
        flush_jitter_ns=options.flush_jitter,
        thin_keep=options.budget.thin_keep,
        store=options.store,
    )


def budget_plan(options: ForwardOptions | None) -> BudgetPlan:
    """Return the byte budgets; without a `forward` section there is nothing to spend."""
    if options is None:
        return BudgetPlan()
    b = options.budget
    return BudgetPlan(
        day=b.day,
        month=b.month,
        harder_at=b.harder_at,
        thin_at=b.thin_at,
        thin_keep=b.thin_keep,
        urgent_at=b.urgent_at,
        month_starts=b.month_starts,
        zone_s=b.zone_s,
    )


class _Stillness:
    """Tells for how long a value has not changed."""

    def __init__(self) -> None:
        self._last: object = None
        self._since = time.monotonic()

    def seconds(self, value: object) -> float:
        """Return how long `value` has been the same."""
        if value != self._last:
            self._last, self._since = value, time.monotonic()
        return time.monotonic() - self._since


def harden_process() -> None:
    """Shut the side doors of memory: no core dump can carry unmasked data to disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A core pattern that pipes to a program ignores the limit; a process that is not dumpable has no core.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    sys.setswitchinterval(SWITCH_INTERVAL_S)


class Agent:
    """One agent. `start`, then `wait` or `drain`, then `stop`."""

    def __init__(
        self,
        loaded: LoadedConfig[AgentConfig],
        *,
        once: bool = False,
        give_up_ns: int = GIVE_UP_NS,
        clock: Clock | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self._loaded, self._once, self._give_up_s = loaded, once, give_up_ns / 1e9
        self._clock = clock or SystemClock()
        self._config = loaded.config
        self._boot = boot_id()
        self.stopping = stopping or threading.Event()
        self._forwarder: Forwarder | None = None
        options = self._config.spool
        self.spool = Spool.open(
            loaded.resolve(options.dir),
            sync=options.sync.value,
            limits=spool_limits(options),
            on_stored=self._on_stored,
            opener=lock if isinstance(lock := at_rest_lock(loaded), GatewayLock) else None,
            read_range=read_range,
        )
        try:
            self._reader = self.spool.reader()
            self._memory = LinkMemory(loaded.resolve(options.dir) / "link.json")
            self._budget = Budget(budget_plan(self._config.forward), self._memory, self._clock)
            self.plumbing: Plumbing = build_plumbing(
                loaded, self.spool, self._clock, self._boot, once=once, harder=self._is_scarce
            )
            self._door, self._forwarder = self._build_forwarder()
        except BaseException:
            self.spool.close(0)
            raise
        self._worker_threads = [
            threading.Thread(target=self._work, args=(name,), name=f"pipeline-{name}", daemon=True)
            for name in self.plumbing.workers
        ]
        self.failure: str = ""

    def _build_forwarder(self) -> tuple[SpoolDoor | None, Forwarder | None]:
        options = self._config.forward
        if options is None:
            return None, None
        own = read_secret(self._loaded.resolve(options.keys.own))
        server = read_public(self._loaded.resolve(options.keys.server))
        link = link_options(options)
        door = SpoolDoor(self.spool.reader(), self.spool.claims, self.spool.writer.answer)
        forwarder = Forwarder(
            options.endpoints,
            (own, server),
            link,
            door,
            self._clock,
            self._hello,
            memory=self._memory,
            budget=self._budget,
            notary=self._build_notary(options),
        )
        return door, forwarder

    def _build_notary(self, options: ForwardOptions) -> Notary | None:
        if not options.checkpoint:
            return None
        return Notary(
            (self._config.gateway.id, self._boot),
            options.checkpoint,
            partial(sign_apart, self._loaded.resolve(options.keys.own)),
            self._memory,
            self._clock,
            lambda: self._hello("").epochs,
        )

    def _is_scarce(self) -> bool:
        return self._budget.rung is not Rung.ALL

    def _hello(self, store: str) -> Hello:
        epochs = {epoch: (str(lane), number) for epoch, (lane, number) in self.spool.store.epochs().items()}
        return Hello(PROTOCOL, self._config.gateway.id, self._boot, __version__, epochs, store)

    def _on_stored(self) -> None:
        if self._door is not None and self._forwarder is not None:
            self._door.wake()

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all threads, the road's end first."""
        self.spool.writer.start()
        if self._forwarder is not None:
            self._forwarder.start()
        for thread in self._worker_threads:
            thread.start()
        for runner in self.plumbing.runners:
            runner.thread.start()
        log.info(
            "agent runs gateway=%s sources=%d pipelines=%d",
            self._config.gateway.id,
            len(self.plumbing.runners),
            len(self.plumbing.workers),
        )

    def _work(self, name: str) -> None:
        try:
            self.plumbing.workers[name].run()
        except Exception:
            # Its queue holds chunks that no longer move: end the process, the durable positions are right.
            log.exception(
                "a pipeline failed; the agent ends so that it can be started afresh pipeline=%s", name
            )
            self.failure = f"pipeline {name} failed"
            self.plumbing.workers[name].queue.close()
            self.stopping.set()

    def wait(self) -> None:
        """Wait until `stopping` is set."""
        while not self.stopping.wait(1.0):
            pass

    def drain(self) -> Outcome:
        """Wait until every finite source has ended and all was acknowledged, or until it cannot be."""
        stuck = self._join([runner.thread for runner in self.plumbing.runners])
        if not stuck:
            for worker in self.plumbing.workers.values():
                worker.finish_steps = True
                worker.queue.close()
            stuck = self._join(self._worker_threads)
        if stuck:
            return Outcome(False, stuck, self._undelivered())
        outcome = self._await_delivery()
        failed = [r for r in self.plumbing.runners if r.failed is not None]
        if failed:
            return Outcome(
                False, "; ".join(f"source {r.name}: {r.failed}" for r in failed), outcome.undelivered
            )
        return outcome

    def _join(self, threads: list[threading.Thread]) -> str:
        """Wait for threads to end. Return why they cannot: told to stop, or held up by a spool that is stuck."""
        since = _Stillness()
        for thread in threads:
            while thread.is_alive():
                if self.stopping.wait(0.02):
                    return self.failure or "stopped before the end"
                # A slow source is no reason to give up; one that waits for a spool without room is.
                still = since.seconds(self._progress())
                if self.spool.writer.condition.state != "ok" and still > self._give_up_s:
                    return self._why_stuck()
        return ""

    def _progress(self) -> tuple[int, int]:
        """Return what changes while data moves: transactions, and batches acknowledged."""
        return self.spool.store.txn, self._door.delivered if self._door else 0

    def _await_delivery(self) -> Outcome:
        """Watch the spool run empty. What was set aside, evicted or damaged is not delivered."""
        since = _Stillness()
        while not self.stopping.is_set():
            idle = self._reader.is_empty()
            durable = all(
                self.spool.writer.outstanding(w.options.owner) == 0 for w in self.plumbing.workers.values()
            )
            if idle and durable:
                return self._account()
            if self._forwarder is None and durable:
                return Outcome(
                    False, "there is no `forward` section: data stays in the spool", self._undelivered()
                )
            if since.seconds(self._progress()) > self._give_up_s:
                return Outcome(False, self._why_stuck(), self._undelivered())
            self.stopping.wait(0.02)
        return Outcome(False, self.failure or "stopped before all was acknowledged", self._undelivered())

    def _why_stuck(self) -> str:
        condition = self.spool.writer.condition
        if condition.state != "ok":
            return f"spool is {condition.state}: {condition.detail}"
        link = self._forwarder.link if self._forwarder else None
        if link is None:
            return "no link"
        if link.state == "up" and self._budget.rung is Rung.URGENT:
            return "the byte budget is used up: all but urgent batches wait for the next day or month"
        return f"no acknowledgement for {self._give_up_s:g} s; link to {link.endpoint} is {link.state}: {link.reason}"

    def _account(self) -> Outcome:
        lost = self._undelivered()
        if lost:
            return Outcome(False, "some readings were evicted or set aside, see `forebay status`", lost)
        return Outcome(True)

    def _undelivered(self) -> int:
        return sum(entry["accepted"] - entry["delivered"] for entry in self._reader.ledger().values())

    def _can_write(self) -> bool:
        return self.spool.writer.condition.state == "ok"

    def _join_within(self, threads: list[threading.Thread], seconds: float) -> None:
        """Wait for threads to end, but not while the spool cannot take what they hold: nobody was told `accepted`
        of that, and a replayable source reads it again."""
        deadline = time.monotonic() + seconds
        for thread in threads:
            while thread.is_alive() and time.monotonic() < deadline and self._can_write():
                thread.join(0.05)

    def stop(self) -> bool:
        """Stop in the order of the road; what sources were told is durable. Return whether all was written."""
        self.stopping.set()
        for runner in self.plumbing.runners:
            runner.stop()
        self._join_within([runner.thread for runner in self.plumbing.runners], STOP_SOURCES_S)
        for worker in self.plumbing.workers.values():
            worker.queue.close()
        self._join_within(self._worker_threads, DRAIN_S)
        if self._forwarder is not None:
            self._forwarder.stop()
            self._forwarder = None
        self._reader.close()
        try:
            return self.spool.close(CLOSE_S if self._can_write() else LEAST_CLOSE_S)
        except ForebayError as error:
            log.error("spool could not be closed: %s", error)
            return False
