"""`forebay receive` with real sinks: rows looked at, and a database and two receivers killed on the way."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator

import pytest
from databases import NatsServer, Postgres, postgres_server
from kills import FIELDS, source_rows, write_csv
from live import set_endpoints, wait_until
from plant import RECEIVER as SQLITE_RECEIVER
from plant import free_port, kill, rows_of

SEED = 20_261
PIPELINE = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump: {source: pump, linger: 20ms, fields: {pressure: {unit: kPa}}}
"""
RECEIVER = """\
center: {{id: dc-1}}
listen: {{endpoint: "tcp://127.0.0.1:{port}", key: keys/center.key, allow: keys/allowed}}
sinks:
  store: {{type: postgres, dsn: "{dsn}", schema: city}}
"""


@pytest.fixture
def server() -> Iterator[Postgres]:
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    with postgres_server() as made:
        yield made


@pytest.fixture
def ports(plant, server) -> list[int]:
    """Configure the plant's receiver and a second one for the same database."""
    ports = [plant.port, free_port()]
    for name, port in zip(("receiver.yaml", "second.yaml"), ports, strict=True):
        (plant.folder / name).write_text(RECEIVER.format(port=port, dsn=server.uri), encoding="utf-8")
    return ports


def stored(server: Postgres) -> int:
    import psycopg

    try:
        return int(server.rows("SELECT coalesce(sum(rows), 0) FROM city.batches")[0][0])
    except psycopg.Error:
        return -1


def test_rows_of_a_finite_run_stand_in_postgresql_as_they_were_sent(plant, server, ports):
    rows = source_rows(3_000, SEED)
    write_csv(plant.folder / "pump.csv", rows)
    plant.configure(PIPELINE)
    plant.cli("check", "receiver.yaml")
    plant.start_receiver()
    plant.once()
    names = ", ".join(f'"{name}"' for name in FIELDS)
    got = server.rows(f"SELECT {names} FROM city.pump")
    assert sorted(got, key=lambda r: r[0]) == sorted((row[1:] for row in rows), key=lambda r: r[0])
    assert server.rows("SELECT unit FROM city.columns WHERE field = 'pressure'") == [("kPa",)]


def test_one_receiver_feeds_sqlite_parquet_and_nats_alike(plant, tmp_path):
    for library in ("pyarrow", "nats"):
        pytest.importorskip(library, reason="needs the extras `parquet` and `nats`")
    import pyarrow.dataset

    rows = source_rows(2_500, SEED)
    write_csv(plant.folder / "pump.csv", rows)
    plant.configure(PIPELINE)
    server = NatsServer(tmp_path / "jetstream")
    try:
        (plant.folder / "receiver.yaml").write_text(
            SQLITE_RECEIVER.format(port=plant.port)
            + "  lake: {type: parquet, path: lake}\n"
            + f"  bus: {{type: nats, servers: ['{server.url}'], ledger: bus.db, format: json}}\n",
            encoding="utf-8",
        )
        plant.cli("check", "receiver.yaml")
        plant.start_receiver()
        plant.once()
        plant.stop_receiver()
        said = [json.loads(line) for m in server.messages() for line in m.data.decode().splitlines()]
    finally:
        server.crash()
    names = list(FIELDS)
    expected = sorted((row[1:] for row in rows), key=lambda r: r[0])
    lake = pyarrow.dataset.dataset(plant.folder / "lake" / "pump").to_table(columns=names).to_pylist()
    assert sorted((tuple(r[n] for n in names) for r in lake), key=lambda r: r[0]) == expected
    assert sorted((tuple(r.get(n) for n in names) for r in said), key=lambda r: r[0]) == expected
    assert rows_of(plant.sink, "SELECT count(*) FROM pump") == [(len(rows),)]


@pytest.mark.slow
def test_killed_databases_and_receivers_lose_and_double_nothing(plant, server, ports):
    rows = source_rows(20_000, SEED)
    write_csv(plant.folder / "pump.csv", rows)
    plant.configure(PIPELINE, window=2)
    set_endpoints(plant, ports)
    receivers = [plant.start_receiver(), plant._start("second", "receive", "second.yaml")]
    agent = plant.start_agent("--once")
    rng = random.Random(SEED)
    for kill_number in range(8):
        before = stored(server)
        wait_until(
            lambda before=before: stored(server) > before or agent.poll() is not None,
            lambda: plant.log()[-2000:],
        )
        if agent.poll() is not None:
            break
        time.sleep(rng.uniform(0, 0.05))
        if kill_number % 2:
            which = rng.randrange(2)
            kill(receivers[which])
            receivers[which] = plant._start("receiver", "receive", ("receiver.yaml", "second.yaml")[which])
        else:
            server.crash()
            server.start()
    assert kill_number >= 4, "the run was over before enough was killed"
    assert agent.wait(180) == 0, plant.log()[-2000:]
    ids = [row[0] for row in server.rows("SELECT id FROM city.pump")]
    assert len(ids) == len(set(ids)) == len(rows)
    assert server.rows("SELECT count(*) FROM city.gaps") == [(0,)]
