"""Pushes metrics to an OpenTelemetry collector: OTLP over HTTP, by the official SDK and exporter (extra `otel`).

The figures are those of `/metrics`, under the same names. A thread of its own looks, pushes, and forgets: a
collector that is down, slow or wrong costs a line in the log now and then, and nothing of the road.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from forebay.errors import MissingExtra
from forebay.telemetry import Metric, metrics_of
from forebay.web.house import House

log = logging.getLogger("forebay.web")

PATH = "/v1/metrics"
END_S = 2.0


class OtlpPlan(NamedTuple):
    """Where to push, how often, what to send along."""

    endpoint: str
    interval_s: float
    timeout_s: float
    headers: Mapping[str, str]
    ca: str | None = None


class OtlpPusher:
    """Pushes one house's metrics. `start`, then `stop`.

    Raises
    ------
    MissingExtra
        The libraries are not installed.
    """

    def __init__(self, plan: OtlpPlan, house: House) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http import Compression
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        except ImportError:
            raise MissingExtra("OpenTelemetry", "otel") from None
        # It logs each try, with what the collector answered: we say in our own words that a push failed.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._plan, self._house = plan, house
        self._endpoint = plan.endpoint + ("" if urlsplit(plan.endpoint).path.strip("/") else PATH)
        self._exporter = OTLPMetricExporter(
            endpoint=self._endpoint,
            headers=dict(plan.headers),
            timeout=plan.timeout_s,
            certificate_file=plan.ca,
            compression=Compression.Gzip,
        )
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        log.info("metrics are pushed to %s", self._endpoint)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, a push that waits included."""
        self._stopping.set()
        self._exporter.shutdown()
        if self._thread.ident is not None:
            self._thread.join(END_S)

    def _run(self) -> None:
        while not self._stopping.wait(self._plan.interval_s):
            self._push()

    def _push(self) -> None:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        try:
            facts = self._house.facts()
            told = self._exporter.export(as_data(facts, metrics_of(self._house.kind, facts)))
            failed = "" if told is MetricExportResult.SUCCESS else "no answer, or a refusal"
        except Exception as error:  # noqa: BLE001 - a library's fault must not end the telling
            failed = f"unexpected {type(error).__name__}"
        if failed and not self._failing and not self._stopping.is_set():
            log.warning("metrics are not taken, the next ones will be tried endpoint=%s: %s",
                        self._endpoint, failed)  # fmt: skip
        elif self._failing and not failed:
            log.info("metrics are taken again endpoint=%s", self._endpoint)
        self._failing = bool(failed)


def as_data(facts: Mapping[str, Any], metrics: Iterable[Metric]) -> Any:
    """Return metrics as OpenTelemetry's own data.

    Sums are cumulative. Their start is left open: the ledger is older than this process.
    """
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Gauge,
        MetricsData,
        NumberDataPoint,
        ResourceMetrics,
        ScopeMetrics,
        Sum,
    )
    from opentelemetry.sdk.metrics.export import Metric as OtelMetric
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    now, version = time.time_ns(), str(facts["version"])
    made = []
    for metric in metrics:
        points = [NumberDataPoint(dict(labels), 0, now, value) for labels, value in metric.samples]
        if metric.kind == "counter":
            data: Any = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
        else:
            data = Gauge(points)
        if points:
            made.append(OtelMetric(metric.name, metric.help, "", data))
    who = str(facts.get("gateway") or facts["center"])
    resource = Resource(
        {"service.name": "forebay", "service.instance.id": who, "service.version": version}
        | ({"forebay.site": str(facts["site"])} if facts.get("site") else {})
    )
    scope = ScopeMetrics(InstrumentationScope("forebay", version), made, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])
