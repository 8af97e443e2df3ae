"""The forwarder's session over a link of the test's own: what goes next, how fast, and what answers do."""

from __future__ import annotations

import random

import numpy as np
import pytest
from world import MIB, NS, Center, FakeClock, Gateway

from forebay.blocks import Block, Column, Field, Lane, Schema, Type
from forebay.errors import LinkError
from forebay.forward import session as session_module
from forebay.forward.budget import BudgetPlan, Rung
from forebay.forward.link import Held, Unanswered
from forebay.spool.store import Answers
from forebay.stages import Commit
from forebay.wire import messages as m


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def center(tmp_path, clock):
    made = Center(tmp_path, clock)
    yield made
    made.sink.close()


@pytest.fixture
def build(tmp_path, clock):
    made: list[Gateway] = []

    def build(**options) -> Gateway:
        gateway = Gateway(tmp_path / f"gw{len(made)}", clock, **options)
        made.append(gateway)
        return gateway

    yield build
    for gateway in made:
        gateway.close()


def sent(link) -> list[tuple[str, int]]:
    """Return lane and number of the batches on the link."""
    heads = [m.decode(frames[0]) for frames in link.up]
    return [(h.lane, h.seq) for h in heads if isinstance(h, m.Batch)]


def answer(gateway, link, *messages) -> None:
    link.down.extend([m.encode(message)] for message in messages)
    gateway.turn()


def number(gateway, seq, lane="normal"):
    epochs = {name: epoch for epoch, (name, _) in gateway.spool.store.epochs().items()}
    return epochs[lane], seq


# -- what goes next ----------------------------------------------------------------------------------------


def numbers(gateway, center, turns=1, live=0) -> list[int]:
    link = gateway.connect(center, carry=False)
    for n in range(live):
        gateway.store([1000 + n])
    for _ in range(turns):
        gateway.turn()
    return [seq for _, seq in sent(link)]


def test_a_backlog_goes_oldest_first(build, center):
    gateway = build(window=6)
    gateway.store(*[[n] for n in range(10)])
    assert numbers(gateway, center) == [1, 2, 3, 4, 5, 6]


def test_a_backlog_goes_newest_first_if_told_to(build, center):
    gateway = build(window=40, newest_first=True)
    gateway.store(*[[n] for n in range(40)])
    assert numbers(gateway, center) == list(range(40, 0, -1))


@pytest.mark.parametrize(("share", "old", "live"), [(0.5, 20, 20), (0.25, 10, 30), (0.75, 30, 10)])
def test_live_data_goes_beside_the_backlog_by_share(build, center, share, old, live):
    gateway = build(window=40, backfill_share=share)
    gateway.store(*[[n] for n in range(60)])
    found = numbers(gateway, center, live=60)
    waited, came = [n for n in found if n <= 60], [n for n in found if n > 60]
    assert waited == list(range(1, len(waited) + 1))
    assert came == list(range(61, 61 + len(came)))
    assert len(found) == 40
    assert (len(waited), len(came)) == (
        pytest.approx(old, abs=2),
        pytest.approx(live, abs=2),
    )  # it counts bytes


def test_with_a_share_of_one_live_data_waits(build, center):
    gateway = build(window=40, backfill_share=1.0)
    gateway.store(*[[n] for n in range(30)])
    assert numbers(gateway, center, live=30) == list(range(1, 41))


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_backlog_far_beyond_the_marks_bound_is_delivered_beside_live_data(build, center, newest_first):
    gateway = build(window=64, backfill_share=0.5, newest_first=newest_first)
    for n in range(0, 1500, 50):
        gateway.store(*[[n + k] for k in range(50)])
    gateway.connect(center)
    for n in range(1500, 1800):
        gateway.store([n])
        if n % 10 == 0:
            gateway.turn()
            gateway.apply()
    gateway.drain(center)
    assert [n for (n,) in center.rows("SELECT id FROM pump ORDER BY epoch, seq")] == list(range(1800))
    assert center.rows("SELECT count(*) FROM gaps") == [(0,)]


def test_urgent_goes_first_in_every_turn(build, center):
    gateway = build(window=4)
    gateway.store(*[[n] for n in range(10)])
    link = gateway.connect(center, carry=False)
    gateway.turn()
    gateway.store([99], lane=Lane.URGENT)
    answer(gateway, link, m.Ack([number(gateway, 1)]))
    gateway.turn()
    assert sent(link)[4] == ("urgent", 1)


def test_a_backlog_waits_its_jitter_and_urgent_does_not(build, center, clock):
    gateway = build(window=4, flush_jitter_ns=60 * NS)
    gateway.store([1], [2])
    gateway.store([3], lane=Lane.URGENT)
    link = gateway.connect(center, carry=False)
    gateway.turn()
    assert sent(link) == [("urgent", 1)]
    clock.advance(60)
    gateway.turn()
    assert sent(link) == [("urgent", 1), ("normal", 1), ("normal", 2)]


