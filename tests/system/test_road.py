"""Spool, forwarder and receiver together, over real sockets and files."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from results import record

from forebay.blocks import Block, Column, Field, Lane, Schema, Type
from forebay.clock import SystemClock
from forebay.forward import Forwarder, LinkOptions, SpoolDoor
from forebay.keys import generate
from forebay.spool import Spool
from forebay.spool.reader import equations_hold
from forebay.stages import Chunk
from forebay.wire.envelope import Context, Stamp
from forebay.wire.messages import PROTOCOL, Hello
from forebay.wire.seal import Sealer
from forebay.worker import Worker, WorkerOptions

SCHEMA = Schema("pump", (Field("temperature", Type.F64, "°C"), Field("note", Type.STR)))
NS = 1_000_000_000


class Pass:
    """A masker and guard that let everything through: masking has tests of its own."""

    def apply(self, block: Block, *, early: bool = False) -> Block:
        return block

    check = apply


def rows(first: int, count: int, *, wide: bool = False) -> Block:
    """Return rows first..first + count - 1; wide ones do not compress."""
    rng = random.Random(first)
    numbers = list(range(first, first + count))
    return Block(
        SCHEMA,
        np.array(numbers, dtype=np.int64) * NS,
        (
            Column.of(Type.F64, [n / 10 for n in numbers]),
            Column.of(Type.STR, [f"{rng.randbytes(16).hex() if wide else 'row'} {n}" for n in numbers]),
        ),
    )


class Gateway:
    """An agent's road from worker to link, without configuration."""

    def __init__(self, folder: Path, keys, endpoints: list[str], **spool) -> None:
        self.clock = SystemClock()
        self.folder, self.closed = folder, False
        self.readings = 0  # put into the worker so far
        options = {"sync": "full", "max_bytes": 64 * 1024 * 1024, "on_full": "block"} | spool
        self.spool = Spool.open(folder, on_stored=lambda: self.door.wake(), **options)
        reader = self.spool.reader()
        self.before = sum(entry["read"] for entry in reader.ledger().values())
        reader.close()
        self.door = SpoolDoor(self.spool.reader(), self.spool.claims, self.spool.writer.answer)
        context = Context("gw-1", "file/pump", "boot", "0.1")
        sealer = Sealer(context, lambda: Stamp(self.clock.wall_ns(), self.clock.monotonic_ns(), "synced"))
        self.worker = Worker(
            WorkerOptions("file/pump", "pump", linger_ns=0, commit_bytes=64 * 1024),
            [],
            Pass(),
            Pass(),
            sealer,
            self.spool.writer,
            self.clock,
        )
        link = LinkOptions(
            window=16, ack_timeout_ns=3 * NS, backoff_min_ns=NS // 50, connect_timeout_ns=2 * NS
        )

        def hello(store: str) -> Hello:
            epochs = {e: (str(lane), n) for e, (lane, n) in self.spool.store.epochs().items()}
            return Hello(PROTOCOL, "gw-1", "boot", "0.1", epochs, store)

        self.forwarder = Forwarder(
            endpoints, (keys.gateway, keys.center.public), link, self.door, self.clock, hello
        )
        self.thread = threading.Thread(target=self.worker.run, daemon=True)
        self.spool.writer.start()
        self.forwarder.start()
        self.thread.start()

    def put(self, block: Block, position: bytes = b"") -> None:
        self.readings += block.readings()
        self.worker.queue.put(Chunk([block], position=position or None), block.nbytes)

    def wait_delivered(self, timeout: float = 60.0) -> None:
        reader = self.spool.reader()
        before = self.before
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            read = sum(entry["read"] for entry in reader.ledger().values())
            if read - before == self.readings and reader.is_empty():
                reader.close()
                return
            time.sleep(0.01)
        reader.close()
        raise AssertionError(f"not delivered: {self.forwarder.link}")

    def wait_stored(self, timeout: float = 60.0) -> None:
        """Wait until all that was put is durable; with its queue empty the worker may still hold the last of it."""
        reader = self.spool.reader()
        deadline = time.monotonic() + timeout
        while sum(entry["read"] for entry in reader.ledger().values()) - self.before < self.readings:
            assert time.monotonic() < deadline, f"not stored: {self.spool.writer.condition}"
            time.sleep(0.01)
        reader.close()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.worker.queue.close()
        self.thread.join(10)
        self.forwarder.stop()
        self.spool.close()


