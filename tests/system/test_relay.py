"""A relay between gateways and center, as processes: origins kept, nothing lost or doubled whatever is killed."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from pathlib import Path

import pytest
from kills import FIELDS, source_rows, write_csv
from live import wait_until
from plant import Plant, free_port, kill, rows_of

SEED = 77
PIPELINE = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump: {source: pump, linger: 20ms}
"""
RELAY = """\
center: {{id: district}}
listen: {{endpoint: "tcp://127.0.0.1:{port}", key: keys/relay.key, allow: keys/village}}
sinks:
  up:
    type: forward
    endpoints: ["tcp://127.0.0.1:{up}"]
    keys: {{own: keys/relay.key, server: keys/center.pub}}
    ledger: relay.db
    window: 4
    ack_timeout: 5s
    retry_min: 20ms
    retry_max: 200ms
"""


class Tiers:
    """A plant whose agents send to a relay, which sends to the plant's receiver."""

    def __init__(self, plant: Plant) -> None:
        self.plant, self.port = plant, free_port()
        plant.cli("keys", "new", "relay", "--dir", "keys")
        plant.cli("keys", "enroll", "gw-1", "keys/gateway.pub", "--allow", "keys/village")
        plant.cli("keys", "revoke", "gw-1", "--allow", "keys/allowed")
        self.let_speak("gw-*")
        text = RELAY.format(port=self.port, up=plant.port)
        (plant.folder / "relay.yaml").write_text(text, encoding="utf-8")
        plant.cli("check", "relay.yaml")

    def let_speak(self, pattern: str) -> None:
        speaks = ("--speaks-for", pattern)
        self.plant.cli("keys", "enroll", "relay", "keys/relay.pub", "--allow", "keys/allowed", *speaks)

    def configure(self, **options: object) -> None:
        """Write an agent's configuration that sends to the relay."""
        path = self.plant.configure(PIPELINE, **options)
        text = path.read_text(encoding="utf-8").replace(str(self.plant.port), str(self.port))
        path.write_text(text.replace("keys/center.pub", "keys/relay.pub"), encoding="utf-8")

    def start(self) -> None:
        self.relay = self.plant._start("relay", "receive", "relay.yaml")
        wait_until(lambda: "listening on" in self.plant.log("relay"), lambda: self.plant.log("relay"))

    def wait_for(self, rows: int) -> None:
        wait_until(lambda: self.stored() >= rows, lambda: self.plant.log("relay")[-3000:])

    def stored(self) -> int:
        try:
            rows = rows_of(self.plant.sink, "SELECT total(rows) FROM batches")
        except sqlite3.Error:
            return -1
        return int(rows[0][0]) if rows else 0

    def waiting(self) -> int:
        return int(rows_of(self.plant.folder / "relay.db", "SELECT count(*) FROM relay_batches")[0][0])


@pytest.fixture
def tiers(plant) -> Tiers:
    return Tiers(plant)


def expected(rows: list[tuple]) -> list[tuple]:
    return sorted((row[1:] for row in rows), key=lambda r: r[0])


def in_center(sink: Path) -> list[tuple]:
    names = ", ".join(FIELDS)
    found = rows_of(sink, f"SELECT {names} FROM pump ORDER BY id")
    at = FIELDS.index("state")
    return [(*row[:at], None if row[at] is None else bool(row[at]), *row[at + 1 :]) for row in found]


def test_what_a_relay_hands_on_arrives_under_its_origin_and_is_not_kept(tiers, plant):
    rows = source_rows(3_000, SEED)
    write_csv(plant.folder / "pump.csv", rows)
    tiers.configure()
    tiers.start()
    plant.once()  # acknowledged by the relay, the center is not there yet
    assert tiers.waiting() > 0
    plant.start_receiver()
    tiers.wait_for(len(rows))
    assert in_center(plant.sink) == expected(rows)
    assert rows_of(plant.sink, "SELECT DISTINCT gateway FROM batches") == [("gw-1",)]
    of_relay = rows_of(plant.folder / "relay.db", "SELECT epoch, seq, tag FROM batches ORDER BY 1, 2")
    assert rows_of(plant.sink, "SELECT epoch, seq, tag FROM batches ORDER BY 1, 2") == of_relay
    wait_until(lambda: tiers.waiting() == 0, lambda: plant.log("relay"))
    tiers.relay.terminate()
    assert tiers.relay.wait(30) == 0


