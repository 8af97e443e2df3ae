"""The local page, metrics and health of an agent or a receiver. Off unless configured; waitress serves it.

Metrics may also be pushed to an OpenTelemetry collector.

Open to everybody who reaches the port: `/`, the page without any facts, `/healthz` and `/readyz`. Everything else
asks for the token, as `Authorization: Bearer TOKEN`; the page takes it from behind the `#` of its address, which
a browser never sends and no log holds.
"""

from forebay.web.house import House
from forebay.web.otlp import OtlpPlan, OtlpPusher
from forebay.web.server import WebServer

__all__ = ["House", "OtlpPlan", "OtlpPusher", "WebServer"]