# -- rate and budget ---------------------------------------------------------------------------------------


def test_a_rate_holds_batches_back_until_their_time(build, center, clock):
    gateway = build(window=1000, rate=1_000, ack_timeout_ns=3_600 * NS)
    gateway.store(*[[n] for n in range(100)])
    link = gateway.connect(center, carry=False)
    began = clock.mono
    while len(sent(link)) < 60:
        gateway.turn()
        clock.advance(0.01)
    size = sum(len(f) for frames in link.up for f in frames) + 94 * len(link.up)
    assert size <= 1_000 * ((clock.mono - began) / NS + 1) + 500
    assert size >= 1_000 * ((clock.mono - began) / NS) - 500


def test_at_the_last_rung_only_urgent_goes_and_the_rest_waits_for_the_day(build, center, clock):
    gateway = build(window=100)
    gateway.budget._plan = BudgetPlan(day=100_000)
    gateway.plan = BudgetPlan(day=100_000)
    gateway.kill()
    gateway.budget.spend(95_000)
    gateway.store([1], [2])
    gateway.store([3], lane=Lane.URGENT)
    link = gateway.connect(center, carry=False)
    gateway.turn()
    assert sent(link) == [("urgent", 1)]
    link.carry = True
    link.serve(100)
    gateway.turn()
    gateway.apply()
    clock.advance(86_400)
    gateway.budget.look()
    assert gateway.budget.rung is Rung.ALL
    gateway.drain(center)
    assert sorted(n for (n,) in center.rows("SELECT id FROM pump")) == [1, 2, 3]


def test_the_thinning_rung_keeps_every_nth_and_tells_of_the_others(build, center):
    gateway = build(window=100, thin_keep=4)
    gateway.plan = BudgetPlan(day=10_000_000, thin_keep=4)
    gateway.kill()
    gateway.budget.spend(8_000_000)
    gateway.store(*[[n] for n in range(40)])
    gateway.drain(center)
    stored = [n for (n,) in center.rows("SELECT id FROM pump ORDER BY id")]
    assert stored == list(range(3, 40, 4))
    assert center.rows("SELECT sum(readings), sum(seq_to - seq_from + 1) FROM gaps") == [(30, 30)]
    entry = gateway.door.reader.ledger()["pump"]
    assert (entry["delivered"], entry["evicted"]) == (10, {"byte_budget": 30})


def test_the_thinning_rung_keeps_of_each_stream_where_they_take_turns(build, center):
    gateway = build(window=100, thin_keep=2)
    gateway.plan = BudgetPlan(day=10_000_000, thin_keep=2)
    gateway.kill()
    gateway.budget.spend(8_000_000)
    schemas = [Schema(name, (Field("id", Type.I64),)) for name in ("pump", "valve")]
    for n in range(20):
        block = Block(schemas[n % 2], np.array([n], dtype=np.int64), (Column.of(Type.I64, [n]),))
        batch = gateway.sealer.seal(block, None)
        gateway.spool.store.apply([Commit("s/p", [batch], dict(gateway.sealer.bodies))], Answers())
    gateway.drain(center)
    stored = center.rows("SELECT stream, count(*) FROM batches GROUP BY stream ORDER BY stream")
    assert stored == [("pump", 5), ("valve", 5)]


# -- answers -----------------------------------------------------------------------------------------------


def test_retry_later_is_respected(build, center, clock):
    gateway = build(window=4)
    gateway.store([1])
    link = gateway.connect(center, carry=False)
    gateway.turn()
    answer(gateway, link, m.RetryLater([number(gateway, 1)], 30_000))
    for _ in range(5):
        clock.advance(5)
        gateway.turn()
    assert sent(link) == [("normal", 1)]
    clock.advance(20.1)  # what was put off together comes back spread over half the delay
    gateway.turn()
    assert sent(link) == [("normal", 1)] * 2


def test_what_many_gateways_put_off_together_comes_back_apart(build, center, clock):
    due = []
    for seed in range(20):
        gateway = build()
        gateway.rng = random.Random(seed)
        gateway.store([1])
        link = gateway.connect(center, carry=False)
        gateway.turn()
        answer(gateway, link, m.RetryLater([number(gateway, 1)], 10_000))
        gateway.turn()
        due.append(gateway.session._out.due_ns() - clock.mono)
        gateway.close()
    assert min(due) >= 9 * NS
    assert max(due) <= 15 * NS
    assert max(due) - min(due) > 3 * NS


