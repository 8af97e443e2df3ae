"""The agent itself as a source: its own health goes upstream as an ordinary stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from forebay.blocks import Grade
from forebay.config.fields import FieldOptions
from forebay.config.sources_live import AgentOptions
from forebay.errors import ConfigError
from forebay.sources.context import SourceContext, Stopper, Ticks
from forebay.sources.polled import PolledRows
from forebay.stages import Chunk, Emit
from forebay.telemetry import Figure, agent_row, model_rows, stream_rows

_FIRST_S = 5.0  # a restart is told soon, but not before the link had time to come up


_ABOUT: dict[str, Callable[[dict[str, Any]], list[list[Figure]]]] = {
    "agent": lambda facts: [agent_row(facts)],
    "streams": stream_rows,
    "models": model_rows,
}


class AgentSource:
    """Samples of the agent that this source runs in: one row, or one row a stream or model.

    Parameters
    ----------
    options : AgentOptions
    context : SourceContext
        With `facts`, else ConfigError is raised.
    """

    replayable = False

    def __init__(self, options: AgentOptions, context: SourceContext) -> None:
        if context.facts is None:
            raise ConfigError(
                "there is no running agent to tell of",
                place=f"sources.{context.name}",
                hint="replay a recording of this stream in place of it",
            )
        self._options, self._clock, self._facts = options, context.clock, context.facts
        self._stop = Stopper()
        # Names of streams and models are words of the configuration: declared, so that a default-deny policy lets
        # them through.
        named = FieldOptions(grade=Grade.GENERAL)
        fields = {"about": named, "model": named, **context.fields}
        self._rows = PolledRows(replace(context, fields=fields), "" if options.about == "agent" else "about")

    def run(self, emit: Emit, position: bytes | None) -> None:
        """See stages.Source."""
        ticks = Ticks(self._clock, self._options.every)
        left = min(_FIRST_S, ticks.seconds_left())
        while not self._stop.wait(left):
            now, facts = self._clock.wall_ns(), self._facts()
            figures = _ABOUT[self._options.about](facts)
            for row in figures:
                for figure in row:
                    self._rows.add(figure.name, figure.type, figure.unit, figure.description)
            if figures:
                rows = [{figure.name: figure.value for figure in row} for row in figures]
                block = self._rows.block([now] * len(rows), rows)
                if not emit(Chunk([block], nbytes=block.nbytes)):
                    return
            left = ticks.seconds_left()

    def stop(self) -> None:
        """See stages.Source."""
        self._stop.set()
