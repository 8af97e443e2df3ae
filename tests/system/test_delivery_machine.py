"""Spool, forwarder and receiver against a list: whatever is lost, doubled, reordered, killed or restored on the way,
the sink ends with each accepted reading once, in order, or in a gap that says so."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import Center, FakeClock, Gateway

from forebay.blocks import Lane
from forebay.errors import LinkError
from forebay.spool.reader import equations_hold

LANES = st.sampled_from([Lane.URGENT, Lane.NORMAL, Lane.BULK])
SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3)


class Delivery(RuleBasedStateMachine):
    """The model is `accepted`: ids in the order of their commits, by lane."""

    @initialize(newest_first=st.booleans(), share=st.sampled_from([0.2, 0.5, 1.0]), window=st.integers(1, 9))
    def begin(self, newest_first, share, window):
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.clock = FakeClock()
        self.center = Center(self.folder, self.clock)
        self.gateway = Gateway(
            self.folder,
            self.clock,
            checkpoint_s=30,
            newest_first=newest_first,
            backfill_share=share,
            window=window,
        )
        self.link = None
        self.accepted: dict[Lane, list[int]] = {lane: [] for lane in Lane}
        self.batches = 0
        self.next = 0

    # -- the agent ------------------------------------------------------------------------------------------

    @rule(shape=SHAPES, lane=LANES)
    def accept(self, shape, lane):
        batches = []
        for size in shape:
            batches.append(list(range(self.next, self.next + size)))
            self.next += size
        self.gateway.store(*batches, lane=lane)
        self.batches += len(batches)
        self.accepted[lane] += [n for batch in batches for n in batch]

    @rule()
    def commit_answers(self):
        self.gateway.apply()

    @rule()
    def kill_agent(self):
        self.gateway.kill()
        self.link = None

    @precondition(lambda self: self.gateway.session is None)
    @rule()
    def connect(self):
        try:
            self.link = self.gateway.connect(self.center, carry=False)
        except LinkError:
            self.link = None

    @precondition(lambda self: self.gateway.session is not None)
    @rule()
    def turn(self):
        self.gateway.turn()

    @rule(seconds=st.sampled_from([0.5, 3, 20, 100]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule(index=st.integers(0, 3))
    def give_one_up(self, index):
        """As the byte budget's ladder does: a gap closes the number."""
        waiting = list(self.gateway.door.reader.all_batches())
        if index < len(waiting):
            self.gateway.door.answer(thinned=[waiting[index].id])
            self.gateway.apply()

    # -- the link -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.link is not None and not self.link.cut)
    @rule(count=st.integers(1, 6))
    def carry(self, count):
        self.link.serve(count)

    @precondition(lambda self: self.link is not None)
    @rule(count=st.integers(1, 4), up=st.booleans())
    def lose(self, count, up):
        """What is lost in an encrypted stream breaks it: nothing behind it arrives either."""
        if up:
            del self.link.up[-count:]
        else:
            del self.link.down[-count:]
        self.link.cut = True

    @precondition(lambda self: self.link is not None)
    @rule(order=st.randoms(use_true_random=False))
    def arrive_again_in_another_order(self, order):
        """Several receivers behind one address, or a resend that overtakes: the center takes what it gets."""
        again = [*self.link.up, *self.link.up]
        order.shuffle(again)
        self.center.handle([(b"other", frames) for frames in again])

    @precondition(lambda self: self.link is not None)
    @rule()
    def cut(self):
        self.link.cut = True

    @precondition(lambda self: self.link is not None)
    @rule(full=st.booleans())
    def queue_is_full(self, full):
        self.link.full = full

    # -- the center -----------------------------------------------------------------------------------------

    @rule()
    def kill_receiver(self):
        self.center.restart()

    # -- what must be true ----------------------------------------------------------------------------------

    @invariant()
    def nothing_is_doubled_or_invented(self):
        if not hasattr(self, "accepted"):
            return
        stored = self.stored()
        assert len(stored) == len(set(stored))
        assert set(stored) <= {n for ids in self.accepted.values() for n in ids}

    @invariant()
    def the_ledger_balances(self):
        if hasattr(self, "accepted"):
            assert all(equations_hold(entry) for entry in self.gateway.door.reader.ledger().values())

    def stored(self) -> list[int]:
        if not self.center.rows("SELECT 1 FROM sqlite_master WHERE name = 'pump'"):
            return []
        return [n for (n,) in self.center.rows("SELECT id FROM pump")]

    def teardown(self):
        if not hasattr(self, "accepted"):
            return
        try:
            if self.link is not None:
                self.link.cut = True
            self.gateway.drain(self.center)
            self.check_the_end()
        finally:
            self.gateway.close()
            self.center.sink.close()
            shutil.rmtree(self.folder)

    def check_the_end(self):
        stored = self.stored()
        told = self.center.rows("SELECT seq_to - seq_from + 1, readings, cause FROM gaps")
        assert {cause for *_, cause in told} <= {"evicted"}, told
        assert len(stored) + sum(readings for _, readings, _ in told) == self.next
        count = self.center.rows("SELECT count(*) FROM batches")[0][0]
        assert count + sum(batches for batches, *_ in told) == self.batches
        assert len(stored) == len(set(stored))
        for lane, ids in self.accepted.items():
            query = "SELECT p.id FROM pump p JOIN batches b USING (gateway, epoch, seq) WHERE b.lane = ?"
            if stored:
                query += " ORDER BY p.epoch, p.seq, p.rowid"
                in_order = [n for (n,) in self.center.rows(query, str(lane))]
                assert in_order == [n for n in ids if n in set(in_order)]
        for above, mark in self.center.rows("SELECT above, mark FROM marks"):
            assert above == ""
            assert mark > 0
        verdicts = {v for (v,) in self.center.rows("SELECT verdict FROM checkpoints")}
        assert verdicts <= {"ok"}, self.center.rows("SELECT number, verdict, detail FROM checkpoints")


class LongDelivery(Delivery):
    """The same, for longer."""


Delivery.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDelivery = Delivery.TestCase

if os.environ.get("FOREBAY_LONG"):
    LongDelivery.TestCase.settings = settings(
        max_examples=int(os.environ["FOREBAY_LONG"]),
        stateful_step_count=100,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    TestLongDelivery = LongDelivery.TestCase
