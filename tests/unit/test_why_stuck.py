"""What `forebay run --once` says of data that stays."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from forebay.forward import LinkState
from forebay.runtime import Agent


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (LinkState("held", "tcp://c:1", "the key handshake failed"), "is held: the key handshake failed"),
        # batches of a policy that `require_policy` does not list are put off, and nothing more is said here
        (LinkState("up", "tcp://c:1"), "is up: the receiver takes nothing now, its log says why"),
    ],
)
def test_a_link_without_a_reason_points_to_the_receivers_log(link, said):
    forwarder = SimpleNamespace(link=link)
    agent = SimpleNamespace(
        spool=SimpleNamespace(writer=SimpleNamespace(condition=SimpleNamespace(state="ok"))),
        _link=SimpleNamespace(forwarder=forwarder, is_spent=lambda: False),
    )
    assert Agent.why_stuck(agent, 30.0) == f"no acknowledgement for 30 s; link to tcp://c:1 {said}"  # type: ignore[arg-type]