def test_a_relay_speaks_only_for_gateways_it_is_enrolled_for(tiers, plant):
    write_csv(plant.folder / "pump.csv", source_rows(200, SEED))
    tiers.let_speak("other-*")
    tiers.configure()
    plant.start_receiver()
    tiers.start()
    plant.once()
    wait_until(lambda: "refuses this gateway" in plant.log("relay"), lambda: plant.log("relay"))
    assert tiers.stored() == 0
    assert tiers.waiting() > 0


def test_a_relay_enrolled_without_a_pattern_speaks_for_nobody(tiers, plant):
    write_csv(plant.folder / "pump.csv", source_rows(200, SEED))
    plant.cli("keys", "enroll", "relay", "keys/relay.pub", "--allow", "keys/allowed")
    tiers.configure()
    plant.start_receiver()
    tiers.start()
    plant.once()
    wait_until(lambda: "refuses this gateway" in plant.log("relay"), lambda: plant.log("relay"))
    assert tiers.stored() == 0


def test_gaps_of_a_gateway_reach_the_center_through_the_relay(tiers, plant):
    rows = source_rows(30_000, SEED)
    write_csv(plant.folder / "pump.csv", rows)
    tiers.configure(spool="max_batches: 10, on_full: drop_oldest")
    agent = plant.start_agent()  # nobody answers: the quota evicts

    def evicted() -> int:
        if agent.poll() is not None:
            raise AssertionError(plant.log()[-2000:])
        entry = json.loads(plant.cli("status", "agent.yaml", "--json", expect=None) or "{}").get(
            "streams", {}
        )
        return sum(entry.get("pump", {}).get("evicted", {}).values())

    wait_until(lambda: evicted() > 0, lambda: plant.log()[-2000:])
    tiers.start()
    plant.start_receiver()

    def accounted() -> int:
        try:
            lost = rows_of(plant.sink, "SELECT total(rows) FROM gaps WHERE cause <> ''")
        except sqlite3.Error:
            return -1
        return tiers.stored() + int(lost[0][0] if lost else 0)

    wait_until(lambda: accounted() >= len(rows), lambda: f"{accounted()} {plant.log('relay')[-2000:]}")
    assert accounted() == len(rows)
    assert tiers.stored() < len(rows)
    ids = rows_of(plant.sink, "SELECT count(*), count(DISTINCT id) FROM pump")
    assert ids[0][0] == ids[0][1] == tiers.stored()


def test_signed_checkpoints_are_verified_behind_the_relay(tiers, plant):
    rows = source_rows(500, SEED)
    write_csv(plant.folder / "pump.csv", rows)
    # The gateway's own key may be enrolled at the center, too: then what it signed is verified there.
    plant.cli("keys", "enroll", "gw-1", "keys/gateway.pub", "--allow", "keys/allowed")
    tiers.configure()
    with (plant.folder / "agent.yaml").open("a", encoding="utf-8") as file:
        file.write("  checkpoint: 1s\n")
    tiers.start()
    plant.start_receiver()
    plant.start_agent()
    query = "SELECT verdict, batches FROM checkpoints"
    wait_until(lambda: rows_of(plant.sink, query) != [], lambda: plant.log("relay")[-2000:])
    assert {verdict for verdict, _ in rows_of(plant.sink, query)} == {"ok"}


@pytest.mark.slow
def test_kills_of_every_tier_lose_and_double_nothing(tiers, plant):
    rows = source_rows(20_000, SEED)
    write_csv(plant.folder / "pump.csv", rows)
    tiers.configure(window=2)
    center = plant.start_receiver()
    tiers.start()
    agent = plant.start_agent()
    rng = random.Random(SEED)
    for _ in range(15):
        time.sleep(rng.uniform(0.2, 1.0))
        which = rng.randrange(3)
        if which == 0:
            kill(agent)
            agent = plant.start_agent()
        elif which == 1:
            kill(tiers.relay)
            tiers.relay = plant._start("relay", "receive", "relay.yaml")
        else:
            kill(center)
            center = plant.start_receiver()
    tiers.wait_for(len(rows))
    assert in_center(plant.sink) == expected(rows)
    assert rows_of(plant.sink, "SELECT count(*) FROM gaps") == [(0,)]
