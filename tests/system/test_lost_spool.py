"""A spool that is gone, with its card or by a hand too quick: the center knows how far its sources were read."""

from __future__ import annotations

import itertools
import secrets
import shutil
import sqlite3
from pathlib import Path

import pytest
from live import Live, wait_until
from plant import kill, rows_of
from results import record
from world import Center, FakeClock, Gateway

from forebay.spool.wal import FRAME_HEADER_BYTES, HEADER_BYTES

HERE = ".venv/bin/python -m pytest tests/system/test_lost_spool.py"


@pytest.fixture
def live(plant) -> Live:
    """A run of which 1,000 rows are delivered, agent and receiver killed, and more rows in the source."""
    live = Live(plant, 3_000, 1)
    receiver, agent = plant.start_receiver(), plant.start_agent()
    live.write(1_000)
    live.wait_stored()
    live.write(500)
    live.wait_stored()
    kill(agent)
    kill(receiver)
    live.write(500)
    return live


def lose(live: Live, *, keep_link: bool = False) -> None:
    """Delete the spool; the forwarder's own memory lies beside it."""
    kept = (live.plant.spool / "link.json").read_text()
    shutil.rmtree(live.plant.spool)
    if keep_link:
        live.plant.spool.mkdir()
        (live.plant.spool / "link.json").write_text(kept)


def ids(live: Live) -> list[int]:
    return [row[0] for row in rows_of(live.plant.sink, "SELECT id FROM pump ORDER BY id")]


def forget_position(live: Live) -> None:
    """Leave the center with the rows and without the position, as a store of an older release is."""
    with sqlite3.connect(live.plant.sink) as db:
        assert db.execute("UPDATE positions SET position = NULL").rowcount == 1
    db.close()


def start_with(live: Live, start: str) -> None:
    path = live.plant.folder / "agent.yaml"
    text = path.read_text()
    assert "follow: true" in text
    path.write_text(text.replace("follow: true", f"follow: true, start: {start}"))


def test_a_new_spool_goes_on_where_the_center_knows_that_the_lost_one_was(live):
    lose(live)
    live.plant.start_receiver()
    live.plant.start_agent()
    recovery = live.wait_stored()
    live.write(1_000)
    live.wait_stored()
    assert ids(live) == list(range(3_000))
    assert "goes on where the center says" in live.plant.log()
    record(
        "lost-spool",
        "spool and all beside it deleted, an empty one in its place",
        f"{HERE} -k goes_on_where",
        1,
        recovery_s=recovery,
        note="3000 rows read, 3000 stored once: the source went on from the position that the center keeps",
    )


def test_the_answer_outlives_a_kill_before_the_first_row(live):
    """It is stored before the source starts: the center's newest position may be another's by then."""
    lose(live)
    live.plant.start_receiver()
    agent = live.plant.start_agent()
    wait_until(lambda: "goes on where the center says" in live.plant.log(), live.plant.log)
    kill(agent)
    live.plant.start_agent()
    live.wait_stored()
    assert ids(live) == list(range(2_000))


def test_a_source_waits_for_the_center_when_only_the_center_can_know(live):
    lose(live, keep_link=True)
    live.plant.start_agent()
    wait_until(lambda: "the source waits for the center" in live.plant.log(), live.plant.log)
    wait_until(lambda: "waits to know" in str(live.plant.live()["pipelines"]), live.plant.log)
    live.plant.start_receiver()
    live.wait_stored()
    assert ids(live) == list(range(2_000))


def test_where_neither_knows_the_source_is_held_with_an_alarm_until_someone_decides(live):
    lose(live)
    forget_position(live)
    live.plant.start_receiver()
    agent = live.plant.start_agent()
    wait_until(lambda: "source is held" in live.plant.log(), live.plant.log)
    assert "neither the spool nor the center knows" in live.plant.log()
    assert live.stored() == 1_500
    kill(agent)
    start_with(live, "end")
    live.plant.start_agent()
    settled = "SELECT 1 FROM progress WHERE step = 'asked'"
    wait_until(lambda: bool(rows_of(live.plant.segment, settled)), live.plant.log)
    live.write(1_000)
    live.wait_stored(2_500)
    assert ids(live) == [*range(1_500), *range(2_000, 3_000)]  # as it was told: the 500 are not read


