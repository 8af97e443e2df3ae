"""What the audit log says of models: which one serves a step since when, and what was decided of candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from forebay.infer.trial import Trial
from forebay.stages import Step, Tally


class ModelNotes:
    """Tells, commit by commit, what changed about the models of a pipeline's steps.

    The notes go into the audit log's chain in the transaction of the rows that they concern: stream, step and
    `model:serves NAME@VERSION#HASH`, `model:promoted ...`, `model:rejected ...` with the bound that was passed.
    What a swap by reload or a rollback brings shows as the next `serves`.
    """

    def __init__(self, stream: str, steps: Sequence[Step]) -> None:
        self._stream = stream
        self._steps: list[Any] = [step for step in steps if getattr(step, "model", "")]
        self._told = [""] * len(self._steps)

    def take_tally(self) -> Tally:
        """Return and forget what happened since the last call."""
        tally: Tally = Counter()
        for place, step in enumerate(self._steps):
            trial: Trial | None = getattr(step, "trial", None)
            if trial is not None and trial.decisions:
                for decision in trial.decisions:
                    tally[self._stream, step.name, f"model:{decision}"] += 1
                trial.decisions.clear()
            if step.model != self._told[place]:
                self._told[place] = step.model
                tally[self._stream, step.name, f"model:serves {step.model}"] += 1
        return tally
