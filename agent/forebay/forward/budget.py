"""Bytes of a metered link: a bucket for the rate, counters for the day and the month, and what gives way when.

The wall clock chooses only which day and month it is, because the bill does, and only while the kernel says that
it is synchronised; otherwise a day is 24 h and a month 30 days of uptime. Nothing is ordered or expired by it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

from forebay.clock import Clock
from forebay.forward.memory import LinkMemory

log = logging.getLogger("forebay.forward")

NS = 1_000_000_000
DAY_NS = 86_400 * NS
LENGTHS_NS = {"day": DAY_NS, "month": 30 * DAY_NS}
# What a message costs on the wire beyond its frames, estimated: CURVE 33, ZMTP 9, TCP/IPv4 with timestamps 52.
MESSAGE_BYTES = 94
# A heartbeat: each side asks and each answers, four small messages and their acknowledgements, estimated.
HEARTBEAT_BYTES = 4 * 120
_LEASES = 256  # writes of the file in a period, at most
_LEAST_LEASE = 16 * 1024


class Rung(IntEnum):
    """How far down the ladder the link is."""

    ALL = 0
    HARDER = 1  # blocks wait longer and are compressed harder
    THIN = 2  # of normal and bulk batches only every n-th is kept
    URGENT = 3  # all but urgent batches wait for the next period


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """Bytes of a day and a month (0: no limit), and at which share of them each rung begins."""

    day: int = 0
    month: int = 0
    harder_at: float = 0.5
    thin_at: float = 0.75
    thin_keep: int = 1  # 1: nothing is thinned
    urgent_at: float = 0.9
    month_starts: int = 1
    zone_s: int = 0


class Budget:
    """Counts what is spent. Used by the forwarder's thread; `rung` may be read from any."""

    def __init__(self, plan: BudgetPlan, memory: LinkMemory, clock: Clock) -> None:
        self._plan, self._memory, self._clock = plan, memory, clock
        self._limits = {name: limit for name, limit in (("day", plan.day), ("month", plan.month)) if limit}
        self._lease = max(min(self._limits.values(), default=0) // _LEASES, _LEAST_LEASE)
        self._periods: dict[str, dict[str, Any]] = {}
        for name in self._limits:
            kept = memory.budget.get(name, {})
            self._periods[name] = {
                "key": str(kept.get("key", "")),
                "used": int(kept.get("used", 0)),
                "uptime_ns": int(kept.get("uptime_ns", 0)),
            }
        self._leased = {name: p["used"] for name, p in self._periods.items()}
        self._looked_ns = clock.monotonic_ns()
        self.rung = Rung.ALL
        self._look(0)

    @property
    def limited(self) -> bool:
        """Return whether there is any limit."""
        return bool(self._limits)

    def used(self, name: str) -> int:
        """Return the bytes spent in the current `day` or `month`."""
        return int(self._periods[name]["used"])

    def spend(self, size: int) -> None:
        """Count bytes that are about to be sent, or have come. What is counted is on disk before it is sent."""
        if not self._limits:
            return
        self.look()
        short = False
        for name, period in self._periods.items():
            period["used"] += size
            if period["used"] > self._leased[name]:
                # A lease ahead: a crash forgets that something was left, never that something was spent.
                self._leased[name] = period["used"] + self._lease
                short = True
        if short:
            self._write(self._leased)
        self._climb()

    def look(self) -> None:
        """See whether a new period has begun; at most once a second, for asking the kernel costs a call."""
        elapsed = self._clock.monotonic_ns() - self._looked_ns
        if self._limits and elapsed >= NS:
            self._look(elapsed)

    def close(self) -> None:
        """Write what was really spent."""
        if self._limits:
            self._write({name: p["used"] for name, p in self._periods.items()})

    def _look(self, elapsed_ns: int) -> None:
        self._looked_ns += elapsed_ns
        synced = self._clock.state() == "synced"
        began = False
        for name, period in self._periods.items():
            period["uptime_ns"] += elapsed_ns
            key = self._key(name) if synced else ""
            if synced and not period["key"]:
                period["key"] = key
            elif key > period["key"] or (not synced and period["uptime_ns"] >= LENGTHS_NS[name]):
                log.info("a new %s of the byte budget begins spent=%d", name, period["used"])
                period.update(key=key or period["key"], used=0, uptime_ns=0)
                self._leased[name] = 0
                began = True
            elif synced and key < period["key"]:
                period["key"] = key  # the clock was ahead: what is spent stays spent
        if began:
            self._write(self._leased)
        self._climb()

    def _key(self, name: str) -> str:
        when = datetime.fromtimestamp(self._clock.wall_ns() // NS, UTC) + timedelta(seconds=self._plan.zone_s)
        if name == "day":
            return f"{when:%Y-%m-%d}"
        return f"{when - timedelta(days=self._plan.month_starts - 1):%Y-%m}"

    def _climb(self) -> None:
        plan = self._plan
        share = max((p["used"] / self._limits[name] for name, p in self._periods.items()), default=0.0)
        rung = Rung.ALL
        if share >= plan.urgent_at:
            rung = Rung.URGENT
        elif share >= plan.thin_at and plan.thin_keep > 1:
            rung = Rung.THIN
        elif share >= plan.harder_at:
            rung = Rung.HARDER
        if rung is not self.rung:
            log.warning("byte budget is used to %d %%: rung %s", share * 100, rung.name.lower())
            self.rung = rung

    def _write(self, used: dict[str, int]) -> None:
        self._memory.budget = {name: {**p, "used": used[name]} for name, p in self._periods.items()}
        self._memory.save()


class Pace:
    """A token bucket in bytes a second, with a second's worth of burst. 0: no limit."""

    def __init__(self, rate: int, clock: Clock) -> None:
        self._rate, self._clock = rate, clock
        self._tokens = float(rate)
        self._looked_ns = clock.monotonic_ns()

    def wait_ns(self, size: int) -> int:
        """Return how long a message of `size` bytes must wait. One larger than a burst goes when that is full."""
        if not self._rate:
            return 0
        self._fill()
        short = min(size, self._rate) - self._tokens
        return int(short * NS / self._rate) + 1 if short > 0 else 0

    def take(self, size: int) -> None:
        """Count what was sent; beyond what is there it is a debt that later messages wait for."""
        if self._rate:
            self._fill()
            self._tokens -= size

    def _fill(self) -> None:
        now = self._clock.monotonic_ns()
        self._tokens = min(float(self._rate), self._tokens + (now - self._looked_ns) * self._rate / NS)
        self._looked_ns = now
