"""The web server: waitress with two threads, a handful of addresses, GET only."""

from __future__ import annotations

import hmac
import json
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from forebay.errors import ConfigError, MissingExtra
from forebay.telemetry import metrics_of
from forebay.web.house import House
from forebay.web.metrics import CONTENT_TYPE, render
from forebay.web.values import RecentAlarms, RecentValues

log = logging.getLogger("forebay.web")

STATIC = Path(__file__).parent / "static"
PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/draw.js": ("draw.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
THREADS = 2
MOST_CONNECTIONS = 20
IDLE_CONNECTION_S = 30
MAX_REQUEST_BYTES = 16 * 1024
LOOK_S = 5.0


class Answer(NamedTuple):
    """Status, media type, body."""

    status: str
    kind: str
    body: bytes


def _json(value: Any, status: str = "200 OK") -> Answer:
    return Answer(status, "application/json", json.dumps(value, ensure_ascii=False, default=str).encode())


class WebServer:
    """Serves one house. `start`, then `stop`."""

    def __init__(self, address: tuple[str, int], token: str, house: House) -> None:
        self._token, self._house = token.encode(), house
        self._values, self._alarms = RecentValues(house.watch), RecentAlarms(house.watch)
        self._routes: dict[str, Callable[[], Answer]] = {
            "/api/facts": lambda: _json(house.facts()),
            "/api/series": self._series,
            "/api/still": self._still,
            "/api/alarms": lambda: _json(self._alarms.alarms()),
            "/api/config": lambda: _json(house.settings()),
            "/metrics": self._metrics,
        }
        self._stopping = threading.Event()
        self._server = self._listen(address)
        self.port = int(self._server.effective_port)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._idler = threading.Thread(target=self._watch_idle, name="web-idle", daemon=True)

    def _listen(self, address: tuple[str, int]) -> Any:
        try:
            from waitress.server import create_server
        except ImportError:
            raise MissingExtra("the local page", "web") from None
        logging.getLogger("waitress").setLevel(logging.ERROR)
        try:
            return create_server(
                self.application,
                host=address[0],
                port=address[1],
                threads=THREADS,
                connection_limit=MOST_CONNECTIONS,
                channel_timeout=IDLE_CONNECTION_S,
                max_request_body_size=MAX_REQUEST_BYTES,
                max_request_header_size=MAX_REQUEST_BYTES,
                ident=None,
                clear_untrusted_proxy_headers=True,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen: {error.strerror}", place=f"web.listen {address[0]}:{address[1]}"
            ) from None

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()
        self._idler.start()

    def stop(self) -> None:
        """Stop listening; connections are cut."""
        self._stopping.set()
        self._server.close()
        for channel in list(self._server._map.values()):
            channel.close()
        self._server.task_dispatcher.shutdown()
        if self._thread.ident is not None:
            self._thread.join(5.0)
        self._values.close()
        self._alarms.close()

    def _run(self) -> None:
        try:
            self._server.run()
        except Exception:
            if not self._stopping.is_set():
                log.exception("the local page has ended")

    def _watch_idle(self) -> None:
        while not self._stopping.wait(LOOK_S):
            self._values.sleep_if_idle()

    # -- requests -------------------------------------------------------------------------------------------

    def application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        answer = self._answer(environ)
        head = [("Content-Type", answer.kind), ("Content-Length", str(len(answer.body))), *HEADERS]
        if answer.status.startswith("401"):
            head.append(("WWW-Authenticate", "Bearer"))
        start_response(answer.status, head)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _json({"error": "only GET"}, "405 Method Not Allowed")
        path = environ.get("PATH_INFO", "")
        if path in PAGES:
            name, kind = PAGES[path]
            return Answer("200 OK", kind, (STATIC / name).read_bytes())
        try:
            if path in ("/healthz", "/readyz"):
                return self._health(path)
            if path not in self._routes:
                return _json({"error": "no such page"}, "404 Not Found")
            if not self._may(environ.get("HTTP_AUTHORIZATION", "")):
                return _json({"error": "expected `Authorization: Bearer TOKEN`"}, "401 Unauthorized")
            return self._routes[path]()
        except Exception:
            log.exception("a request to the local page failed")
            return _json({"error": "failed, see the log"}, "500 Internal Server Error")

    def _may(self, given: str) -> bool:
        kind, _, token = given.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(
            token.strip().encode("utf-8", "replace"), self._token
        )

    def _health(self, path: str) -> Answer:
        """Healthy: it moves. Ready: it also takes and delivers; the reasons say what does not."""
        stuck = self._house.facts().get("stuck", "")
        reasons = [stuck] if stuck else [] if path == "/healthz" else self._house.troubles()
        status = "503 Service Unavailable" if reasons else "200 OK"
        return _json({"ok": not reasons, "reasons": reasons}, status)

    def _series(self) -> Answer:
        self._values.wake()
        return _json(self._values.series())

    def _still(self) -> Answer:
        self._values.wake()
        still = self._values.still()
        return (
            Answer("204 No Content", "text/plain", b"")
            if still is None
            else Answer("200 OK", still[2], still[1])
        )

    def _metrics(self) -> Answer:
        body = render(metrics_of(self._house.kind, self._house.facts()))
        return Answer("200 OK", CONTENT_TYPE, body.encode())