def test_a_session_begins_with_little_on_the_wire_and_doubles_it_with_each_acknowledgement(
    build, center, monkeypatch
):
    monkeypatch.setattr(session_module, "START_BYTES", 20_000)
    gateway, rng = build(window=64), random.Random(1)
    gateway.store(*[[rng.getrandbits(62) for _ in range(500)] for _ in range(60)])
    link = gateway.connect(center, carry=False)
    in_flight = []
    for _ in range(3):
        gateway.turn()
        in_flight.append(gateway.session._bytes_in_flight)
        link.serve(len(link.up))
        answers, link.down = link.down, []
        for frames in answers:
            gateway.session._take(frames)
    assert 20_000 <= in_flight[0] <= 26_000
    assert in_flight[1] > 1.7 * in_flight[0]
    assert in_flight[2] > 1.7 * in_flight[1]
    before = gateway.session._allowed_bytes
    gateway.session._take([m.encode(m.RetryLater([], 1000))])
    assert gateway.session._allowed_bytes == before // 2


def test_a_poison_batch_blocks_nobody(build, center):
    gateway = build(window=4)
    gateway.store(*[[n] for n in range(4)])
    link = gateway.connect(center, carry=False)
    gateway.turn()
    link.up = [frames for frames in link.up if not (_is_batch(frames) and m.decode(frames[0]).seq == 2)]
    link.serve(len(link.up))
    answer(gateway, link, m.Permanent([number(gateway, 2)], "bad"))
    gateway.turn()
    gateway.apply()
    gateway.turn()
    link.cut = True
    gateway.turn()
    assert gateway.door.reader.dead_letters() == [("pump", "bad", 1, 1)]
    gateway.drain(center)
    assert center.rows("SELECT seq_from, seq_to, cause FROM gaps") == [(2, 2, "bad")]


def test_five_refusals_in_a_row_hold_and_nothing_is_thrown_away(build, center):
    gateway = build(window=8)
    gateway.store(*[[n] for n in range(8)])
    link = gateway.connect(center, carry=False)
    gateway.turn()
    link.down.append([m.encode(m.Permanent([number(gateway, n) for n in range(1, 6)], "bad release"))])
    with pytest.raises(Held, match="refused for good"):
        gateway.session.turn()
    gateway.session.close()
    gateway.session = None
    gateway.apply()
    assert gateway.door.reader.dead_letters() == []
    gateway.drain(center)
    assert center.rows("SELECT count(*) FROM pump") == [(8,)]


def test_silence_ends_the_session(build, center, clock):
    gateway = build(window=8, ack_timeout_ns=5 * NS)
    gateway.store([1])
    gateway.connect(center, carry=False)
    gateway.turn()
    clock.advance(5.1)
    with pytest.raises(Unanswered):
        gateway.session.turn()


def test_another_store_is_refused_even_after_a_restart(build, center, tmp_path, clock):
    gateway = build()
    gateway.store([1])
    gateway.drain(center)
    gateway.store([2])
    gateway.kill()
    (tmp_path / "other").mkdir()
    stranger = Center(tmp_path / "other", clock)
    try:
        with pytest.raises(Held, match="keeps its data in store"):
            gateway.connect(stranger)
        assert stranger.rows("SELECT count(*) FROM batches") == [(0,)]
    finally:
        stranger.sink.close()
    gateway.drain(center)
    assert center.rows("SELECT count(*) FROM pump") == [(2,)]


def test_an_acknowledged_batch_above_a_hole_is_not_told_as_lost_by_the_center(build, center):
    """A gap that the center has not confirmed when the link breaks leaves ranges above the mark: they are there."""
    gateway = build(window=8)
    gateway.store(*[[n] for n in range(4)])
    first = next(iter(gateway.door.reader.all_batches()))
    link = gateway.connect(center, carry=False)
    gateway.turn()
    link.up = [frames for frames in link.up if not (_is_batch(frames) and m.decode(frames[0]).seq == 1)]
    link.serve(len(link.up))
    gateway.turn()  # 2, 3 and 4 are acknowledged, 1 is lost on the way
    link.cut = True
    with pytest.raises(LinkError):
        gateway.session.turn()
    gateway.session.close()
    gateway.session = None
    gateway.apply()
    gateway.door.answer(thinned=[first.id])
    gateway.apply()
    gateway.drain(center)
    assert center.rows("SELECT seq_from, seq_to, cause FROM gaps") == [(1, 1, "evicted")]


def _is_batch(frames) -> bool:
    return isinstance(m.decode(frames[0]), m.Batch)


def test_a_session_holds_no_more_bytes_on_the_wire_than_told(build, center):
    gateway = build(window=1000, window_bytes=1000)
    gateway.store(*[[n] for n in range(100)])
    link = gateway.connect(center, carry=False)
    gateway.turn()
    assert sum(len(f[1]) for f in link.up if len(f) == 2) < 1000 + MIB // 1024
