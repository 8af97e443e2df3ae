"""Agent and receiver as their pages see them, the start of what `web` asks for, the token that opens a page."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets as random_bytes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from forebay import __version__, secrets
from forebay.clock import SystemClock
from forebay.config.agent import OtlpOptions, WebOptions
from forebay.config.hidden import hidden
from forebay.config.loader import LoadedConfig
from forebay.errors import ForebayError
from forebay.log import Recent
from forebay.telemetry import process_facts
from forebay.view import snapshot
from forebay.web import OtlpPlan, OtlpPusher, WebServer
from forebay.web.house import House, Tap

if TYPE_CHECKING:
    from forebay.config.receiver import ReceiverConfig
    from forebay.receive.server import Server
    from forebay.runtime import Agent

log = logging.getLogger("forebay.web")

TOKEN_FILE = "web.token"


class AgentHouse:
    """See web.house.House."""

    kind = "agent"

    def __init__(self, agent: Agent, recent: Recent) -> None:
        self._agent, self._recent = agent, recent

    def facts(self) -> dict[str, Any]:
        """See web.house.House."""
        return snapshot(self._agent, self._recent)

    def settings(self) -> Any:
        """See web.house.House."""
        return hidden(self._agent.loaded.config.model_dump(mode="json"))

    def troubles(self) -> list[str]:
        """See web.house.House."""
        facts = self.facts()
        out = [f"safe mode: {facts['config']['safe_mode']}"] if facts["config"]["safe_mode"] else []
        if facts["spool"]["state"] != "ok":
            out.append(f"spool is {facts['spool']['state']}: {facts['spool']['detail']}")
        if facts["link"]["state"] not in ("up", "none"):
            out.append(f"link is {facts['link']['state']}: {facts['link']['reason']}")
        return out + [
            f"pipeline {name}: {p['trouble']}" for name, p in facts["pipelines"].items() if p["trouble"]
        ]

    def watch(self, tap: Tap) -> Callable[[], None]:
        """See web.house.House."""
        return self._agent.watch_blocks(tap)


class ReceiverHouse:
    """See web.house.House."""

    kind = "receiver"

    def __init__(self, loaded: LoadedConfig[ReceiverConfig], server: Server, recent: Recent) -> None:
        self._loaded, self._server, self._recent = loaded, server, recent
        self._clock = SystemClock()
        self._started_ns = self._clock.monotonic_ns()

    def facts(self) -> dict[str, Any]:
        """See web.house.House."""
        now, desk = self._clock.monotonic_ns(), self._server.desk
        return {
            "kind": self.kind,
            "center": self._loaded.config.center.id,
            "version": __version__,
            "endpoint": self._server.endpoint,
            "uptime_s": round((now - self._started_ns) / 1e9, 3),
            "process": process_facts(),
            "stored_batches": desk.stored_batches,
            "held_batches": desk.held_batches,
            "gateways": {
                name: {"heard_s": round((now - h.last_ns) / 1e9, 1), "agent": h.agent, "batches": h.batches}
                for name, h in sorted(desk.heard.copy().items())
            },
            "sinks": {name: options.type for name, options in self._loaded.config.sinks.items()},
            "troubles": self._recent.entries(),
        }

    def settings(self) -> Any:
        """See web.house.House."""
        return hidden(self._loaded.config.model_dump(mode="json"))

    def troubles(self) -> list[str]:
        """See web.house.House."""
        held = self._server.desk.held_batches
        return [f"{held} batches wait on their gateways for an older policy"] if held else []

    def watch(self, tap: Tap) -> Callable[[], None]:
        """See web.house.House."""
        return lambda: None


class Part(Protocol):
    """What runs beside the road: a page, a pusher of metrics."""

    def start(self) -> None:
        """Start its threads."""

    def stop(self) -> None:
        """End them."""


def start_receiver_web(loaded: LoadedConfig[ReceiverConfig], server: Server, recent: Recent) -> list[Part]:
    """Start what a receiver's section `web` asks for; return what was started. Batches are taken without it, too."""
    # A service cannot write beside its configuration.
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    folder = Path(state) if state else loaded.base
    return _start(loaded, loaded.config.web, ReceiverHouse(loaded, server, recent), folder)


def start_agent_web(agent: Agent, recent: Recent) -> list[Part]:
    """Start what an agent's section `web` asks for; return what was started. Data flows without it, too."""
    return _start(agent.loaded, agent.loaded.config.web, AgentHouse(agent, recent), agent.spool.folder)


def _start(loaded: LoadedConfig[Any], options: WebOptions | None, house: House, folder: Path) -> list[Part]:
    makers: list[tuple[str, Callable[[], Part]]] = []
    if options is not None and options.page:
        makers.append(("local page", partial(_page, options, loaded.base, folder / TOKEN_FILE, house)))
    if options is not None and options.otlp is not None:
        makers.append(("push of metrics", partial(_pusher, loaded, options.otlp, house)))
    parts = []
    for what, make in makers:
        try:
            part = make()
        except (ForebayError, OSError) as error:
            log.error(
                "a part of `web` is off, no %s: %s",
                what,
                error if isinstance(error, ForebayError) else error.strerror,
            )
            continue
        part.start()
        parts.append(part)
    return parts


def _page(options: WebOptions, base: Path, token_file: Path, house: House) -> Part:
    host, _, port = options.listen.rpartition(":")
    token = page_token(options.token, base, token_file)
    server = WebServer((host.strip("[]"), int(port)), token, house)
    log.info("local page on http://%s:%d/ , token in %s", host, server.port, options.token or token_file)
    return server


def _pusher(loaded: LoadedConfig[Any], options: OtlpOptions, house: House) -> Part:
    headers = {
        name: secrets.resolve(reference, loaded.base).decode("utf-8", "replace")
        for name, reference in options.headers.items()
    }
    ca = str(loaded.resolve(options.ca)) if options.ca else None
    plan = OtlpPlan(options.endpoint, options.interval / 1e9, options.timeout / 1e9, headers, ca)
    return OtlpPusher(plan, house)


def page_token(reference: str | None, base: Path, file: Path) -> str:
    """Return the token configured, else one of our own, made once and kept in `file`, mode 0600."""
    if reference is not None:
        return secrets.resolve(reference, base).decode("utf-8", "replace")
    with contextlib.suppress(ForebayError):
        return secrets.resolve(f"file:{file}").decode("ascii", "replace")
    token = random_bytes.token_urlsafe(24)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(token + "\n")
    return token
