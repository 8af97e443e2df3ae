"""A candidate beside the model in use: the same input, results that go nowhere, a report, and a gate.

The candidate runs in the pipeline's own thread after the incumbent, so nothing is copied, queued or lost; its time
limit and the latency ratio bound what it may cost. Its results never reach the stream until it is promoted; then it
takes the incumbent's place between two blocks, and no row is lost or doubled. What was decided is part of the
step's state, so it is durable with the rows that it concerns.
"""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack
import numpy as np
import numpy.typing as npt

from forebay.blocks import Block
from forebay.clock import Clock
from forebay.config.models import PromoteOptions
from forebay.errors import ForebayError
from forebay.infer.trial import PROMOTED, RUNNING, Seen, Trial


class ScoreStep(Protocol):
    """A step that adds its score, 0 to 1, as the last column of a block."""

    name: str
    model: str
    failures: int

    def process(self, block: Block) -> list[Block]:
        """Return the block with the score."""

    def flush(self) -> list[Block]:
        """See forebay.stages.Step."""

    def state(self) -> bytes:
        """Return a msgpack map; keys that the step does not know are passed over by `restore`."""

    def restore(self, state: bytes) -> None:
        """See forebay.stages.Step."""


@dataclass(slots=True)
class Comparison(Seen):
    """What was seen of both. `compared`: rows of which both gave a score."""

    compared: int = 0
    difference: float = 0.0

    def add(self, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> None:
        """Take in the scores of the same rows, NaN where there is none."""
        both = ~(np.isnan(a) | np.isnan(b))
        a, b = a[both], b[both]
        self.compared += len(a)
        self.difference += float(np.abs(a - b).sum())
        self.add_scores(a, b)

    def tried(self) -> int:
        """See Seen."""
        return self.compared + self.failed

    def over(self, gate: PromoteOptions) -> list[str]:
        """See Seen."""
        over = Seen.over(self, gate)
        if self.compared < gate.min_rows:
            over.append(f"compared {self.compared} < {gate.min_rows} rows")
        return over

    def facts(self) -> dict[str, Any]:
        """See Seen."""
        return {
            **Seen.facts(self),
            "compared": self.compared,
            "mean_abs_difference": round(self.difference / max(1, self.compared), 4),
        }


class ShadowStep:
    """A step with a candidate in its shadow.

    Parameters
    ----------
    incumbent, candidate : built alike, of different models
    clock : measures the shadow run and the latencies
    gate : when and under which bounds the candidate takes over; None: it only is reported
    key, share : field that tells devices apart, and the share of devices that the candidate sees

    Attributes
    ----------
    trial : how the run stands
    """

    def __init__(
        self,
        incumbent: ScoreStep,
        candidate: ScoreStep,
        clock: Clock,
        *,
        gate: PromoteOptions | None = None,
        key: str = "",
        share: float = 1.0,
    ) -> None:
        self.name = incumbent.name
        self._seen = Comparison()
        self.trial = Trial(self.name, (incumbent.model, candidate.model), self._seen, gate, clock)
        self._incumbent, self._candidate = incumbent, candidate
        self._clock, self._key, self._share = clock, key, share

    @property
    def models(self) -> tuple[str, str]:
        """The incumbent and the candidate."""
        return self.trial.models

    @property
    def model(self) -> str:
        """The model whose results go out."""
        return self.trial.model

    @property
    def _serving(self) -> ScoreStep:
        return self._candidate if self.trial.phase == PROMOTED else self._incumbent

    def process(self, block: Block) -> list[Block]:
        """Return the serving model's blocks."""
        begun = self._clock.monotonic_ns()
        out = self._serving.process(block)
        if self.trial.phase == RUNNING and block.rows:
            taken = self._clock.monotonic_ns() - begun
            try:
                self._compare(block, out, taken)
            except Exception as error:  # noqa: BLE001 - the candidate must never cost the stream
                self.trial.failed(block.rows, type(error).__name__)
            self.trial.judge()
        return out

    def _compare(self, block: Block, out: list[Block], incumbent_ns: int) -> None:
        chosen = self._chosen(block)
        if not len(chosen) or len(out) != 1:
            return
        part = block if len(chosen) == block.rows else block.take(chosen)
        before, begun = self._candidate.failures, self.trial.begin()
        (made,) = self._candidate.process(part)
        seen = self._seen
        seen.candidate_ns += self._clock.monotonic_ns() - begun
        seen.incumbent_ns += incumbent_ns * len(chosen) // block.rows
        if self._candidate.failures > before:
            self.trial.failed(len(chosen), "")
            return
        self.trial.worked()
        seen.rows += len(chosen)
        seen.add(_scores(out[0])[chosen], _scores(made))

    def _chosen(self, block: Block) -> npt.NDArray[np.int64]:
        """Return the rows of the devices that the candidate sees: always the same ones, by their name's checksum."""
        index = block.schema.index(self._key) if self._key and self._share < 1 else -1
        if index < 0:
            return np.arange(block.rows)
        names = block.columns[index].to_list(block.schema.fields[index].type)
        wanted = {n: zlib.crc32(repr(n).encode()) < self._share * 2**32 for n in dict.fromkeys(names)}
        return np.flatnonzero(np.array([wanted[n] for n in names], dtype=bool))

    def report(self) -> dict[str, Any]:
        """Return how the shadow run stands: names and numbers only."""
        return self.trial.report()

    # -- state ----------------------------------------------------------------------------------------------

    def flush(self) -> list[Block]:
        """Return what the serving step holds."""
        return self._serving.flush()

    def state(self) -> bytes:
        """Return the serving step's state, which that step alone can restore too, with the shadow's beside it."""
        saved = msgpack.unpackb(self._serving.state(), strict_map_key=False)
        other = self._candidate.state() if self.trial.phase == RUNNING else b""
        saved["shadow"] = {**self.trial.dump(), "state": other}
        packed: bytes = msgpack.packb(saved)
        return packed

    def restore(self, state: bytes) -> None:
        """Go on where the state ends; another candidate starts its run afresh. Raises ForebayError."""
        try:
            saved = msgpack.unpackb(state, strict_map_key=False).get("shadow")
            other, trial = saved["state"] if saved is not None else b"", copy.copy(self.trial)
            ours = trial.load(saved)
        except (ValueError, KeyError, TypeError, AttributeError, msgpack.UnpackException) as error:
            raise ForebayError(
                f"the saved state is damaged: {type(error).__name__}", place=self.name
            ) from None
        (self._candidate if trial.phase == PROMOTED else self._incumbent).restore(state)
        if other and ours:
            self._candidate.restore(other)
        assert isinstance(trial.seen, Comparison)
        self.trial, self._seen = trial, trial.seen


def _scores(block: Block) -> npt.NDArray[np.float64]:
    """Return the last column, NaN where it is null."""
    column = block.columns[-1]
    scores = column.values.astype(np.float64)
    scores[column.is_null()] = np.nan
    return scores
