"""An agent's end and a center in one process: real spool, session, desk and sink; clock and link are the test's.

The link is two lists of messages. A test decides what is carried, lost, doubled, reordered or cut, and when.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from forebay.blocks import Block, Column, Field, Lane, Schema, Type
from forebay.errors import LinkError
from forebay.forward import Budget, BudgetPlan, LinkMemory, LinkOptions, Notary, Positions, SpoolDoor
from forebay.forward.session import Extras, Session
from forebay.keys import SecretKey, generate
from forebay.receive.caps import Limits
from forebay.receive.desk import Desk, Group
from forebay.receive.sql import SqlSink
from forebay.receive.sqlite import SqliteSink
from forebay.signing import sign
from forebay.spool import Limits as SpoolLimits
from forebay.spool import Spool
from forebay.spool.store import Answers
from forebay.stages import Commit
from forebay.wire import messages as m
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer

NS = 1_000_000_000
MIB = 1024 * 1024
SCHEMA = Schema("pump", (Field("id", Type.I64),), stamped_by="gateway")
KEY = generate("gateway")  # Ed25519 keys are quickly made, but not for free


class FakeClock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.mono, self.offset, self.quality = 1_000 * NS, 1_700_000_000 * NS, "synced"

    def wall_ns(self) -> int:
        return self.mono + self.offset

    def monotonic_ns(self) -> int:
        return self.mono

    def state(self) -> str:
        return self.quality

    def advance(self, seconds: float) -> None:
        self.mono += int(seconds * NS)


class Enrolled:
    """An allow-list of one."""

    def __init__(self, gateway: str, key: SecretKey) -> None:
        self.gateway, self.key = gateway, key

    def has(self, gateway: str) -> bool:
        return gateway == self.gateway

    def signing_key(self, gateway: str) -> bytes | None:
        return self.key.public.signing if gateway == self.gateway else None

    def speaks_for(self, relay: str, gateway: str) -> bool:
        return False


class Center:
    """Desk and sink; `restart` is a kill: what was not committed is gone."""

    def __init__(
        self,
        folder: Path,
        clock: FakeClock,
        limits: Limits | None = None,
        make_sink: Callable[[Limits], SqlSink] | None = None,
    ) -> None:
        self.path, self.clock, self.limits = folder / "center.db", clock, limits or Limits()
        self.make_sink = make_sink or partial(SqliteSink, self.path)
        self.enrolled = Enrolled("gw-1", KEY)
        self._open()

    def _open(self) -> None:
        self.sink = self.make_sink(self.limits)
        self.desk = Desk("dc-1", 64, self.enrolled, [self.sink], self.clock, self.limits)

    def restart(self) -> None:
        self.sink.close()
        self._open()

    def handle(self, messages: Iterable[tuple[bytes, list[bytes]]], gateway: str = "gw-1") -> list[tuple]:
        """Serve messages (peer, frames) as one group; return the replies as (peer, message)."""
        group = Group()
        for peer, frames in messages:
            self.desk.take(peer, gateway, [lambda f=f: f for f in frames], group)
        self.desk.settle(group)
        return [(peer, reply) for peer, replies in group.replies.items() for reply in replies.messages()]

    def rows(self, sql: str, *values: object) -> list[tuple]:
        return self.sink._db.execute(sql, values).fetchall()


class MemoryLink:
    """See forward.link.Link. `carry` serves the center at each look for answers."""

    def __init__(self, peer: bytes, center: Center, clock: FakeClock, *, carry: bool) -> None:
        self.endpoint, self.peer, self.center, self.clock = "memory", peer, center, clock
        self.carry, self.cut, self.full = carry, False, False
        self.up: list[list[bytes]] = []
        self.down: list[list[bytes]] = []

    def send(self, frames: list[bytes]) -> bool:
        if self.full:
            return False
        self.up.append(frames)
        return True

    def receive(self, timeout_ms: int) -> list[list[bytes]]:
        if self.cut:
            raise LinkError("the connection was closed", place=self.endpoint)
        if self.carry:
            self.serve(len(self.up))
            if not self.down:
                self.clock.mono += timeout_ms * 1_000_000
        came, self.down = self.down, []
        return came

    def serve(self, count: int) -> None:
        """Let the center take the first `count` messages, and queue its answers."""
        taken, self.up = self.up[:count], self.up[count:]
        for _peer, reply in self.center.handle([(self.peer, frames) for frames in taken]):
            self.down.append([m.encode(reply)])

    def close(self) -> None:
        self.cut = True


class Gateway:
    """Spool, door and session; the spool's writer thread is not started: `apply` is its transaction."""

    def __init__(
        self,
        folder: Path,
        clock: FakeClock,
        *,
        checkpoint_s: float = 0,
        quota: int = 64 * MIB,
        limits: SpoolLimits | None = None,
        sync: str = "normal",
        **link: object,
    ) -> None:
        self.folder, self.clock = folder / "spool", clock
        self.limits, self.sync = limits or SpoolLimits(quota), sync
        self.options, self.checkpoint_s = LinkOptions(**link), checkpoint_s
        self.plan, self.rng = BudgetPlan(), random.Random(1)
        self.session: Session | None = None
        self.count = 0
        self.open()

    def open(self) -> None:
        self.spool = Spool.open(self.folder, sync=self.sync, limits=self.limits, on_stored=lambda: None)
        self.answers = Answers()
        self.door = SpoolDoor(self.spool.reader(), self.spool.claims, self._answer)
        self.memory = LinkMemory(self.folder / "link.json")
        self.budget = Budget(self.plan, self.memory, self.clock)
        self.sealer = Sealer(Context("gw-1", "s/p", "boot-1", "0"), self._stamp)
        self.notary = None
        if self.checkpoint_s:
            every = int(self.checkpoint_s * NS)
            epochs = self.spool.store.epochs
            self.notary = Notary(
                ("gw-1", "boot-1"), every, lambda text: sign(KEY, text), self.memory, self.clock, epochs
            )

    def _stamp(self) -> Stamp:
        return Stamp(self.clock.wall_ns(), self.clock.monotonic_ns(), self.clock.state())

    def _answer(self, **said: list) -> None:
        for name, items in said.items():
            getattr(self.answers, name).extend(items)

    def kill(self) -> None:
        """Forget what is not committed and open again."""
        self.close()
        self.open()

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None
        if self.notary is not None and self.notary._open is not None:
            self.notary._open.thread.join(20)
        self.door.close()
        self.spool.close(0)

    def store(
        self, *ids_of_batches: list[int], lane: Lane = Lane.NORMAL, position: bytes | None = None
    ) -> None:
        """Commit batches that hold these ids."""
        blocks = [self._block(ids, lane) for ids in ids_of_batches]
        sealed = [self.sealer.seal(block, position) for block in blocks]
        commit = Commit("s/p", sealed, dict(self.sealer.bodies), position=position)
        for batch in sealed:
            commit.ledger["pump", "read", ""] += batch.readings
            commit.ledger["pump", "accepted", ""] += batch.readings
        self.spool.store.apply([commit], Answers())

    def _block(self, ids: list[int], lane: Lane) -> Block:
        times = np.array([self.clock.wall_ns()] * len(ids), dtype=np.int64)
        return Block(SCHEMA, times, (Column.of(Type.I64, ids),), lane)

    def apply(self) -> None:
        """Commit the answers."""
        answers, self.answers = self.answers, Answers()
        self.spool.store.apply([], answers)

    def connect(self, center: Center, *, carry: bool = True, asks: bool = False) -> MemoryLink:
        """Open a session; raises LinkError when the center does not welcome it."""
        self.count += 1
        link = MemoryLink(b"%d" % self.count, center, self.clock, carry=True)
        store = self.spool.store
        epochs = {epoch: (str(lane), number) for epoch, (lane, number) in store.epochs().items()}
        store = self.memory.store or self.options.store
        hello = m.Hello(m.PROTOCOL, "gw-1", "boot-1", "0", epochs, store, asks)
        extras = Extras(self.budget, self.notary, self.rng, Positions() if asks else None)
        session = Session(link, self.options, self.door, self.clock, hello, extras)
        try:
            assert session.open(lambda: False)
        except LinkError:
            session.close()
            raise
        self.memory.store = session.welcome.store
        self.memory.save()
        if self.notary is not None:
            self.notary.resend()
        link.carry = carry
        self.session = session
        return link

    def turn(self) -> None:
        """Let the session do one turn; a broken one ends."""
        assert self.session is not None
        try:
            self.session.turn()
        except LinkError:
            self.session.close()
            self.session = None

    def drain(self, center: Center, turns: int = 2_000) -> None:
        """Connect as often as needed until nothing waits."""
        for _ in range(turns):
            if self.session is None:
                try:
                    self.connect(center)
                except LinkError:
                    self.apply()
                    continue
            self.turn()
            self.apply()
            if self.door.reader.is_empty():
                return
        raise AssertionError("not delivered")
