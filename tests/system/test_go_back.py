"""Two receivers with one store: each knows what the other has stored, and the agent goes back to the preferred one."""

from __future__ import annotations

import time

from test_road import NS, gateway, query, rows  # noqa: F401 (a fixture)

from forebay import forward


def wait_for_link(road, endpoint: str) -> None:
    deadline = time.monotonic() + 60
    while (road.forwarder.link.state, road.forwarder.link.endpoint) != ("up", endpoint):
        assert time.monotonic() < deadline, road.forwarder.link
        time.sleep(0.01)


def check_once(receiver, count: int) -> None:
    assert query(receiver.database, "SELECT count(*), count(DISTINCT time) FROM pump") == [(count, count)]
    assert query(receiver.database, "SELECT count(*) FROM gaps") == [(0,)]
    highest = query(receiver.database, "SELECT max(seq) FROM batches")
    assert query(receiver.database, "SELECT max(mark) FROM marks") == highest


def test_an_agent_goes_back_to_the_receiver_that_it_prefers(gateway, start_receiver, monkeypatch):  # noqa: F811
    monkeypatch.setattr(forward, "PREFERRED_AGAIN_NS", NS // 10)
    gone = start_receiver()
    gone.stop()
    second = start_receiver()
    road = gateway([gone.endpoint, second.endpoint])
    road.put(rows(0, 1000))
    road.wait_delivered()
    assert road.forwarder.link.endpoint == second.endpoint
    first = start_receiver(gone.endpoint)
    wait_for_link(road, first.endpoint)
    road.put(rows(1000, 1000))
    road.wait_delivered()
    check_once(first, 2000)


def test_what_one_receiver_has_stored_the_other_knows(gateway, start_receiver):  # noqa: F811
    receivers = start_receiver(), start_receiver()
    for turn in range(4):
        road = gateway([receivers[turn % 2].endpoint])
        for first in range(3000 * turn, 3000 * turn + 3000, 1000):
            road.put(rows(first, 1000))
        road.wait_delivered()
        road.close()
    check_once(receivers[0], 12_000)
