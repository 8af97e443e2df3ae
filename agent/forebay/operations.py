"""What the local socket offers: status, reload, tap."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from forebay.blocks import Block
from forebay.config.loader import LoadedConfig, load_agent
from forebay.control.server import ControlServer
from forebay.errors import ForebayError
from forebay.log import Recent
from forebay.rows import rows
from forebay.view import snapshot

if TYPE_CHECKING:
    from forebay.config.agent import AgentConfig
    from forebay.runtime import Agent

TAP_BLOCKS = 16  # what a slow looker may hold back; more is left out, the road does not wait for it
TAP_PAUSE_S = 0.5


class Operations:
    """The operations of one agent."""

    def __init__(self, agent: Agent, recent: Recent) -> None:
        self._agent, self._recent = agent, recent
        self._server = ControlServer(
            agent.spool.folder, {"status": self._status, "reload": self._reload, "tap": self._tap}
        )

    def start(self) -> None:
        """Start to answer."""
        self._server.start()

    def stop(self) -> None:
        """Stop to answer."""
        self._server.stop()

    def _load(self) -> LoadedConfig[AgentConfig]:
        return load_agent(self._agent.loaded.path)

    def _status(self, _request: dict[str, Any]) -> Iterator[Any]:
        yield snapshot(self._agent, self._recent)

    def _reload(self, _request: dict[str, Any]) -> Iterator[Any]:
        yield self._agent.reload(self._load).as_dict()

    def _tap(self, request: dict[str, Any]) -> Iterator[Any]:
        """Yield rows of a pipeline as they go to the spool: masked and guarded."""
        wanted, units = request.get("pipeline"), self._agent.units
        if wanted is not None and wanted not in units:
            raise ForebayError(f"there is no pipeline of that name; there are: {', '.join(units)}")
        blocks: queue.Queue[Block] = queue.Queue(TAP_BLOCKS)

        def take(block: Block) -> None:
            if not blocks.full():
                blocks.put_nowait(block)

        release = self._agent.watch_blocks(take, wanted)
        try:
            while not self._server.stopping.is_set():
                try:
                    block = blocks.get(timeout=TAP_PAUSE_S)
                except queue.Empty:
                    yield None  # finds out whether the looker is still there
                    continue
                for row in rows(block):
                    yield {"stream": block.stream, **row}
        finally:
            release()
