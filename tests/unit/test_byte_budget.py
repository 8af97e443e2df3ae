"""Rate, byte budgets and what is remembered of them, on a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from world import NS, FakeClock

from forebay.forward.budget import Budget, BudgetPlan, Pace, Rung
from forebay.forward.memory import LinkMemory


def at(clock: FakeClock, text: str) -> None:
    """Set the wall clock; the monotonic one stays."""
    clock.offset = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS - clock.mono


@pytest.fixture
def clock():
    clock = FakeClock()
    at(clock, "2026-03-14 10:00")
    return clock


@pytest.mark.parametrize("sizes", [[100], [1_000], [90, 5_000, 10], [70_000]])
def test_a_rate_is_kept_over_any_minute(clock, sizes):
    pace, sent, began = Pace(10_000, clock), 0, clock.mono
    while clock.mono < began + 60 * NS:
        size = sizes[sent % len(sizes)]
        while wait := pace.wait_ns(size):
            clock.mono += wait
        pace.take(size)
        sent += size
    seconds = (clock.mono - began) / NS
    assert sent <= 10_000 * (seconds + 1) + max(sizes)  # a second's burst, and one message of debt
    assert sent >= 10_000 * seconds - max(sizes)


def test_no_rate_is_no_wait(clock):
    assert Pace(0, clock).wait_ns(10**9) == 0


def test_rungs_follow_what_is_spent(clock):
    budget = Budget(BudgetPlan(day=1_000_000, thin_keep=4), LinkMemory(), clock)
    seen = []
    for _ in range(10):
        seen.append(budget.rung)
        budget.spend(100_000)
    assert seen == [*[Rung.ALL] * 5, *[Rung.HARDER] * 3, Rung.THIN, Rung.URGENT]


def test_nothing_is_thinned_unless_the_configuration_says_so(clock):
    budget = Budget(BudgetPlan(day=1_000_000), LinkMemory(), clock)
    budget.spend(800_000)
    assert budget.rung is Rung.HARDER


def test_the_tighter_of_day_and_month_decides(clock):
    budget = Budget(BudgetPlan(day=10_000_000, month=1_000_000), LinkMemory(), clock)
    budget.spend(950_000)
    assert budget.rung is Rung.URGENT
    clock.advance(86_400)
    budget.look()
    assert (budget.used("day"), budget.used("month")) == (0, 950_000)
    assert budget.rung is Rung.URGENT


def test_a_new_day_begins_at_the_midnight_of_the_zone(clock):
    at(clock, "2026-03-14 15:59:58")
    budget = Budget(BudgetPlan(day=1_000_000, zone_s=8 * 3600), LinkMemory(), clock)
    budget.spend(1_000)
    clock.advance(1)
    budget.look()
    assert budget.used("day") == 1_000
    clock.advance(1)
    budget.look()
    assert budget.used("day") == 0


def test_a_bill_month_begins_on_its_day(clock):
    at(clock, "2026-03-14 23:59:00")
    budget = Budget(BudgetPlan(month=1_000_000, month_starts=15), LinkMemory(), clock)
    budget.spend(1_000)
    clock.advance(120)
    budget.look()
    assert budget.used("month") == 0


def test_without_a_synchronised_clock_a_day_is_a_day_of_uptime(clock):
    clock.quality = "unsynced"
    budget = Budget(BudgetPlan(day=1_000_000), LinkMemory(), clock)
    budget.spend(1_000)
    at(clock, "2036-01-01 00:00")  # says nothing
    clock.advance(3_600)
    budget.look()
    assert budget.used("day") == 1_000
    for _ in range(23):
        clock.advance(3_600)
        budget.look()
    assert budget.used("day") == 0


def test_a_clock_that_is_set_back_gives_nothing_back(clock):
    budget = Budget(BudgetPlan(day=1_000_000), LinkMemory(), clock)
    budget.spend(500_000)
    at(clock, "2016-03-14 10:00")
    clock.advance(2)
    budget.look()
    assert budget.used("day") == 500_000
    at(clock, "2026-03-15 10:00")
    clock.advance(2)
    budget.look()
    assert budget.used("day") == 0


def test_counters_survive_a_restart_to_the_byte_and_a_kill_upwards(clock, tmp_path):
    path = tmp_path / "link.json"
    plan = BudgetPlan(day=100_000_000)
    budget = Budget(plan, LinkMemory(path), clock)
    for _ in range(500):
        budget.spend(10_007)
    killed = Budget(plan, LinkMemory(path), clock).used("day")
    assert 5_003_500 <= killed <= 5_003_500 + 100_000_000 // 256 + 10_007
    budget.close()
    assert Budget(plan, LinkMemory(path), clock).used("day") == 5_003_500


def test_a_budget_costs_few_writes(clock, tmp_path, monkeypatch):
    memory = LinkMemory(tmp_path / "link.json")
    writes = []
    monkeypatch.setattr(memory, "save", lambda: writes.append(1))
    budget = Budget(BudgetPlan(day=100_000_000), memory, clock)
    for _ in range(10_000):
        budget.spend(10_000)
    assert 100 < len(writes) <= 260


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 9}', b"\xff\xfe", b'{"format": 1, "store": 3}'])
def test_a_damaged_memory_begins_anew(tmp_path, damage, caplog):
    path = tmp_path / "link.json"
    path.write_bytes(damage)
    memory = LinkMemory(path)
    assert (memory.store, memory.budget, memory.number) == ("", {}, 0)
    assert "begins anew" in caplog.text


def test_a_memory_is_read_back_as_it_was_written(tmp_path):
    memory = LinkMemory(tmp_path / "link.json")
    memory.store, memory.number, memory.digest = "abc", 7, b"\x01" * 32
    memory.budget = {"day": {"key": "2026-03-14", "used": 5, "uptime_ns": 9}}
    memory.save()
    again = LinkMemory(tmp_path / "link.json")
    assert (again.store, again.number, again.digest, again.budget) == ("abc", 7, b"\x01" * 32, memory.budget)
    assert (tmp_path / "link.json").stat().st_mode & 0o077 == 0


def test_a_memory_that_cannot_be_written_is_said_once(tmp_path, caplog):
    memory = LinkMemory(tmp_path / "no" / "link.json")
    memory.save()
    memory.save()
    assert caplog.text.count("cannot be written") == 1
