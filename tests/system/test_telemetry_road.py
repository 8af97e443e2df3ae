"""What an agent tells of itself arrives: as a stream at the center, and as metrics at a collector."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from collector import Collector
from plant import kill, rows_of
from test_service import append, arrived, eventually, stopped

CONFIG = """\
sources:
  pump: {type: file, path: a.csv, format: csv, follow: true, time: {field: ts, unit: s}}
  me: {type: agent, every: 1s}
  mine: {type: agent, every: 1s, about: streams}
pipelines:
  pump: {source: pump, linger: 20ms, steps: [deadband: {field: value, absolute: 0}]}
  agent: {source: me, linger: 0s}
  streams: {source: mine, linger: 0s}
masking: {policy: %s}
"""
PUSHED = """\
web: {page: false, otlp: {endpoint: "http://127.0.0.1:%d", interval: 1s, headers: {Authorization: "env:TOKEN"}}}
"""


def last(plant, stream: str, what: str, where: str = "1"):
    """Return cells of the newest row of the own stream."""
    sql = f"SELECT {what} FROM {stream} WHERE {where} ORDER BY epoch DESC, seq DESC, time DESC LIMIT 1"
    found = rows_of(plant.sink, sql)
    return found[0] if found else (None,) * (what.count(",") + 1)


@pytest.mark.parametrize("policy", ["base", "strict"])
def test_the_center_sees_a_gateways_health_as_an_ordinary_stream(plant, policy):
    append(plant, "a", 0, 500)
    plant.configure(CONFIG % policy)
    plant.start_receiver()
    child = plant.start_agent()
    try:
        eventually(arrived(plant, "pump", 500), "rows of the pump")
        eventually(lambda: (last(plant, "agent", "delivered")[0] or 0) >= 1000, "the ledger of the pump")
        columns = "link_up, clock_stepped, safe_mode, stuck, balanced, sources_down, pipelines, evicted"
        assert last(plant, "agent", columns) == (1, 0, 0, 0, 1, 0, 3, 0)
        rss, cpu, share, uptime = last(plant, "agent", "rss, cpu_time, spool_percent, uptime")
        assert 20 * 1024**2 < rss < 512 * 1024**2
        assert 0 < cpu < 120
        assert 0 < share < 100
        assert uptime > 0
        where = "about = 'pump'"
        whole = lambda: last(plant, "streams", "read, rejected", where) == (1000, 0)  # noqa: E731
        eventually(whole, "a row a stream, of all that was read")
        assert rows_of(plant.sink, "SELECT DISTINCT quality FROM agent WHERE spool_full_in IS NULL")
        plant.stop_receiver()
        append(plant, "a", 500, 600)
        eventually(lambda: plant.live()["link"]["state"] == "down", "the cut")
        eventually(lambda: plant.status()["streams"]["agent"]["pending"] > 60, "samples of the outage")
        plant.start_receiver()
        eventually(lambda: rows_of(plant.sink, "SELECT 1 FROM agent WHERE link_up = 0"), "the outage, told")
        eventually(lambda: last(plant, "agent", "link_up")[0] == 1, "the end of the outage")
        assert plant.status()["balanced"]
        stopped(plant, child)
    finally:
        kill(child)


def test_metrics_reach_a_collector_and_one_that_is_gone_disturbs_nothing(plant):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
    append(plant, "a", 0, 500)
    collector = Collector()
    plant.environment = plant.environment | {"TOKEN": "Bearer of-the-test"}
    plant.configure(CONFIG % "base" + PUSHED % collector.port)
    plant.start_receiver()
    child = plant.start_agent()
    delivered = ("forebay_readings_delivered_total", (("stream", "pump"),))
    try:
        eventually(arrived(plant, "pump", 500), "rows")
        eventually(lambda: collector.pushes and collector.values().get(delivered) == 1000, "the figure")
        assert collector.headers[0]["Authorization"] == "Bearer of-the-test"
        assert collector.resource()["service.instance.id"] == "gw-1"
        collector.close()
        eventually(lambda: "metrics are not taken" in plant.log(), "a word")
        append(plant, "a", 500, 1000)
        eventually(arrived(plant, "pump", 1000), "rows all the same")
        assert "of-the-test" not in plant.log()
        assert not Path(plant.spool / "web.token").exists()
        stopped(plant, child)
    finally:
        kill(child)
    assert os.environ.get("TOKEN") != "Bearer of-the-test"
