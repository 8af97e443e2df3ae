"""Where a source begins whose position the spool does not know."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from forebay import beginning
from forebay.beginning import ASKED, Beginning
from forebay.errors import ConfigError
from forebay.forward import Positions
from forebay.supervise import SourceRunner

OWNER = "pump/pump"


class World:
    """A spool and a link that say what the test wants."""

    def __init__(self, *, damaged: bool = False, bound: bool = False, link: bool = True) -> None:
        self.progress: dict[str, bytes] = {}
        self.commits: list = []
        self.store = SimpleNamespace(
            segments={1: (0, 0, "sealed")},
            progress=lambda _: self.progress,
            epochs=lambda: {7: ("normal", 5)},
        )
        self.is_moved = False
        self.recovery = SimpleNamespace(positions_lost=damaged, is_new=not damaged)
        self.writer = SimpleNamespace(submit=self.commits.append)
        self.link = SimpleNamespace(
            positions=Positions(), is_configured=link, was_bound=bound, is_refused=False
        )

    def begin(self, on_unknown: str = "hold") -> Beginning:
        return Beginning(OWNER, self, lambda: self.link, on_unknown, lambda: b"the end")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(beginning, "ASK_S", 0.05)
    monkeypatch.setattr(beginning, "MOVED_ASK_S", 0.05)
    monkeypatch.setattr(beginning, "_LOOK_S", 0.01)


@pytest.mark.parametrize("damaged", [False, True])
def test_what_the_center_knows_is_where_it_goes_on_and_is_stored_before_it_starts(damaged):
    world = World(damaged=damaged)
    begin = world.begin()
    assert world.link.positions.is_due
    world.link.positions.answer({OWNER: (1, 9, b"there"), "other/other": None})
    assert begin(threading.Event()) == b"there"
    [commit] = world.commits
    assert (commit.owner, commit.position, commit.state) == (OWNER, b"there", {ASKED: b"1"})
    assert not Beginning.is_needed(world, {"": b"there"})
    assert not Beginning.is_needed(world, {ASKED: b"1"})
    assert Beginning.is_needed(world, {})


@pytest.mark.parametrize(
    ("damaged", "answer", "link", "known"),
    [
        (False, {}, True, True),  # a new gateway
        (False, None, True, True),  # a center of an older release: as before
        (False, {OWNER: None}, True, False),
        (True, {}, True, False),
        (True, None, True, False),
        (True, {OWNER: None}, True, False),
        (False, None, False, True),
        (True, None, False, False),
    ],
)
def test_who_knows_nothing_is_held_or_does_as_configured(damaged, answer, link, known):
    for on_unknown, expected in (("hold", None), ("beginning", None), ("end", b"the end")):
        world = World(damaged=damaged, link=link)
        begin = world.begin(on_unknown)
        world.link.positions.answer(answer)
        if known:
            assert begin(threading.Event()) is None
        elif on_unknown == "hold":
            with pytest.raises(ConfigError, match="neither the spool nor the center"):
                begin(threading.Event())
            assert not world.commits
        else:
            assert begin(threading.Event()) == expected
            assert len(world.commits) == 1


def test_a_gateway_that_never_met_a_center_does_not_wait_for_one():
    world = World()
    assert world.begin()(threading.Event()) is None


def test_where_nobody_listens_a_new_gateway_begins_at_once(monkeypatch):
    monkeypatch.setattr(beginning, "ASK_S", 3600.0)
    world = World()
    world.link.is_refused = True
    assert world.begin()(threading.Event()) is None
    assert [commit.state for commit in world.commits] == [{ASKED: b"1"}]


@pytest.mark.parametrize("world", [World(bound=True), World(damaged=True)])
def test_one_that_did_waits_for_as_long_as_it_takes(world):
    begin, found = world.begin(), []
    thread = threading.Thread(target=lambda: found.append(begin(threading.Event())))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    world.link.positions.answer({OWNER: (1, 1, b"there")})
    thread.join(10)
    assert found == [b"there"]


def test_a_salvaged_batch_is_asked_before_the_center():
    world = World(damaged=True)
    world.store.segments = {1: (0, 0, "damaged")}
    begin, found = world.begin(), []
    world.link.positions.answer({OWNER: (1, 1, b"older")})
    thread = threading.Thread(target=lambda: found.append(begin(threading.Event())))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()  # its batches are still being looked at
    world.progress = {"": b"salvaged"}
    world.store.segments = {1: (0, 0, "sealed")}
    thread.join(10)
    assert found == [b"salvaged"]


def test_an_agent_that_stops_does_not_wait_and_settles_nothing():
    world, stopping = World(bound=True), threading.Event()
    stopping.set()
    assert world.begin()(stopping) is None
    assert not world.commits


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({OWNER: (7, 5, b"center")}, b"center"),  # the spool gives number 5 next: it is an older copy
        ({OWNER: (7, 4, b"center")}, b"own"),
        ({OWNER: (6, 99, b"center")}, b"own"),  # of a spool before this one
        ({OWNER: None}, b"own"),
        ({}, b"own"),
        (None, b"own"),
        ("nobody", b"own"),
    ],
)
def test_a_spool_in_another_place_goes_on_where_the_center_is_if_that_is_ahead(answer, expected):
    world = World(bound=True)
    world.progress = {"": b"own"}
    assert not Beginning.is_needed(world, world.progress)
    world.is_moved = True
    assert Beginning.is_needed(world, world.progress)
    begin = world.begin()
    if answer != "nobody":
        world.link.positions.answer(answer)
    assert begin(threading.Event()) == expected
    assert [commit.position for commit in world.commits] == ([b"center"] if expected == b"center" else [])


def test_a_fault_while_the_position_is_looked_for_is_told_and_the_source_does_not_start():
    """It ended the source's thread without a word, and a finite run without its rows."""
    source = SimpleNamespace(run=lambda *_: pytest.fail("started"), stop=lambda: None)
    runner = SourceRunner("pump", source, None, None, once=True)

    def fault(_: threading.Event) -> bytes | None:
        raise AttributeError

    runner.begin = fault
    runner.thread.start()
    runner.thread.join(10)
    assert "AttributeError" in str(runner.failed)
