"""Options of the link: units, bounds, and that they arrive where they act."""

from __future__ import annotations

import pytest

from forebay.config.agent import BudgetOptions, ForwardOptions
from forebay.config.base import parse_byte_rate
from forebay.config.receiver import ListenOptions
from forebay.forwarding import budget_plan, link_options

LEAST = {"endpoints": ["tcp://127.0.0.1:5570"], "keys": {"own": "a.key", "server": "b.pub"}}


@pytest.mark.parametrize(
    ("text", "rate"),
    [("64KiB/s", 65_536), ("1.5kB/s", 1_500), ("0", 0), (0, 0), (" 2 MiB / s ", 2 * 1024**2)],
)
def test_a_rate_is_bytes_a_second(text, rate):
    assert parse_byte_rate(text) == rate


@pytest.mark.parametrize("text", ["64KiB", "64/s", "64KiB/min", 64, "fast", True])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_byte_rate(text)


def test_every_option_arrives():
    options = ForwardOptions(
        **LEAST,
        heartbeat="60s",
        rate_limit="8KiB/s",
        budget={"day": "10MiB", "month": "200MiB", "thin_keep": 5, "zone": "+08:30", "month_starts": 15},
        backfill={"order": "newest_first", "share": 0.2},
        flush_jitter="90s",
        store="abc",
    )
    link, plan = link_options(options), budget_plan(options)
    assert (link.heartbeat_ns, link.rate, link.newest_first) == (60 * 10**9, 8192, True)
    assert (link.backfill_share, link.flush_jitter_ns, link.thin_keep) == (0.2, 90 * 10**9, 5)
    assert link.store == "abc"
    assert (plan.day, plan.month, plan.thin_keep) == (10 * 2**20, 200 * 2**20, 5)
    assert (plan.zone_s, plan.month_starts) == (30_600, 15)


def test_a_zone_west_of_greenwich_is_negative():
    assert BudgetOptions(zone="-03:30").zone_s == -12_600


def test_rungs_must_be_in_order():
    with pytest.raises(ValueError, match="harder_at"):
        BudgetOptions(harder_at=0.9, thin_at=0.5)


def test_limits_of_the_receiver_have_sane_defaults():
    options = ListenOptions(endpoint="tcp://*:5570", key="c.key", allow="allowed")
    assert options.limits.model_dump() == {"streams": 1_000, "columns": 10_000, "epochs_per_day": 100}
