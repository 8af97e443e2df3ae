"""The buffer doctor and encryption at rest through the command line, with a real agent and receiver."""

from __future__ import annotations

import json
import sqlite3

import pytest
from kills import FIELDS, check_ledger, check_sink, source_rows, write_csv
from plant import rows_of

PLAIN = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump: {source: pump, linger: 20ms}
"""
ROWS = 3_000


@pytest.fixture
def sent(plant):
    rows = source_rows(ROWS, 11)
    write_csv(plant.folder / "pump.csv", rows)
    return rows


def buffer_only(plant, spool: str = "") -> None:
    """Fill the spool: there is no link."""
    plant.configure(PLAIN, spool=spool, window=1)
    config = plant.folder / "agent.yaml"
    text = config.read_text()
    config.write_text(text.replace(f":{plant.port}", ":1"))
    plant.once(expect=1, options=("--give-up", "1s"))
    config.write_text(text)


def test_repair_salvages_a_stopped_agents_spool_and_says_what_is_lost(plant, sent):
    buffer_only(plant)
    plant.cli("spool", "verify", "spool")
    waiting = json.loads(plant.cli("spool", "stat", "spool", "--json"))
    db = sqlite3.connect(plant.segment)
    (needle,) = db.execute("SELECT data FROM batch ORDER BY id LIMIT 1").fetchone()
    db.close()
    raw = bytearray(plant.segment.read_bytes())
    at = raw.find(needle[-80:-30])
    while at >= 0:  # a free page may hold a copy
        raw[at + 7] ^= 0x10
        at = raw.find(needle[-80:-30])
    plant.segment.write_bytes(raw)
    assert "damaged" in plant.cli("spool", "verify", "spool", expect=1)
    told = json.loads(plant.cli("spool", "repair", "spool", "--json", expect=1))
    assert told["batches"] == waiting["batches"] - 1
    assert told["lost_readings"] == waiting["readings"] - told["readings"] > 0
    assert not told["positions_lost"]
    plant.cli("spool", "verify", "spool")
    plant.start_receiver()
    plant.once(expect=1)
    assert plant.ledger("pump")["quarantined"] == {"damaged": told["lost_readings"]}
    gaps = rows_of(plant.sink, "SELECT sum(readings), cause FROM gaps GROUP BY cause")
    assert gaps == [(told["lost_readings"], "damaged")]
    stored = rows_of(plant.sink, "SELECT sum(readings) FROM batches")[0][0]
    assert stored + told["lost_readings"] == waiting["readings"]
    ids = [row[0] for row in rows_of(plant.sink, "SELECT id FROM pump")]
    assert len(ids) == len(set(ids))


def test_repair_refuses_while_the_agent_runs(plant, sent):
    plant.configure(PLAIN, forward=False)
    plant.start_agent()
    import time

    deadline = time.monotonic() + 20
    while not plant.segment.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    plant.cli("spool", "repair", "spool", expect=1)
    assert "an agent uses this spool (stop it first" in plant.last_error


@pytest.mark.parametrize("cipher", ["aes-gcm", "sm4-gcm"])
@pytest.mark.parametrize("kind", ["gateway", "center"])
def test_a_sealed_buffer_shows_nothing_and_arrives(plant, sent, kind, cipher):
    buffer_only(plant, f"seal: {kind}, cipher: {cipher}, compression: none")
    stored = b"".join(p.read_bytes() for p in plant.spool.glob("segment-*"))
    assert b"FBL1" in stored
    db = sqlite3.connect(plant.segment)
    assert all(row[0][:4] == b"FBL1" for row in db.execute("SELECT data FROM batch"))
    db.close()
    plant.cli("spool", "export", "spool", "--to", "out", "--key", "keys/gateway.key")
    one = str(min((plant.folder / "out").iterdir()))
    plant.cli("decode", one, expect=0 if kind == "gateway" else 1)
    plant.start_receiver()
    plant.once()
    check_sink(plant, "pump", sent, FIELDS)
    check_ledger(plant, "pump")


def test_a_spool_of_a_newer_release_ends_the_agent_with_code_2(plant, sent):
    buffer_only(plant)
    db = sqlite3.connect(plant.segment)
    db.execute("PRAGMA user_version=99")
    db.close()
    assert "found 99" in plant.once(expect=2)