@pytest.fixture
def gateway(keys, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    running: list[Gateway] = []

    def make(endpoints: list[str], name: str = "spool", **spool) -> Gateway:
        running.append(Gateway(tmp_path / name, keys, endpoints, **spool))
        return running[-1]

    yield make
    for one in running:
        one.close()


def query(database: Path, sql: str) -> list[tuple]:
    db = sqlite3.connect(database)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def test_rows_reach_the_sink_once_and_in_order(gateway, start_receiver):
    receiver = start_receiver()
    road = gateway([receiver.endpoint])
    for first in range(0, 20_000, 1000):
        road.put(rows(first, 1000))
    road.wait_delivered()
    stored = query(
        receiver.database,
        "SELECT time, temperature, note, quality, gateway FROM pump ORDER BY epoch, seq, rowid",
    )
    assert stored == [(n * NS, n / 10, f"row {n}", "good", "gw-1") for n in range(20_000)]
    batches = query(receiver.database, "SELECT seq, rows, readings FROM batches ORDER BY seq")
    assert [b[0] for b in batches] == list(range(1, len(batches) + 1))
    assert sum(b[2] for b in batches) == 40_000
    assert query(receiver.database, "SELECT mark, above FROM marks") == [(len(batches), "")]


def test_ledger_equations_hold_while_and_after_the_run(gateway, start_receiver):
    receiver = start_receiver()
    road = gateway([receiver.endpoint])
    reader = road.spool.reader()
    for first in range(0, 5_000, 1000):
        road.put(rows(first, 1000))
        assert all(equations_hold(e) for e in reader.ledger().values())
    road.wait_delivered()
    ledger = reader.ledger()["pump"]
    reader.close()
    assert equations_hold(ledger)
    assert (ledger["read"], ledger["accepted"], ledger["delivered"], ledger["pending"]) == (
        10_000,
        10_000,
        10_000,
        0,
    )


def test_data_waits_for_a_receiver_that_comes_later(gateway, start_receiver, keys):
    first = start_receiver()
    first.stop()
    road = gateway([first.endpoint])
    road.put(rows(0, 500))
    time.sleep(0.3)
    assert road.forwarder.link.state != "up"
    second = start_receiver(first.endpoint)
    road.wait_delivered()
    assert query(second.database, "SELECT count(*) FROM pump") == [(500,)]


def test_a_restarted_receiver_stores_nothing_twice(gateway, start_receiver):
    receiver = start_receiver()
    road = gateway([receiver.endpoint])
    for turn in range(5):
        for first in range(turn * 3000, turn * 3000 + 3000, 300):
            road.put(rows(first, 300))
        receiver.stop()
        receiver = start_receiver(receiver.endpoint)
    road.wait_delivered(60)
    assert query(receiver.database, "SELECT count(*), count(DISTINCT time) FROM pump") == [(15_000, 15_000)]


def test_urgent_overtakes_what_waits(gateway, start_receiver):
    receiver = start_receiver()
    receiver.stop()
    road = gateway([receiver.endpoint])
    for first in range(0, 100_000, 1000):
        road.put(rows(first, 1000))
    urgent = rows(1, 1)
    road.worker.options = WorkerOptions("file/pump", "pump", lane=Lane.URGENT, linger_ns=0)
    road.put(urgent)
    road.wait_stored()
    receiver = start_receiver(receiver.endpoint)
    road.wait_delivered(60)
    order = query(receiver.database, "SELECT lane FROM batches ORDER BY rowid")
    assert order[0] == ("urgent",)


def test_a_key_that_is_not_enrolled_is_refused_and_the_data_kept(gateway, start_receiver, keys):
    receiver = start_receiver()
    keys.gateway = generate("stranger")
    road = gateway([receiver.endpoint])
    road.put(rows(0, 10))
    road.wait_stored()
    deadline = time.monotonic() + 30
    while road.forwarder.link.state != "held" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert road.forwarder.link.state == "held"
    assert "key" in road.forwarder.link.reason
    reader = road.spool.reader()
    assert reader.ledger()["pump"]["pending"] == 20
    reader.close()


def test_an_enrolled_key_cannot_speak_for_another_gateway(gateway, start_receiver, keys):
    (keys.allow / "gw-1.pub").rename(keys.allow / "gw-2.pub")
    receiver = start_receiver()
    road = gateway([receiver.endpoint])
    deadline = time.monotonic() + 30
    while road.forwarder.link.state != "held" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "gateway id" in road.forwarder.link.reason


def test_a_full_spool_blocks_and_goes_on_when_delivered(gateway, start_receiver):
    receiver = start_receiver()
    receiver.stop()
    quota = 1024 * 1024
    road = gateway([receiver.endpoint], max_bytes=quota)
    road.worker.queue._max_bytes = 200_000
    feeder = threading.Thread(
        target=lambda: [road.put(rows(i * 1000, 1000, wide=True)) for i in range(200)], daemon=True
    )
    feeder.start()
    deadline = time.monotonic() + 30
    while road.spool.writer.condition.state != "full" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert road.spool.writer.condition.state == "full"
    assert feeder.is_alive()
    assert sum(p.stat().st_size for p in road.folder.iterdir()) <= quota
    receiver = start_receiver(receiver.endpoint)
    feeder.join(60)
    road.wait_delivered(60)
    assert query(receiver.database, "SELECT count(*), count(DISTINCT time) FROM pump") == [(200_000, 200_000)]


@pytest.mark.parametrize("on_full", ["evict_lowest_value", "drop_oldest", "drop_newest"])
def test_evicted_numbers_become_gaps_that_the_center_knows(gateway, start_receiver, on_full):
    receiver = start_receiver()
    receiver.stop()
    road = gateway([receiver.endpoint], max_bytes=1024 * 1024, on_full=on_full)
    for first in range(0, 200_000, 1000):
        road.put(rows(first, 1000, wide=True))
    receiver = start_receiver(receiver.endpoint)
    road.wait_delivered(60)
    reader = road.spool.reader()
    ledger = reader.ledger()["pump"]
    reader.close()
    assert equations_hold(ledger)
    assert ledger["evicted"][on_full] > 0
    (stored,) = query(receiver.database, "SELECT sum(readings) FROM batches")[0]
    (missing,) = query(receiver.database, "SELECT sum(readings) FROM gaps")[0]
    assert stored + missing == 400_000 == ledger["accepted"]
    numbers = [n for (n,) in query(receiver.database, "SELECT seq FROM batches")]
    for low, high in query(receiver.database, "SELECT seq_from, seq_to FROM gaps"):
        numbers += range(low, high + 1)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert query(receiver.database, "SELECT mark, above FROM marks") == [(len(numbers), "")]


def copy_files(source: Path, target: Path, pattern: str) -> None:
    target.mkdir(exist_ok=True)
    for path in source.glob(pattern):
        shutil.copy(path, target / path.name)


def test_a_spool_restored_from_an_older_copy_loses_and_doubles_nothing(gateway, start_receiver, tmp_path):
    receiver = start_receiver()
    road = gateway([receiver.endpoint])
    road.put(rows(0, 300))
    road.wait_delivered()
    road.close()
    copy_files(tmp_path / "spool", tmp_path / "restored", "segment-*")
    road = gateway([receiver.endpoint])
    for first in range(1000, 4000, 1000):
        road.put(rows(first, 1000))
        road.wait_delivered()
    road.close()
    road = gateway([receiver.endpoint], name="restored")
    road.put(rows(10_000, 500))
    road.wait_delivered(60)
    assert query(receiver.database, "SELECT count(*), count(DISTINCT time) FROM pump") == [(3800, 3800)]
    assert query(receiver.database, "SELECT count(DISTINCT epoch) FROM batches") == [(2,)]
    assert query(receiver.database, "SELECT cause FROM gaps") == [("regressed",)]


@pytest.mark.parametrize("waits", [False, True])
def test_two_agents_on_clones_of_one_card_lose_and_double_nothing(gateway, start_receiver, tmp_path, waits):
    """What was on the card already is at the center, or waits on both: then each sends it under the same numbers."""
    receiver = start_receiver()
    road = gateway(["tcp://127.0.0.1:1" if waits else receiver.endpoint])
    for first in range(0, 1000, 100):
        road.put(rows(first, 100))
    if not waits:
        road.wait_delivered()
    road.close()
    copy_files(tmp_path / "spool", tmp_path / "clone", "segment-*")
    begun = time.monotonic()
    pair = [gateway([receiver.endpoint]), gateway([receiver.endpoint], name="clone")]
    for first in range(1000, 6000, 1000):
        pair[0].put(rows(first, 700))
        pair[1].put(rows(first + 100_000, 700))
    for road in pair:
        road.wait_delivered(60)
        reader = road.spool.reader()
        assert all(equations_hold(e) for e in reader.ledger().values())
        assert reader.dead_letters() == []
        reader.close()
    took = time.monotonic() - begun
    assert query(receiver.database, "SELECT count(*), count(DISTINCT time) FROM pump") == [(8000, 8000)]
    assert query(receiver.database, "SELECT total(readings) FROM gaps") == [(0,)]
    record(
        f"clones-{'waiting' if waits else 'delivered'}",
        f"two agents on clones of one card, with 1000 rows on it that {'wait' if waits else 'are delivered'}",
        ".venv/bin/python -m pytest tests/system/test_road.py -k clones",
        1,
        recovery_s=took,
        note="8000 rows accepted, 8000 stored once, none in gaps; recovery: until 3500 new rows of each are stored",
    )


def test_a_center_restored_from_a_backup_knows_its_hole_and_goes_on(gateway, start_receiver, tmp_path):
    receiver = start_receiver()
    road = gateway([receiver.endpoint])
    road.put(rows(0, 100))
    road.wait_delivered()
    receiver.stop()
    copy_files(tmp_path, tmp_path / "backup", "center.db*")
    receiver = start_receiver(receiver.endpoint)
    for first in range(1000, 301_000, 1000):  # more than the 256 numbers that are remembered above a mark
        road.put(rows(first, 1000))
    road.wait_delivered(60)
    receiver.stop()
    for path in tmp_path.glob("center.db*"):
        path.unlink()
    copy_files(tmp_path / "backup", tmp_path, "center.db*")
    receiver = start_receiver(receiver.endpoint)
    for first in range(1_000_000, 1_010_000, 1000):
        road.put(rows(first, 1000))
    road.wait_delivered(60)
    causes = query(receiver.database, "SELECT cause, sum(seq_to - seq_from + 1) FROM gaps GROUP BY cause")
    assert causes == [("center_regressed", 300)]
    assert query(receiver.database, "SELECT count(*) FROM pump") == [(10_100,)]
    numbers = [n for (n,) in query(receiver.database, "SELECT seq FROM batches")]
    assert query(receiver.database, "SELECT mark, above FROM marks") == [(max(numbers), "")]
