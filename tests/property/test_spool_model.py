"""The spool against a list: whatever the order of commits, answers, evictions, new segments and restarts."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from spool_model import OWNER, make_batch, make_commit

from forebay.spool import Limits, rolling, segment_path
from forebay.spool.claims import Claims
from forebay.spool.forecast import file_bytes
from forebay.spool.reader import Reader, equations_hold
from forebay.spool.recovery import Recovery
from forebay.spool.store import Answers

MAX_BYTES = 1_500_000


class SpoolMachine(RuleBasedStateMachine):
    """`waiting` is the list: numbers of batches that were accepted and neither answered nor evicted."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.limits = Limits(MAX_BYTES, "evict_lowest_value", segment_bytes=60_000, dead_letter_bytes=20_000)
        self.rng = random.Random(1)
        self.number = 0
        self.readings: dict[int, int] = {}
        self.waiting: set[int] = set()
        self.ended = {"delivered": 0, "dead_lettered": 0}
        self.position = 0
        self._open()

    def _open(self) -> None:
        self.claims = Claims()
        self.recovery = Recovery(self.folder, "normal", self.claims, self.limits)
        self.store = self.recovery.open()
        self.reader = Reader(segment_path(self.folder), current=lambda: self.store.path)

    def _close(self) -> None:
        self.reader.close()
        self.store.close()
        self.recovery.close()

    def teardown(self) -> None:
        self._close()
        shutil.rmtree(self.folder)

    def _found(self) -> dict[int, int]:
        return {int.from_bytes(b.data[:8], "big"): b.id for b in self.reader.all_batches()}

    @rule(count=st.integers(1, 4), size=st.sampled_from([100, 3_000, 60_000]), seed=st.integers(0, 1000))
    def commit(self, count: int, size: int, seed: int) -> None:
        rng = random.Random(seed)
        made = [make_batch(self.number + i, rng, size) for i in range(count)]
        self.position += 1
        self.store.apply([make_commit(made, self.position)], Answers())
        for place, batch in enumerate(made):
            self.readings[self.number + place] = batch.readings
            self.waiting.add(self.number + place)
        self.number += count
        # What the policy evicted is known only from the spool; the ledger must know it too (see the invariant).
        found = self._found()
        assert found.keys() <= self.waiting
        self.waiting = set(found)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        found = self._found()
        chosen = data.draw(st.lists(st.sampled_from(sorted(found)), unique=True, max_size=8))
        self.store.apply([], Answers(acked=[found[n] for n in chosen] * 2))  # a repeated answer counts once
        self.ended["delivered"] += sum(self.readings[n] for n in chosen)
        self.waiting -= set(chosen)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        found = self._found()
        number = data.draw(st.sampled_from(sorted(found)))
        self.store.apply([], Answers(dead=[(found[number], "dead_lettered", "no table")]))
        self.ended["dead_lettered"] += self.readings[number]
        self.waiting.discard(number)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def renumber(self, data: st.DataObject) -> None:
        found = self._found()
        number = data.draw(st.sampled_from(sorted(found)))
        self.store.apply([], Answers(conflicts=[found[number]]))

    @precondition(lambda self: len(self.store.segments) < 4)  # each has tables of its own: the quota is small
    @rule()
    def begin_a_segment(self) -> None:
        rolling.roll(self.store)

    @precondition(lambda self: self.store.segments)
    @rule()
    def move_out_of_a_segment(self) -> None:
        sealed = [n for n, s in self.store.segments.items() if s[2] == "sealed"]
        if sealed:
            rolling.move(self.store, sealed[0])

    @rule()
    def restart(self) -> None:
        self._close()
        self._open()

    @invariant()
    def spool_and_list_agree(self) -> None:
        assert set(self._found()) == self.waiting
        numbers = [(b.epoch, b.seq) for b in self.reader.all_batches()]
        assert len(numbers) == len(set(numbers))
        assert self.store.progress(OWNER).get("", b"0") == b"%d" % self.position
        ledger = self.reader.ledger()
        assert all(equations_hold(e) for e in ledger.values())
        assert sum(e["pending"] for e in ledger.values()) == sum(self.readings[n] for n in self.waiting)
        assert sum(e["accepted"] for e in ledger.values()) == sum(self.readings.values())
        assert sum(e["delivered"] for e in ledger.values()) == self.ended["delivered"]
        dead = sum(sum(e["dead_lettered"].values()) for e in ledger.values())
        assert dead == self.ended["dead_lettered"]
        evicted = sum(sum(e["evicted"].values()) for e in ledger.values())
        assert sum(g.readings for g in self.reader.gaps(100_000)) == evicted + dead
        assert file_bytes(self.folder) <= MAX_BYTES

    @invariant()
    def counts_are_those_of_the_batches(self) -> None:
        batches, readings, _ = self.reader.counts()
        assert batches == len(self.waiting)
        assert readings == sum(self.reader.recount().values())


SpoolMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSpoolModel = SpoolMachine.TestCase