def test_start_beginning_reads_all_again_where_neither_knows(live):
    lose(live)
    forget_position(live)
    start_with(live, "beginning")
    live.plant.start_receiver()
    live.plant.start_agent()
    live.wait_stored(3_500)
    assert ids(live) == sorted([*range(1_500), *range(2_000)])


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_spool_rolled_back_to_an_older_copy_reads_nothing_twice(plant, how):
    live = Live(plant, 3_000, 1)
    plant.start_receiver()
    agent = plant.start_agent()
    live.write(1_000)
    live.wait_stored()
    agent.terminate()
    assert agent.wait(60) == 0
    shutil.copytree(plant.spool, plant.folder / "yesterday")
    agent = plant.start_agent()
    live.write(1_000)
    live.wait_stored()
    if how == "killed":
        kill(agent)
    else:
        agent.terminate()
        assert agent.wait(60) == 0
    shutil.rmtree(plant.spool)
    shutil.copytree(plant.folder / "yesterday", plant.spool)
    plant.start_agent()
    live.write(1_000)
    recovery = live.wait_stored()
    assert ids(live) == list(range(3_000))
    assert "the spool is an older copy" in plant.log()
    causes = lambda: rows_of(plant.sink, "SELECT DISTINCT cause FROM gaps")  # noqa: E731 - told beside the rows
    wait_until(lambda: causes() == [("regressed",)], lambda: f"{causes()}")
    record(
        f"rolled-back-{how}",
        f"spool rolled back to an older copy of itself while its agent was {how}",
        f"{HERE} -k rolled_back",
        1,
        recovery_s=recovery,
        note="3000 rows read, 3000 stored once, a new epoch after a gap `regressed`",
    )


def damage_last_transaction(spool: Path) -> None:
    """Break two words of a frame of the log's last transaction: it cannot be mended, and looks like a torn write."""
    log = max(spool.glob("segment-*.db")).with_suffix(".db-wal")
    raw = bytearray(log.read_bytes())
    page = int.from_bytes(raw[8:12], "big")
    step = FRAME_HEADER_BYTES + page
    frames = list(range(HEADER_BYTES, len(raw) - step + 1, step))
    commits = [
        at for at in frames if raw[at + 4 : at + 8] != bytes(4) and raw[at + 8 : at + 16] == raw[16:24]
    ]
    first = commits[-2] + step
    raw[first + page // 4] ^= 1
    raw[first + 3 * page // 4] ^= 1
    log.write_bytes(raw)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("delivered", [True, False])
def test_a_transaction_damaged_beyond_mending_at_the_logs_end_shows_where_somebody_knows_it(
    tmp_path, delivered, index
):
    """The log's index knows of it, and its rows are intact, or the center. Without both: docs/reliability.md."""
    clock = FakeClock()
    gateway, center = Gateway(tmp_path / "live", clock), Center(tmp_path, clock)
    gateway.store([1])
    gateway.drain(center)
    gateway.store([2])
    if delivered:
        gateway.connect(center)
        gateway.turn()
        assert center.rows("SELECT id FROM pump ORDER BY id") == [(1,), (2,)]  # and its answer is not applied
    left = shutil.ignore_patterns("lock", *([] if index else ["*-shm"]))
    shutil.copytree(tmp_path / "live", tmp_path / "killed", ignore=left)
    gateway.close()
    damage_last_transaction(tmp_path / "killed" / "spool")
    again = Gateway(tmp_path / "killed", clock)
    assert again.spool.is_moved  # a file would not be read again before the center was asked
    wait_until(lambda: not again.spool.recovery.poll(again.spool.store), lambda: "salvage does not end")
    again.drain(center)
    again.store([3])
    again.drain(center)
    again.close()
    assert center.rows("SELECT id FROM pump ORDER BY id") == [
        (1,),
        *([(2,)] if delivered or index else []),
        (3,),
    ]
    causes = [cause for (cause,) in center.rows("SELECT cause FROM gaps")]
    assert causes == (["regressed"] if delivered and not index else [])
    center.sink.close()


def test_a_new_gateway_without_a_link_is_read_from_the_beginning(plant):
    live = Live(plant, 1_000, 1)
    live.write(1_000)
    plant.start_agent()
    wait_until(lambda: "taken as a new gateway" in plant.log(), plant.log)
    plant.start_receiver()
    live.wait_stored()
    live.end()


def test_what_a_new_spool_stores_orders_behind_what_the_lost_one_has_sent(tmp_path, monkeypatch):
    """Epochs of one generation order at random: here the lost spool has the last of its, the new one the first."""
    clock, center = FakeClock(), Center(tmp_path, FakeClock())
    numbers = itertools.count(1 << 31)
    monkeypatch.setattr(secrets, "randbits", lambda _bits: next(numbers))
    gateway = Gateway(tmp_path / "lost", clock)
    gateway.store([1], position=b"1")
    gateway.drain(center)
    gateway.close()
    numbers = itertools.count()
    gateway = Gateway(tmp_path / "new", clock)
    gateway.store([2])  # of a sender that is not asked to wait
    gateway.connect(center, asks=True)
    gateway.apply()
    gateway.store([3], position=b"3")
    gateway.drain(center)
    gateway.store([4], position=b"4")
    gateway.kill()
    gateway.drain(center)
    gateway.close()
    ordered = center.rows("SELECT id FROM pump ORDER BY epoch, seq")
    assert ordered.index((3,)) > ordered.index((1,)), ordered
    assert ordered[-2:] == [(3,), (4,)]
    assert sorted(ordered) == [(1,), (2,), (3,), (4,)]
    assert center.rows("SELECT count(*) FROM gaps") == [(0,)]
    center.sink.close()
