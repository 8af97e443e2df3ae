"""A candidate beside the model in use: the same input, results that go nowhere, a report, and a gate.

The candidate runs in the pipeline's own thread after the incumbent, so nothing is copied, queued or lost; its time
limit and the latency ratio bound what it may cost. Its results never reach the stream until it is promoted; then it
takes the incumbent's place between two blocks, and no row is lost or doubled. On probation the incumbent runs on
beside it: on a block on which the candidate fails the incumbent's scores go out, and if the candidate is rolled back
the incumbent's thresholds are those of today. What was decided is part of the step's state, so it is durable with
the rows that it concerns. The model that lost is let go at once, with its memory.
"""

from __future__ import annotations

import copy
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack
import numpy as np
import numpy.typing as npt

from forebay.blocks import Block
from forebay.clock import Clock
from forebay.config.models import PromoteOptions
from forebay.errors import ForebayError
from forebay.infer.notes import Results
from forebay.infer.trial import PROBATION, Seen, Trial
from forebay.memory import release_free_heap

MUTE = 10  # times `min_rows` and `after`; one that has not given enough scores to judge by then is set aside


class ScoreStep(Protocol):
    """A step that adds its score, 0 to 1, as the last column of a block."""

    name: str
    model: str
    failures: int
    results: Results

    def process(self, block: Block) -> list[Block]:
        """Return the block with the score."""

    def report(self) -> dict[str, Any]:
        """Return names and numbers, never a data value."""

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

    def is_enough(self, gate: PromoteOptions) -> bool:
        """See Seen. Rows that came while a series was calibrated prove nothing."""
        return self.tried() >= gate.min_rows or self._is_mute(gate)

    def _is_mute(self, gate: PromoteOptions) -> bool:
        is_over = self.rows >= MUTE * gate.min_rows and self.elapsed_ns >= MUTE * gate.after
        return is_over and self.compared < gate.min_rows

    def over(self, gate: PromoteOptions) -> list[str]:
        """See Seen."""
        over = Seen.over(self, gate)
        if self._is_mute(gate):
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
    results : of the models that served, see infer.notes
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
        self.results: Results = Counter()
        self.trial = Trial(self.name, (incumbent.model, candidate.model), Comparison(), gate, clock)
        self._incumbent: ScoreStep | None = incumbent
        self._candidate: ScoreStep | None = candidate
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
        serving = self._candidate if self.trial.candidate_serves else self._incumbent
        assert serving is not None
        return serving

    @property
    def _standby(self) -> ScoreStep | None:
        """The one whose results do not go out, None once that is decided for good."""
        return self._incumbent if self.trial.candidate_serves else self._candidate

    def _both(self) -> tuple[ScoreStep, ScoreStep]:
        assert self._incumbent is not None
        assert self._candidate is not None
        return self._incumbent, self._candidate

    def _let_go(self) -> None:
        """Forget the model that will not be asked again: its memory goes back to the kernel."""
        if self.trial.both_run or self._standby is None:
            return
        if self.trial.candidate_serves:
            self._incumbent = None
        else:
            self._candidate = None
        release_free_heap()

    def process(self, block: Block) -> list[Block]:
        """Return the serving model's blocks."""
        if not block.rows or not self.trial.both_run:
            serving = self._serving
            out = serving.process(block)
        elif self.trial.phase == PROBATION:
            out, serving = self._on_probation(block)
        else:
            serving, begun = self._serving, self._clock.monotonic_ns()
            out = serving.process(block)
            taken = self._clock.monotonic_ns() - begun
            try:
                self._compare(block, out, taken)
            except Exception as error:  # noqa: BLE001 - the candidate must never cost the stream
                self.trial.failed(block.rows, type(error).__name__)
        self.results.update(serving.results)
        for step in (self._incumbent, self._candidate):
            if step is not None:
                step.results.clear()
        self.trial.judge()
        self._let_go()
        return out

    def _compare(self, block: Block, out: list[Block], incumbent_ns: int) -> None:
        """Run the candidate in the shadow."""
        chosen = self._chosen(block)
        if not len(chosen) or len(out) != 1:
            return
        self.trial.begin()
        part = block if len(chosen) == block.rows else block.take(chosen)
        made, taken = self._try_candidate(part)
        if made is not None:
            self._saw(len(chosen), incumbent_ns * len(chosen) // block.rows, taken)
            self._seen.add(_scores(out[0])[chosen], _scores(made))

    def _on_probation(self, block: Block) -> tuple[list[Block], ScoreStep]:
        """Return the candidate's block and the candidate; the incumbent's and it where the candidate fails."""
        self.trial.begin()
        incumbent, candidate = self._both()
        made, candidate_ns = self._try_candidate(block)
        begun = self._clock.monotonic_ns()
        try:
            out = incumbent.process(block)
        except Exception:
            if made is None:
                raise
            return [made], candidate
        if made is None:
            return out, incumbent
        self._saw(block.rows, self._clock.monotonic_ns() - begun, candidate_ns)
        self._seen.add(_scores(out[0]), _scores(made))
        return [made], candidate

    def _try_candidate(self, block: Block) -> tuple[Block | None, int]:
        """Return the candidate's block, None if it failed, and the time that it took."""
        _, candidate = self._both()
        before, begun = candidate.failures, self._clock.monotonic_ns()
        try:
            (made,) = candidate.process(block)
        except Exception as error:  # noqa: BLE001 - whatever it is, the incumbent is there
            self.trial.failed(block.rows, type(error).__name__)
            return None, 0
        if candidate.failures > before:
            self.trial.failed(block.rows, "")
            return None, 0
        self.trial.worked()
        return made, self._clock.monotonic_ns() - begun

    @property
    def _seen(self) -> Comparison:
        assert isinstance(self.trial.seen, Comparison)
        return self.trial.seen

    def _saw(self, rows: int, incumbent_ns: int, candidate_ns: int) -> None:
        seen = self._seen
        seen.rows += rows
        seen.incumbent_ns += incumbent_ns
        seen.candidate_ns += candidate_ns

    def _chosen(self, block: Block) -> npt.NDArray[np.int64]:
        """Return the rows of the devices that the candidate sees: always the same ones, by their name's checksum."""
        index = block.schema.index(self._key) if self._key and self._share < 1 else -1
        if index < 0:
            return np.arange(block.rows)
        names = block.columns[index].to_list(block.schema.fields[index].type)
        wanted = {n: zlib.crc32(repr(n).encode()) < self._share * 2**32 for n in dict.fromkeys(names)}
        return np.flatnonzero(np.array([wanted[n] for n in names], dtype=bool))

    def report(self) -> dict[str, Any]:
        """Return what the serving step says, and how the shadow run stands: names and numbers only."""
        return {**self._serving.report(), **self.trial.report()}

    # -- state ----------------------------------------------------------------------------------------------

    def flush(self) -> list[Block]:
        """Return what the serving step holds."""
        return self._serving.flush()

    def state(self) -> bytes:
        """Return the serving step's state, which that step alone can restore too, with the shadow's beside it."""
        saved = msgpack.unpackb(self._serving.state(), strict_map_key=False)
        other = self._standby.state() if self.trial.both_run and self._standby is not None else b""
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
        before, self.trial = self.trial, trial
        try:
            self._serving.restore(state)
            if other and ours and self._standby is not None:
                self._standby.restore(other)
        except ForebayError:
            self.trial = before
            raise
        self._let_go()


def _scores(block: Block) -> npt.NDArray[np.float64]:
    """Return the last column, NaN where it is null."""
    column = block.columns[-1]
    scores = column.values.astype(np.float64)
    scores[column.is_null()] = np.nan
    return scores
