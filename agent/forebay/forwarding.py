"""Builds the link as configured: forwarder, byte budget, checkpoints."""

from __future__ import annotations

import logging
from functools import partial

from forebay import __version__
from forebay.clock import Clock
from forebay.config.agent import AgentConfig, ForwardOptions
from forebay.config.loader import LoadedConfig
from forebay.errors import SpoolError
from forebay.forward import (
    Budget,
    BudgetPlan,
    Forwarder,
    LinkMemory,
    LinkOptions,
    Notary,
    Positions,
    Rung,
    SpoolDoor,
    refuses,
)
from forebay.keys import read_public, read_secret
from forebay.signing import sign_apart
from forebay.spool import Spool
from forebay.spool.audit import AuditReader
from forebay.wire.messages import PROTOCOL, Hello

log = logging.getLogger("forebay.forward")

Loaded = LoadedConfig[AgentConfig]
MEMORY = "link.json"


class Linkage:
    """What one configuration makes of the link. `door` and `forwarder` are None without a `forward` section.

    Raises
    ------
    KeyFileError
        A key cannot be read.
    """

    def __init__(self, loaded: Loaded, spool: Spool, clock: Clock, boot: str) -> None:
        self._gateway, self._spool, self._clock, self._boot = loaded.config.gateway.id, spool, clock, boot
        options = loaded.config.forward
        self._memory = LinkMemory(spool.folder / MEMORY)
        self.budget = Budget(budget_plan(options), self._memory, clock)
        self.positions = Positions()
        self._endpoints = options.endpoints if options is not None else ()
        self.door: SpoolDoor | None = None
        self.forwarder: Forwarder | None = None
        if options is not None:
            self._build(loaded, options)

    def _build(self, loaded: Loaded, options: ForwardOptions) -> None:
        own = loaded.resolve(options.keys.own)
        keys = read_secret(own), read_public(loaded.resolve(options.keys.server))
        self.door = SpoolDoor(self._spool.reader(), self._spool.claims, self._spool.writer.answer)
        notary = None
        if options.checkpoint:
            notary = Notary(
                (self._gateway, self._boot),
                options.checkpoint,
                partial(sign_apart, own),
                self._memory,
                self._clock,
                lambda: self._hello("").epochs,
                self._audit_head,
            )
        self.forwarder = Forwarder(
            options.endpoints,
            keys,
            link_options(options),
            self.door,
            self._clock,
            self._hello,
            memory=self._memory,
            budget=self.budget,
            notary=notary,
            positions=self.positions,
        )

    def _hello(self, store: str) -> Hello:
        epochs = {epoch: (str(lane), number) for epoch, (lane, number) in self._spool.store.epochs().items()}
        return Hello(
            PROTOCOL, self._gateway, self._boot, __version__, epochs, store, asks=self.positions.is_due
        )

    @property
    def is_configured(self) -> bool:
        """Return whether there is a receiver to talk to."""
        return self.forwarder is not None

    @property
    def is_refused(self) -> bool:
        """Return whether nobody listens at any endpoint; a network that is only slow does not count."""
        return all(refuses(endpoint) for endpoint in self._endpoints)

    @property
    def was_bound(self) -> bool:
        """Return whether this agent has met a store before: what it kept of the link outlived its spool."""
        return bool(self._memory.store)

    def _audit_head(self) -> bytes:
        """Return where the audit log stands, in the form that `forebay audit verify --anchor` takes."""
        try:
            return str(AuditReader(self._spool.store.path).head()).encode()
        except SpoolError as error:
            log.warning("a checkpoint goes without the audit log's head: %s", error)
            return b""

    def is_scarce(self) -> bool:
        """Return whether bytes on the link are scarce."""
        return self.budget.rung is not Rung.ALL

    def is_spent(self) -> bool:
        """Return whether only urgent batches may go."""
        return self.budget.rung is Rung.URGENT

    def start(self) -> None:
        """Start the forwarder."""
        if self.forwarder is not None:
            self.forwarder.start()

    def stop(self) -> None:
        """Stop the forwarder; what is unanswered stays in the spool."""
        if self.forwarder is not None:
            self.forwarder.stop()

    def wake(self) -> None:
        """Tell the forwarder that there is more."""
        if self.door is not None:
            self.door.wake()

    @property
    def delivered(self) -> int:
        """Batches acknowledged since this link was built."""
        return self.door.delivered if self.door is not None else 0


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
