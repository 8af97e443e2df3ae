"""What the web room needs to know of the house it stands in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from forebay.blocks import Block

Tap = Callable[[Block], None]


class House(Protocol):
    """An agent or a receiver, as its page sees it. Called from the web server's threads."""

    kind: str  # `agent` or `receiver`

    def facts(self) -> dict[str, Any]:
        """Return the snapshot of now: names, counts and states."""

    def settings(self) -> Any:
        """Return the configuration in force, secrets hidden."""

    def troubles(self) -> list[str]:
        """Return why it is not ready, an empty list when it is."""

    def watch(self, tap: Tap) -> Callable[[], None]:
        """Let `tap` see each block that goes to the spool, masked; return how to end that."""
