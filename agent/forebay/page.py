"""The agent as its page sees it, and the token that opens the page."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets as random_bytes
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay import secrets
from forebay.config.agent import WebOptions
from forebay.config.hidden import hidden
from forebay.errors import ForebayError
from forebay.log import Recent
from forebay.view import snapshot
from forebay.web import WebServer
from forebay.web.house import Tap

if TYPE_CHECKING:
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


def open_page(options: WebOptions, base: Path, agent: Agent, recent: Recent) -> WebServer:
    """Return the page of an agent, not yet started. Raises ForebayError."""
    host, _, port = options.listen.rpartition(":")
    token = page_token(options.token, base, agent.spool.folder / TOKEN_FILE)
    server = WebServer((host.strip("[]"), int(port)), token, AgentHouse(agent, recent))
    log.info("local page on http://%s:%d/ , token in %s", host, server.port, options.token or TOKEN_FILE)
    return server


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
