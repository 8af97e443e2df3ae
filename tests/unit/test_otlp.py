"""Metrics pushed to an OpenTelemetry collector: the figures of /metrics, and no harm where there is no collector."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from collector import Collector
from prometheus_client.parser import text_string_to_metric_families
from sample_facts import FACTS

from forebay.cli.app import run
from forebay.config.findings import ConfigErrors
from forebay.config.loader import load_agent
from forebay.config.secrets import secrets_of
from forebay.errors import MissingExtra
from forebay.preflight import missing_extras
from forebay.telemetry import metrics_of
from forebay.web import OtlpPlan, OtlpPusher
from forebay.web.metrics import render

AGENT = """gateway: {id: gw-1}
sources: {a: {type: system}}
pipelines: {a: {source: a}}
spool: {dir: spool}
web: %s
"""


def needs_otel() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")


class House:
    kind = "agent"

    def facts(self):
        return json.loads(json.dumps(FACTS))

    def settings(self):
        return {}

    def troubles(self):
        return []

    def watch(self, tap):
        return lambda: None


@pytest.fixture
def collector() -> Iterator[Collector]:
    needs_otel()
    made = Collector()
    yield made
    made.close()


def pusher(port: int, **changes: object) -> OtlpPusher:
    plan = OtlpPlan(f"http://127.0.0.1:{port}", 0.05, 1.0, {}, None)
    return OtlpPusher(plan._replace(**changes), House())


def eventually(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# -- what is pushed -----------------------------------------------------------------------------------------


def test_a_collector_gets_the_same_figures_under_the_same_names_as_prometheus(collector):
    made = pusher(collector.port, headers={"X-Tenant": "water"})
    made.start()
    eventually(lambda: collector.pushes, "a push")
    made.stop()
    families = list(text_string_to_metric_families(render(metrics_of("agent", FACTS))))
    scraped = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
    assert collector.values() == scraped
    assert collector.paths[0] == "/v1/metrics"
    assert collector.headers[0]["X-Tenant"] == "water"
    assert collector.resource() == {
        "service.name": "forebay",
        "service.instance.id": "gw-1",
        "service.version": "1.2.3",
        "forebay.site": "lab",
    }


def test_counters_are_cumulative_sums_and_gauges_gauges(collector):
    made = pusher(collector.port)
    made.start()
    eventually(lambda: collector.pushes, "a push")
    made.stop()
    metrics = {metric.name: metric for metric in collector.metrics()}
    read = metrics["forebay_readings_read_total"]
    assert read.sum.is_monotonic
    assert read.sum.aggregation_temporality == 2  # AGGREGATION_TEMPORALITY_CUMULATIVE
    assert read.description == "Readings read."
    assert metrics["forebay_spool_bytes"].WhichOneof("data") == "gauge"


def test_a_receiver_is_pushed_under_its_own_name(collector):
    made = pusher(collector.port)
    facts = {"center": "dc-1", "version": "1.2.3", "uptime_s": 5.0, "gateways": {"gw-1": {}}, "stored_batches": 7,
             "process": {"rss_bytes": 4096, "cpu_s": 0.5}}  # fmt: skip
    made._house.kind, made._house.facts = "receiver", lambda: facts  # type: ignore[method-assign]
    made.start()
    eventually(lambda: collector.pushes, "a push")
    made.stop()
    assert collector.values()["forebay_receiver_batches_stored_total", ()] == 7
    assert collector.resource()["service.instance.id"] == "dc-1"


def test_a_path_of_ones_own_is_kept(collector):
    made = pusher(collector.port, endpoint=f"http://127.0.0.1:{collector.port}/otlp/metrics")
    made.start()
    eventually(lambda: collector.pushes, "a push")
    made.stop()
    assert collector.paths[0] == "/otlp/metrics"


# -- when it cannot be pushed -------------------------------------------------------------------------------


def test_a_collector_that_is_down_is_said_once_and_pushing_goes_on_when_it_is_back(caplog):
    needs_otel()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    caplog.set_level(logging.INFO, logger="forebay.web")
    made = pusher(port, timeout_s=0.2)
    made.start()
    try:
        eventually(lambda: "not taken" in caplog.text, "a word of the failure")
        time.sleep(0.5)
        collector = Collector(port)
        eventually(lambda: collector.pushes, "a push after all")
        eventually(lambda: "taken again" in caplog.text, "a word of the recovery")
        collector.close()
    finally:
        made.stop()
    told = [r for r in caplog.records if "not taken" in r.getMessage()]
    assert len(told) == 1
    assert not [r for r in caplog.records if r.name.startswith("opentelemetry")]


@pytest.mark.parametrize("status", [400, 401, 503])
def test_a_collector_that_refuses_costs_no_more_than_a_line(collector, caplog, status):
    collector.status = status
    made = pusher(collector.port, timeout_s=0.3)
    made.start()
    eventually(lambda: "not taken" in caplog.text, "a word of the failure")
    collector.status = 200
    eventually(lambda: collector.pushes, "a push after all")
    made.stop()


def test_a_failure_of_the_house_does_not_end_the_pushing(collector, caplog):
    made = pusher(collector.port)
    good, calls = made._house.facts, iter(range(1_000_000))

    def facts():
        if next(calls) == 0:
            raise RuntimeError("13800138000")
        return good()

    made._house.facts = facts  # type: ignore[method-assign]
    made.start()
    eventually(lambda: collector.pushes, "a push after all")
    made.stop()
    assert "unexpected RuntimeError" in caplog.text
    assert "13800138000" not in caplog.text


def test_stopping_does_not_wait_for_a_collector_that_hangs():
    needs_otel()
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        made = pusher(hanging.getsockname()[1], timeout_s=50.0)
        made.start()
        time.sleep(0.5)
        begun = time.monotonic()
        made.stop()
        assert time.monotonic() - begun < 20, "two seconds and a busy machine"


# -- configuration ------------------------------------------------------------------------------------------


def test_without_the_extra_there_is_a_hint_and_nothing_else_is_touched(monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtra, match="OpenTelemetry") as caught:
        pusher(1)
    assert "forebay[otel]" in caught.value.hint


def test_check_says_which_extra_is_missing_and_where(tmp_path: Path, monkeypatch, capsys):
    file = tmp_path / "agent.yaml"
    file.write_text(AGENT % "{page: false, otlp: {endpoint: 'http://c:4318'}}")
    monkeypatch.setattr("forebay.preflight.is_installed", lambda name: False)
    assert run(["check", str(file)]) == 2
    told = capsys.readouterr().out
    assert "agent.yaml:5:" in told
    assert "pip install 'forebay[otel]'" in told
    monkeypatch.setattr("forebay.preflight.is_installed", lambda name: True)
    assert run(["check", str(file)]) == 0


def test_check_knows_the_extras_of_sources_and_page(tmp_path: Path, monkeypatch):
    file = tmp_path / "agent.yaml"
    file.write_text(
        "gateway: {id: g}\nweb: {}\nsources:\n"
        "  a: {type: mqtt, broker: 'mqtt://h', topics: [t]}\n"
        "  b: {type: modbus, host: h, registers: [{name: x, address: 0}]}\n"
        "  c: {type: file, path: photos, format: images}\n"
        "  d: {type: file, path: d.csv}\n"
        "pipelines: {a: {source: a}, b: {source: b}, c: {source: c}, d: {source: d}}\n"
    )
    monkeypatch.setattr("forebay.preflight.is_installed", lambda name: False)
    found = {f.path: f.hint for f in missing_extras(load_agent(file))}
    extras = {path: hint.split("[")[1].split("]")[0] for path, hint in found.items()}
    assert extras == {"web": "web", "sources.a": "mqtt", "sources.b": "industrial", "sources.c": "vision"}


def test_headers_are_references_that_check_can_follow(tmp_path: Path):
    file = tmp_path / "agent.yaml"
    file.write_text(
        AGENT % "{otlp: {endpoint: 'http://c:4318', headers: {Authorization: 'env:COLLECTOR_TOKEN'}}}"
    )
    loaded = load_agent(file)
    assert (("web", "otlp", "headers", "Authorization"), "env:COLLECTOR_TOKEN") in list(
        secrets_of(loaded.config)
    )
    (warning,) = [w for w in loaded.warnings if "unencrypted" in w.message]
    assert warning.path == "web.otlp.endpoint"


@pytest.mark.parametrize(
    ("web", "says"),
    [
        ("{page: false}", "nothing to do"),
        ("{otlp: {endpoint: 'ftp://c'}}", "http://HOST"),
        ("{otlp: {endpoint: 'http://user:secret@c'}}", "without a name or password"),
        ("{otlp: {endpoint: 'http://c', headers: {Authorization: Bearer 123}}}", "reference"),
        ("{otlp: {endpoint: 'http://c', headers: {'a b': 'env:X'}}}", "headers"),
        ("{otlp: {endpoint: 'http://c', interval: 10ms}}", "1s"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, web, says):
    file = tmp_path / "agent.yaml"
    file.write_text(AGENT % web)
    with pytest.raises(ConfigErrors) as caught:
        load_agent(file)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value).replace("put the secret into a file", "")
