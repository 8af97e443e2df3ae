"""An OpenTelemetry collector of the tests: takes OTLP over HTTP and decodes it with the project's own messages."""

from __future__ import annotations

import gzip
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Sample = tuple[str, tuple[tuple[str, str], ...]]


class Collector:
    """Listens on a port of its own. `pushes` are what came, `status` is what it answers."""

    def __init__(self, port: int = 0) -> None:
        self.pushes: list[Any] = []
        self.headers: list[Message] = []
        self.paths: list[str] = []
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
                    ExportMetricsServiceRequest,
                )

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append(self.headers)
                collector.paths.append(self.path)
                if collector.status == 200:
                    collector.pushes.append(ExportMetricsServiceRequest.FromString(body))
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Let go of the port."""
        self._server.shutdown()
        self._server.server_close()

    def values(self) -> dict[Sample, float]:
        """Return name and labels of each point of the last push, with its value."""
        return {
            (metric.name, tuple(sorted((a.key, a.value.string_value) for a in point.attributes))): float(
                getattr(point, point.WhichOneof("value"))
            )
            for metric in self.metrics()
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        }

    def metrics(self) -> list[Any]:
        """Return the metrics of the last push."""
        return [m for r in self.pushes[-1].resource_metrics for s in r.scope_metrics for m in s.metrics]

    def resource(self) -> dict[str, str]:
        """Return who the last push was from."""
        return {a.key: a.value.string_value for a in self.pushes[-1].resource_metrics[0].resource.attributes}
