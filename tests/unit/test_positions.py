"""Which position the receiver keeps of a source, and what it tells a gateway whose spool is new."""

from __future__ import annotations

import pytest
from world import Center, FakeClock, Gateway

from forebay.blocks import Lane
from forebay.receive.positions import Place, common_positions
from forebay.spool.store import Answers
from forebay.stages import Commit
from forebay.wire import messages as m
from forebay.wire.envelope import Context
from forebay.wire.seal import Sealer


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def center(tmp_path, clock):
    made = Center(tmp_path, clock)
    yield made
    made.sink.close()


@pytest.fixture
def gateway(tmp_path, clock):
    made = Gateway(tmp_path, clock)
    yield made
    made.close()


def store(gateway: Gateway, position: bytes | None, lane: Lane = Lane.NORMAL) -> None:
    """Commit one batch that says where its source stands."""
    gateway.clock.mono += 1_000
    sealed = gateway.sealer.seal(gateway._block([gateway.clock.mono], lane), position)
    commit = Commit("s/p", [sealed], dict(gateway.sealer.bodies))
    commit.ledger["pump", "read", ""] += 1
    commit.ledger["pump", "accepted", ""] += 1
    gateway.spool.store.apply([commit], Answers())


def boot(gateway: Gateway, name: str) -> None:
    """Go on in another boot: its monotonic clock begins anew."""
    gateway.sealer = Sealer(Context("gw-1", "s/p", name, "0"), gateway._stamp)
    gateway.clock.mono -= 500_000


def send(gateway: Gateway, center: Center, order: list[int]) -> None:
    """Hand the waiting batches to the center in this order, each in a transaction of its own."""
    batches = sorted(gateway.door.reader.all_batches(), key=lambda b: b.id & ((1 << 60) - 1))
    for place in order:
        b = batches[place]
        bodies = gateway.door.reader.bodies([b.schema_id, b.context_id])
        center.handle(
            [
                (b"p", [m.encode(m.Bodies(list(bodies.values())))]),
                (b"p", [m.encode(m.Batch(b.lane, b.epoch, b.seq, b.tag)), b.data]),
            ]
        )


def told(center: Center, *, asks: bool = True) -> dict[str, bytes | None] | None:
    hello = m.Hello(m.PROTOCOL, "gw-1", "boot-9", "0", {}, "", asks=asks)
    [(_, welcome)] = center.handle([(b"p", [m.encode(hello)])])
    assert isinstance(welcome, m.Welcome)
    positions = m.decode(m.encode(welcome)).positions
    return positions and {owner: told and told[2] for owner, told in positions.items()}


def test_an_owner_that_was_never_heard_of_is_not_in_the_answer_and_nobody_is_told_unasked(center):
    assert told(center) == {}
    assert told(center, asks=False) is None


def test_the_newest_of_an_epoch_counts_whatever_came_last(gateway, center):
    for n in range(4):
        store(gateway, b"%d" % n)
    send(gateway, center, [0, 3, 1, 2])
    assert told(center) == {"s/p": b"3"}


def test_within_a_boot_the_one_sealed_last_counts_over_all_lanes(gateway, center):
    store(gateway, b"0")
    store(gateway, b"1", Lane.URGENT)
    store(gateway, b"2", Lane.BULK)
    send(gateway, center, [2, 0, 1])
    assert told(center) == {"s/p": b"2"}


def test_a_boot_that_was_met_later_counts_although_its_clock_reads_less(gateway, center):
    store(gateway, b"0", Lane.URGENT)
    send(gateway, center, [0])
    boot(gateway, "boot-2")
    store(gateway, b"1")
    send(gateway, center, [1])
    assert told(center) == {"s/p": b"1"}


def test_batches_that_say_nothing_leave_word_that_there_were_some(gateway, center):
    store(gateway, None)
    send(gateway, center, [0])
    assert told(center) == {"s/p": None}
    store(gateway, b"1")
    store(gateway, None)
    send(gateway, center, [1, 2])
    assert told(center) == {"s/p": b"1"}


def test_a_position_outlives_a_restart_and_leaves_with_a_transaction_that_failed(
    gateway, center, tmp_path, clock
):
    store(gateway, b"0")
    store(gateway, b"1")
    send(gateway, center, [0])
    center.sink._db.execute(
        "CREATE TRIGGER fails BEFORE INSERT ON marks BEGIN SELECT raise(ABORT, 'no'); END"
    )
    center.sink._db.execute(
        "CREATE TRIGGER fails2 BEFORE UPDATE ON marks BEGIN SELECT raise(ABORT, 'no'); END"
    )
    send(gateway, center, [1])
    assert told(center) == {"s/p": b"0"}
    center.sink._db.execute("DROP TRIGGER fails")
    center.sink._db.execute("DROP TRIGGER fails2")
    send(gateway, center, [1])
    center.sink.close()
    again = Center(tmp_path, clock)
    assert told(again) == {"s/p": b"1"}
    again.sink.close()
    center.sink = Center(tmp_path, clock).sink


def test_a_gateway_that_makes_owners_up_fills_nothing(gateway, center):
    for n in range(m.MAX_OWNERS + 5):
        gateway.sealer = Sealer(Context("gw-1", f"s/{n}", "boot-1", "0"), gateway._stamp)
        store(gateway, b"x")
    send(gateway, center, list(range(m.MAX_OWNERS + 5)))
    assert len(told(center)) == m.MAX_OWNERS


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Place(1, 5, "b", 1, b"5"), Place(1, 5, "b", 1, b"5"), b"5"),
        (Place(1, 5, "b", 1, b"5"), Place(1, 4, "b", 1, b"4"), b"4"),
        (Place(1, 4, "b", 1, b"4"), Place(1, 5, "b", 1, b"5"), b"4"),
        (Place(1, 5, "b", 1, b"5"), Place(2, 1, "b", 1, b"1"), None),
    ],
)
def test_of_two_sinks_what_both_have_counts(one, other, expected):
    [found] = common_positions([{"s/p": one}, {"s/p": other}]).values()
    assert (found and found[2]) == expected


def test_more_than_fits_a_message_is_told_as_not_known():
    places = {f"s/{n:02}": Place(1, 1, "b", 1, bytes(60_000)) for n in range(20)}
    answer = common_positions([places])
    assert len(answer) == 20
    assert sum(p is not None for p in answer.values()) == 8
