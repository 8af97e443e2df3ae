"""What the audit log and the ledger say of models: which one serves, what it gave, what was decided of candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from forebay.infer.trial import Trial
from forebay.stages import LedgerCounts, Step, Tally

GAVE, FAILED = "gave", "failed"  # rows, windows or pictures with a result; those on which the model failed
KIND = "model"  # of the ledger's entries

Results = Counter[tuple[str, str]]
"""By event (GAVE, FAILED) and model; each step counts its own, until somebody takes them."""


class ModelNotes:
    """Tells, commit by commit, what happened about the models of a pipeline's steps.

    The notes go into the audit log's chain in the transaction of the rows that they concern: stream, step and
    `model:serves NAME@VERSION#HASH`, `model:promoted ...`, `model:rejected ...` with the bound that was passed.
    What a swap by reload or a rollback brings shows as the next `serves`. The same transaction counts in the ledger,
    by stream and under the kind `model`: `EVENT NAME@VERSION#HASH`.
    """

    def __init__(self, stream: str, steps: Sequence[Step]) -> None:
        self._stream = stream
        self._steps: list[Any] = [step for step in steps if getattr(step, "model", "")]
        self._told = [""] * len(self._steps)
        self._notes: Tally = Counter()
        self._counts: LedgerCounts = Counter()

    def take_tally(self) -> Tally:
        """Return and forget the notes since the last call."""
        self._look()
        notes, self._notes = self._notes, Counter()
        return notes

    def take_counts(self) -> LedgerCounts:
        """Return and forget the counts since the last call."""
        self._look()
        counts, self._counts = self._counts, Counter()
        return counts

    def _look(self) -> None:
        for place, step in enumerate(self._steps):
            trial: Trial | None = getattr(step, "trial", None)
            for event, model, text in trial.decisions if trial is not None else ():
                self._notes[self._stream, step.name, f"model:{text}"] += 1
                self._count(event, model)
            if trial is not None:
                trial.decisions.clear()
            if step.model != self._told[place]:
                self._told[place] = step.model
                self._notes[self._stream, step.name, f"model:serves {step.model}"] += 1
                self._count("serves", step.model)
            for (event, model), n in step.results.items():
                self._count(event, model, n)
            step.results.clear()

    def _count(self, event: str, model: str, n: int = 1) -> None:
        self._counts[self._stream, KIND, f"{event} {model}"] += n
