"""The local page's server: who may see what, metrics that Prometheus reads, values only while somebody looks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sample_facts import FACTS

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.page import page_token
from forebay.web import WebServer
from forebay.web.values import IDLE_S, MOST_ALARMS, MOST_SERIES, POINTS, RecentAlarms, RecentValues

TOKEN = "a-token-of-the-test"


class FakeHouse:
    kind = "agent"

    def __init__(self) -> None:
        self.now = json.loads(json.dumps(FACTS))
        self.reasons: list[str] = []
        self.taps = []

    def facts(self):
        return self.now

    def settings(self):
        return {"gateway": {"id": "gw-1"}}

    def troubles(self):
        return self.reasons

    def watch(self, tap):
        self.taps.append(tap)
        return lambda: self.taps.remove(tap)


@pytest.fixture
def house() -> FakeHouse:
    return FakeHouse()


@pytest.fixture
def server(house) -> Iterator[WebServer]:
    made = WebServer(("127.0.0.1", 0), TOKEN, house)
    made.start()
    yield made
    made.stop()


def get(
    server: WebServer, path: str, token: str = "", method: str = "GET"
) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def block(values: list[float | None], stream: str = "pump", name: str = "pressure") -> Block:
    schema = Schema(stream, (Field(name, Type.F64, unit="bar"),))
    times = np.arange(len(values), dtype=np.int64) * 1_000_000_000
    return Block(schema, times, (Column.of(Type.F64, values),))


# -- who may see what ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/facts", "/api/series", "/api/still", "/api/config", "/metrics"])
def test_facts_are_for_who_has_the_token(server, path):
    for wrong in ("", "x", TOKEN + "x", TOKEN[:-1], "ü"):
        status, body, _ = get(server, path, wrong.encode("utf-8").decode("latin-1"))
        assert status == 401
        assert b"gw-1" not in body
    assert get(server, path, TOKEN)[0] in (200, 204)


def test_the_page_itself_holds_no_fact_and_no_way_out(server):
    status, body, headers = get(server, "/")
    assert status == 200
    assert b"gw-1" not in body
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "Server" not in headers or "waitress" not in headers["Server"]
    for path in ("/page.js", "/draw.js", "/page.css"):
        assert get(server, path)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/../page.py", "/static/index.html", "/%2e%2e/%2e%2e/etc/passwd", "/page.js/../../server.py", "/x"],
)
def test_only_the_addresses_of_the_table_answer(server, path):
    assert get(server, path, TOKEN)[0] in (400, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed_through_the_page(server, method):
    assert get(server, "/api/facts", TOKEN, method)[0] == 405


def test_health_needs_no_token_and_says_why(server, house):
    assert get(server, "/healthz")[0] == get(server, "/readyz")[0] == 200
    house.reasons = ["link is down: no answer"]
    assert get(server, "/healthz")[0] == 200
    status, body, _ = get(server, "/readyz")
    assert status == 503
    assert json.loads(body) == {"ok": False, "reasons": ["link is down: no answer"]}
    house.now["stuck"] = "pipeline pump has not moved for 61 s"
    assert get(server, "/healthz")[0] == 503


def test_a_failure_inside_is_an_answer_without_its_text(server, house):
    house.settings = lambda: 1 / 0
    status, body, _ = get(server, "/api/config", TOKEN)
    assert status == 500
    assert b"division" not in body


# -- metrics ------------------------------------------------------------------------------------------------


def test_metrics_are_read_by_prometheus_own_parser(server):
    status, body, headers = get(server, "/metrics", TOKEN)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {f.name: f for f in text_string_to_metric_families(body.decode())}
    values = {
        (s.name, tuple(sorted(s.labels.items()))): s.value for f in families.values() for s in f.samples
    }
    assert values["forebay_readings_read_total", (("stream", "pump"),)] == 10
    assert values["forebay_readings_filtered_total", (("step", 'dead"band\\'), ("stream", "pump"))] == 2
    assert values["forebay_readings_rejected_total", (("reason", "line\n"), ("stream", "pump"))] == 1
    assert values["forebay_uptime_seconds", ()] == 12.5
    assert values["forebay_spool_state", (("state", "ok"),)] == 1
    assert values["forebay_link_up", ()] == 1
    assert values["forebay_pipeline_idle_seconds", (("pipeline", "pump"),)] == 0.25
    assert values["forebay_clock_state", (("state", "synced"),)] == 1
    assert values["forebay_clock_state", (("state", "stepped"),)] == 0
    assert values["forebay_link_state", (("state", "held"),)] == 0
    assert values["forebay_spool_full_in_seconds", ()] == 90
    assert values["process_resident_memory_bytes", ()] == 4096
    assert values["process_cpu_seconds_total", ()] == 1.5
    assert families["forebay_readings_read"].type == "counter"
    assert families["forebay_spool_bytes"].type == "gauge"


# -- values -------------------------------------------------------------------------------------------------


def test_values_are_kept_only_while_somebody_looks(house):
    now = 0.0
    values = RecentValues(house.watch, lambda: now)
    assert house.taps == []
    values.wake()
    values.wake()
    assert len(house.taps) == 1
    house.taps[0](block([1.0, None, 3.0, float("inf")]))
    (series,) = values.series()
    assert series["stream"] == "pump"
    assert series["unit"] == "bar"
    assert series["points"] == [[0, 1.0], [2000, 3.0]]
    now = IDLE_S - 1
    values.sleep_if_idle()
    assert house.taps
    now = IDLE_S + 1
    values.sleep_if_idle()
    assert house.taps == []
    assert values.series() == []


def test_values_are_bounded(house):
    values = RecentValues(house.watch)
    values.wake()
    for number in range(MOST_SERIES + 10):
        values.take(block([1.0], name=f"f{number}"))
    assert len(values.series()) == MOST_SERIES
    for _ in range(POINTS):
        values.take(block([float(i) for i in range(1000)], name="f0"))
    assert max(len(s["points"]) for s in values.series()) == POINTS


def alarms(count: int, device: str = "") -> Block:
    fields = (Field("alarm", Type.STR), Field("state", Type.STR), Field("dev", Type.STR))
    columns = (["hot"] * count, ["raised", None] * count, [device] * count)
    schema = Schema("pump_alarms", fields, "dev" if device else "")
    times = np.arange(count, dtype=np.int64) * 1_000_000_000
    return Block(schema, times, tuple(Column.of(Type.STR, column[:count]) for column in columns))


def test_alarms_are_kept_though_nobody_looks_the_newest_first(house):
    kept = RecentAlarms(house.watch)
    house.taps[0](block([1.0]))
    house.taps[0](alarms(1, "p-7"))
    house.taps[0](alarms(2))
    assert [a["device"] for a in kept.alarms()] == ["", "", "p-7"]
    assert kept.alarms()[-1] == {
        "stream": "pump", "alarm": "hot", "state": "raised", "device": "p-7", "time": 0,
    }  # fmt: skip
    assert kept.alarms()[0]["state"] == "", "a cell that masking took"
    for _ in range(MOST_ALARMS):
        house.taps[0](alarms(3))
    assert len(kept.alarms()) == MOST_ALARMS
    kept.close()
    assert not house.taps


def test_a_still_is_the_last_cell_that_is_a_picture(server, house):
    picture = b"\xff\xd8\xff" + bytes(100)
    assert get(server, "/api/still", TOKEN)[0] == 204
    schema = Schema("camera", (Field("image", Type.BYTES, media="image"),))

    def show(cell: bytes | None) -> None:
        column = Column.of(Type.BYTES, [cell])
        house.taps[-1](Block(schema, np.zeros(1, np.int64), (column,)))

    show(picture)
    show(b"<script>")
    show(None)
    status, body, headers = get(server, "/api/still", TOKEN)
    assert (status, body, headers["Content-Type"]) == (200, picture, "image/jpeg")
    assert q.NULL_FROM == 128


def test_a_token_is_made_once_and_kept_for_its_owner_only(tmp_path):
    file = tmp_path / "web.token"
    token = page_token(None, tmp_path, file)
    assert len(token) >= 32
    assert page_token(None, tmp_path, file) == token
    assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "mine").write_text("secret-of-mine\n")
    (tmp_path / "mine").chmod(0o600)
    assert page_token("file:mine", tmp_path, file) == "secret-of-mine"
