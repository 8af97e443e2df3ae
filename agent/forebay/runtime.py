"""The running agent: what is started in which order, how it changes, how it stops."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from forebay import log as logs
from forebay.blocks import Block
from forebay.clock import Clock, SystemClock, boot_id
from forebay.config.agent import AgentConfig
from forebay.config.findings import ConfigErrors
from forebay.config.loader import LoadedConfig
from forebay.crash import CrashReports
from forebay.drain import Outcome, drain
from forebay.errors import ConfigError, ForebayError
from forebay.forwarding import Linkage
from forebay.harden import no_core_dumps
from forebay.memory import Keeper, bound_arenas
from forebay.notify import Notifier
from forebay.pipeline import Builder, at_rest_lock, spool_limits
from forebay.preflight import preflight
from forebay.reload import Plan, make_plan
from forebay.spool import Spool
from forebay.supervise import SOURCE_END_S, Parts, Unit
from forebay.watch import Watch, WriterPulse
from forebay.wire.atrest import GatewayLock
from forebay.wire.seal import read_range

__all__ = ["GIVE_UP_NS", "Agent", "Outcome", "harden_process"]

log = logging.getLogger("forebay.agent")

SWITCH_INTERVAL_S = 0.0005  # at the default of 5 ms one busy thread keeps a waiting one from its deadline
SETTLED_S = 3.0  # what a start reads once has been read by then
STOP_SOURCES_S = 5.0
DRAIN_S = 20.0
CLOSE_S = 10.0
LEAST_CLOSE_S = 0.5  # when the spool cannot write anyway
GIVE_UP_NS = 30 * 1_000_000_000  # a finite run gives up when nothing was acknowledged for this long

Loaded = LoadedConfig[AgentConfig]


def harden_process() -> None:
    """Shut the side doors: no core dump can carry unmasked data to disk, no file is for others to read."""
    os.umask(0o077)
    no_core_dumps()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    bound_arenas()


class Agent:
    """One agent. `start`, then `wait` or `drain`, then `stop`; `reload` in between, from any thread.

    Attributes
    ----------
    loaded : the configuration that runs
    units : pipelines with their sources, by name
    safe_mode : why the configuration asked for does not run, empty when it does; then, when `bare`, only spool,
        link and local socket run
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        once: bool = False,
        give_up_ns: int = GIVE_UP_NS,
        clock: Clock | None = None,
        stopping: threading.Event | None = None,
        safe_mode: str = "",
        bare: bool = False,
    ) -> None:
        self.loaded, self.safe_mode = loaded, safe_mode
        self._once, self._give_up_s = once, give_up_ns / 1e9
        self.clock = clock or SystemClock()
        self.boot = boot_id()
        self.started_ns = self.clock.monotonic_ns()
        self.stopping = stopping or threading.Event()
        self.failure = ""
        self.stuck = ""
        self._changing = threading.Lock()
        self.looking = threading.Lock()  # held by who reads `reader`
        self._taps: tuple[tuple[str | None, Callable[[Block], None]], ...] = ()
        options = loaded.config.spool
        folder = loaded.resolve(options.dir)
        lock = at_rest_lock(loaded)
        self.link: Linkage | None = None
        self.crashes = CrashReports(folder / "crashes", self.clock)
        self.spool = Spool.open(
            folder,
            sync=options.sync.value,
            limits=spool_limits(options),
            on_stored=self._on_stored,
            opener=lock if isinstance(lock, GatewayLock) else None,
            read_range=read_range,
        )
        try:
            self.reader = self.spool.reader()
            self._prints: dict[str, str] = {}
            self._policy = ("", "")
            self.link = Linkage(loaded, self.spool, self.clock, self.boot)
            self.units: dict[str, Unit] = {} if bare else self._build_units(loaded)
        except BaseException:
            self.spool.close(0)
            raise
        self.watch = Watch(lambda: list(self.units.values()), self._pulse, self.clock)

    # -- parts ----------------------------------------------------------------------------------------------

    def _build_units(self, loaded: Loaded) -> dict[str, Unit]:
        builder = self._builder(loaded)
        self._policy = (builder.policy.name, builder.policy.hash)
        return {name: self._unit(builder, name) for name in loaded.config.pipelines}

    def _unit(self, builder: Builder, name: str) -> Unit:
        self._prints[name] = builder.fingerprint(name)
        return Unit(name, lambda: self._parts(builder, name), self.crashes, once=self._once)

    def _parts(self, builder: Builder, name: str) -> Parts:
        parts = builder.build(name)
        if name in builder.incomplete:
            self._prints[name] = ""  # no change is needed for the next reload to look again
        parts.worker.tap = partial(self._show, name)
        return parts

    def _builder(self, loaded: Loaded) -> Builder:
        return Builder(
            loaded,
            self.spool,
            self.clock,
            self.boot,
            once=self._once,
            harder=lambda: self._link.is_scarce(),
            facts=self.facts,
            link=lambda: self._link,
        )

    def facts(self) -> dict[str, Any]:
        """Return the snapshot of now, as the own stream tells it."""
        from forebay.view import snapshot

        return snapshot(self)

    @property
    def _link(self) -> Linkage:
        assert self.link is not None  # but for the few lines in which the spool is opened
        return self.link

    def _on_stored(self) -> None:
        if self.link is not None:
            self.link.wake()

    @property
    def policy(self) -> tuple[str, str]:
        """Name and hash of the policy in force."""
        return self._policy

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all threads, the road's end first."""
        self.spool.writer.start()
        self._link.start()
        for unit in self.units.values():
            unit.start()
        log.info(
            "agent runs gateway=%s sources=%d pipelines=%d",
            self.loaded.config.gateway.id,
            len({u.runner.name for u in self.units.values()}),
            len(self.units),
        )

    def wait(self, notifier: Notifier | None = None, on_look: Callable[[], None] = lambda: None) -> None:
        """Wait until `stopping` is set; meanwhile tell the service manager how things are.

        `on_look` is called about once a second while all is well.
        """
        notifier = notifier or Notifier()
        notifier.tell("READY=1", f"STATUS={self.safe_mode or 'running'}")
        limit_s = Watch.limit_s(notifier.watchdog_s)
        keeper = Keeper(self.started_ns + int(SETTLED_S * 1e9))
        while not self.stopping.wait(notifier.pause_s):
            self._look(notifier, limit_s)
            keeper.look(self.clock.monotonic_ns())
            if not self.stuck:
                on_look()
        notifier.tell("STOPPING=1")

    def _look(self, notifier: Notifier, limit_s: float) -> None:
        dead = [unit.failed for unit in self.units.values() if unit.failed]
        if dead:
            # It cannot be built anew in this process: end it, the durable positions are right.
            self.failure = "; ".join(dead)
            log.error("the agent ends so that it can be started afresh: %s", self.failure)
            self.stopping.set()
            return
        stuck = self.watch.stuck(limit_s)
        if stuck and not self.stuck:
            log.error("a part is stuck, the watchdog is no longer fed: %s", stuck)
        self.stuck = stuck
        if not stuck:
            notifier.tell("WATCHDOG=1")

    def _pulse(self) -> WriterPulse:
        writer = self.spool.writer
        waiting = any(writer.outstanding(u.worker.options.owner) for u in self.units.values())
        return WriterPulse(waiting, self.spool.store.txn, self.can_write())

    def watch_blocks(self, tap: Callable[[Block], None], pipeline: str | None = None) -> Callable[[], None]:
        """Let `tap` see each block that goes to the spool, in its pipeline's thread; return how to end that."""
        entry = (pipeline, tap)
        self._taps = (*self._taps, entry)

        def release() -> None:
            self._taps = tuple(t for t in self._taps if t is not entry)

        return release

    def _show(self, pipeline: str, block: Block) -> None:
        for wanted, tap in self._taps:
            if wanted in (None, pipeline):
                tap(block)

    # -- a finite run (drain.Road) --------------------------------------------------------------------------

    def drain(self) -> Outcome:
        """Wait until every finite source has ended and all was acknowledged, or until it cannot be."""
        return drain(self, list(self.units.values()), self._give_up_s)

    def progress(self) -> object:
        """See drain.Road."""
        return self.spool.store.txn, self._link.delivered

    def is_empty(self) -> bool:
        """See drain.Road."""
        return self.reader.is_empty()

    def has_link(self) -> bool:
        """See drain.Road."""
        return self._link.forwarder is not None

    def can_write(self) -> bool:
        """See drain.Road."""
        return self.spool.writer.condition.state == "ok"

    def why_stuck(self, still_s: float) -> str:
        """See drain.Road."""
        condition = self.spool.writer.condition
        if condition.state != "ok":
            return f"spool is {condition.state}: {condition.detail}"
        if self._link.forwarder is None:
            return "no link"
        link = self._link.forwarder.link
        if link.state == "up" and self._link.is_spent():
            return "the byte budget is used up: all but urgent batches wait for the next day or month"
        # the receiver that answers "later" says why in its own log only: a policy that it does not take, a full disk
        why = link.reason or "the receiver takes nothing now, its log says why"
        return f"no acknowledgement for {still_s:g} s; link to {link.endpoint} is {link.state}: {why}"

    def undelivered(self) -> int:
        """See drain.Road."""
        return sum(entry["accepted"] - entry["delivered"] for entry in self.reader.ledger().values())

    # -- change ---------------------------------------------------------------------------------------------

    def reload(self, load: Callable[[], Loaded]) -> Plan:
        """Take over a new configuration. Everything that can fail is tried before anything is touched.

        Raises
        ------
        ForebayError
            It cannot be taken over; the old one goes on.
        """
        with self._changing:
            if self.stopping.is_set():
                raise ConfigError("the agent is stopping")
            new = load()
            findings = preflight(new)
            if findings:
                raise ConfigErrors(findings)
            builder = self._builder(new)
            plan = make_plan(self.loaded, new, self._prints, builder.fingerprint)
            for name in (*plan.added, *plan.rebuilt):
                builder.trial(name)
            link = Linkage(new, self.spool, self.clock, self.boot) if plan.forward else None
            self._change(plan, new, builder)
            if link is not None:
                # The old one lets go before the new one starts: a batch is claimed by one of them at a time.
                self._link.stop()
                self.link = link
                link.start()
            log.info(
                "configuration was reloaded added=%d removed=%d rebuilt=%d",
                len(plan.added), len(plan.removed), len(plan.rebuilt),
            )  # fmt: skip
            return plan

    def _change(self, plan: Plan, new: Loaded, builder: Builder) -> None:
        for name in (*plan.removed, *plan.rebuilt):
            self._end_unit(self.units[name])
            if name in plan.removed:
                del self.units[name], self._prints[name]
        for name in (*plan.added, *plan.rebuilt):
            unit = self._unit(builder, name)
            self.units = {**self.units, name: unit}
            unit.start()
        self.loaded = new
        self.safe_mode = ""
        self._policy = (builder.policy.name, builder.policy.hash)
        if plan.log:
            logs.set_up_as(new.config.log, new.base)

    def _end_unit(self, unit: Unit) -> None:
        """Stop one pipeline; what its source was told is durable before it is built anew."""
        unit.stop_reading()
        unit.runner.thread.join(SOURCE_END_S)
        unit.stop_working()
        ended = unit.join(DRAIN_S)
        while ended and not unit.worker.is_durable(0.5):
            if self.stopping.is_set():
                break
        if not ended or unit.runner.thread.is_alive():
            self.failure = f"pipeline {unit.name} did not end in time for the new configuration"
            self.stopping.set()
            raise ForebayError(self.failure, hint="the agent ends; its durable positions are right")

    # -- end ------------------------------------------------------------------------------------------------

    def _join_within(self, is_alive: Callable[[], bool], seconds: float) -> None:
        """Wait for threads to end, but not while the spool cannot take what they hold: nobody was told `accepted`
        of that, and a replayable source reads it again."""
        deadline = time.monotonic() + seconds
        while is_alive() and time.monotonic() < deadline and self.can_write():
            time.sleep(0.01)

    def stop(self) -> bool:
        """Stop in the order of the road; what sources were told is durable. Return whether all was written."""
        self.stopping.set()
        with self._changing:
            units = list(self.units.values())
            for unit in units:
                unit.stop_reading()
            self._join_within(lambda: any(u.runner.thread.is_alive() for u in units), STOP_SOURCES_S)
            for unit in units:
                unit.stop_working()
            self._join_within(lambda: any(u.is_alive() for u in units), DRAIN_S)
            self._link.stop()
            self.reader.close()
            try:
                return self.spool.close(CLOSE_S if self.can_write() else LEAST_CLOSE_S)
            except ForebayError as error:
                log.error("spool could not be closed: %s", error)
                return False
