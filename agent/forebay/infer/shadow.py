"""A candidate beside the model in use: the same input, results that go nowhere, a report, and a gate.

The candidate runs in the pipeline's own thread after the incumbent, so nothing is copied, queued or lost; its time
limit and the latency ratio bound what it may cost. Its results never reach the stream until it is promoted; then it
takes the incumbent's place between two blocks, and no row is lost or doubled. What was decided is part of the
step's state, so it is durable with the rows that it concerns.
"""

from __future__ import annotations

import logging
import math
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import msgpack
import numpy as np
import numpy.typing as npt

from forebay.blocks import Block
from forebay.clock import Clock
from forebay.config.models import PromoteOptions
from forebay.errors import ForebayError

log = logging.getLogger(__name__)

BINS = 200  # of the scores, 0 to 1
GROUPS = 10  # of the PSI: the incumbent's deciles
LEAST_SHARE = 1e-4  # an empty group is not infinitely far away
FAILED_IN_ROW = 3  # blocks; then the candidate is set aside, gate or not
RUNNING, PROMOTED, REJECTED = "running", "promoted", "rejected"


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
class Comparison:
    """What was seen of both. `failed`: rows of which the candidate's model gave nothing though it should have."""

    rows: int = 0
    compared: int = 0
    failed: int = 0
    difference: float = 0.0
    elapsed_ns: int = 0
    incumbent_ns: int = 0
    candidate_ns: int = 0
    incumbent: list[int] = field(default_factory=lambda: [0] * BINS)
    candidate: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> None:
        """Take in the scores of the same rows, NaN where there is none."""
        both = ~(np.isnan(a) | np.isnan(b))
        a, b = a[both], b[both]
        self.compared += len(a)
        self.difference += float(np.abs(a - b).sum())
        for scores, counts in ((a, self.incumbent), (b, self.candidate)):
            places = np.minimum((np.clip(scores, 0, 1) * BINS).astype(np.int64), BINS - 1)
            for place, count in zip(*np.unique(places, return_counts=True), strict=True):
                counts[place] += int(count)

    def psi(self) -> float:
        """Return the population stability index over the incumbent's deciles."""
        a, b = self._shares()
        group = np.minimum((np.cumsum(a) - a) * GROUPS + 1e-9, GROUPS - 1).astype(np.int64)
        total = 0.0
        for number in np.unique(group).tolist():
            p, r = (max(float(s[group == number].sum()), LEAST_SHARE) for s in (a, b))
            total += (r - p) * math.log(r / p)
        return total

    def ks(self) -> float:
        """Return the Kolmogorov-Smirnov distance of the scores."""
        a, b = self._shares()
        return float(np.abs(np.cumsum(a) - np.cumsum(b)).max())

    def _shares(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        whole = max(1, self.compared)
        return np.array(self.incumbent, float) / whole, np.array(self.candidate, float) / whole

    def facts(self) -> dict[str, Any]:
        """Return the report's numbers."""
        tried = self.compared + self.failed
        return {
            "rows": self.rows,
            "compared": self.compared,
            "mean_abs_difference": round(self.difference / max(1, self.compared), 4),
            "psi": round(self.psi(), 4),
            "ks": round(self.ks(), 4),
            "error_rate": round(self.failed / max(1, tried), 6),
            "latency_ratio": round(self.candidate_ns / max(1, self.incumbent_ns), 3),
            "elapsed_s": round(self.elapsed_ns / 1e9, 3),
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
    phase : `running`, `promoted` or `rejected`
    reason : why it was rejected
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
        self.models = (incumbent.model, candidate.model)
        self.phase, self.reason = RUNNING, ""
        self._incumbent, self._candidate = incumbent, candidate
        self._clock, self._gate, self._key, self._share = clock, gate, key, share
        self._seen = Comparison()
        self._in_row = 0
        self._last_ns: int | None = None

    @property
    def model(self) -> str:
        """The model whose results go out."""
        return self._serving.model

    @property
    def _serving(self) -> ScoreStep:
        return self._candidate if self.phase == PROMOTED else self._incumbent

    def process(self, block: Block) -> list[Block]:
        """Return the serving model's blocks."""
        begun = self._clock.monotonic_ns()
        out = self._serving.process(block)
        if self.phase == RUNNING and block.rows:
            taken = self._clock.monotonic_ns() - begun
            try:
                self._compare(block, out, taken)
            except Exception as error:  # noqa: BLE001 - the candidate must never cost the stream
                self._failed(block.rows, type(error).__name__)
            self._judge()
        return out

    def _compare(self, block: Block, out: list[Block], incumbent_ns: int) -> None:
        chosen = self._chosen(block)
        if not len(chosen) or len(out) != 1:
            return
        seen, part = self._seen, block if len(chosen) == block.rows else block.take(chosen)
        before, begun = self._candidate.failures, self._clock.monotonic_ns()
        if self._last_ns is not None:
            seen.elapsed_ns += max(0, begun - self._last_ns)
        self._last_ns = begun
        (made,) = self._candidate.process(part)
        seen.candidate_ns += self._clock.monotonic_ns() - begun
        seen.incumbent_ns += incumbent_ns * len(chosen) // block.rows
        failed = self._candidate.failures - before
        if failed:
            self._failed(len(chosen), "")
            return
        self._in_row = 0
        seen.rows += len(chosen)
        seen.add(_scores(out[0])[chosen], _scores(made))

    def _failed(self, rows: int, kind: str) -> None:
        self._seen.rows += rows
        self._seen.failed += rows
        self._in_row += 1
        if self._in_row >= FAILED_IN_ROW:
            self._reject(f"it failed {FAILED_IN_ROW} blocks in a row {kind}".rstrip())

    def _chosen(self, block: Block) -> npt.NDArray[np.int64]:
        """Return the rows of the devices that the candidate sees: always the same ones, by their name's checksum."""
        index = block.schema.index(self._key) if self._key and self._share < 1 else -1
        if index < 0:
            return np.arange(block.rows)
        names = block.columns[index].to_list(block.schema.fields[index].type)
        wanted = {n: zlib.crc32(repr(n).encode()) < self._share * 2**32 for n in dict.fromkeys(names)}
        return np.flatnonzero(np.array([wanted[n] for n in names], dtype=bool))

    # -- the gate -------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        gate, seen = self._gate, self._seen
        if gate is None or self.phase != RUNNING or seen.elapsed_ns < gate.after or seen.rows < gate.min_rows:
            return
        facts = seen.facts()
        bounds = {
            "psi": gate.max_psi,
            "error_rate": gate.max_error_rate,
            "latency_ratio": gate.max_latency_ratio,
        }
        over = [
            f"{name} {facts[name]:g} > {bound:g}" for name, bound in bounds.items() if facts[name] > bound
        ]
        if seen.compared < gate.min_rows:
            over.append(f"compared {seen.compared} < {gate.min_rows} rows")
        if over:
            self._reject(", ".join(over))
            return
        self.phase = PROMOTED
        log.warning(
            "a candidate was promoted step=%s model=%s before=%s psi=%g",
            self.name,
            *self.models[::-1],
            facts["psi"],
        )

    def _reject(self, reason: str) -> None:
        self.phase, self.reason = REJECTED, reason
        log.warning(
            "a candidate was rejected, the model in use stays step=%s candidate=%s: %s",
            self.name,
            self._candidate.model,
            reason,
        )

    def report(self) -> dict[str, Any]:
        """Return how the shadow run stands: names and numbers only."""
        return {
            "model": self.model,
            "incumbent": self.models[0],
            "candidate": self.models[1],
            "phase": self.phase,
            "reason": self.reason,
            **self._seen.facts(),
        }

    # -- state ----------------------------------------------------------------------------------------------

    def flush(self) -> list[Block]:
        """Return what the serving step holds."""
        return self._serving.flush()

    def state(self) -> bytes:
        """Return the serving step's state, which that step alone can restore too, with the shadow's beside it."""
        saved = msgpack.unpackb(self._serving.state(), strict_map_key=False)
        other = self._candidate.state() if self.phase == RUNNING else b""
        saved["shadow"] = {
            "incumbent": self.models[0],
            "candidate": self.models[1],
            "phase": self.phase,
            "reason": self.reason,
            "state": other,
            "seen": asdict(self._seen),
        }
        packed: bytes = msgpack.packb(saved)
        return packed

    def restore(self, state: bytes) -> None:
        """Go on where the state ends; another candidate starts its run afresh. Raises ForebayError."""
        try:
            saved = msgpack.unpackb(state, strict_map_key=False).get("shadow")
            ours = saved is not None and (saved["incumbent"], saved["candidate"]) == self.models
            phase = saved["phase"] if ours else RUNNING
            seen = Comparison(**saved["seen"]) if ours else Comparison()
            other, reason = (saved["state"], saved["reason"]) if ours else (b"", "")
        except (ValueError, KeyError, TypeError, AttributeError, msgpack.UnpackException) as error:
            raise ForebayError(
                f"the saved state is damaged: {type(error).__name__}", place=self.name
            ) from None
        (self._candidate if phase == PROMOTED else self._incumbent).restore(state)
        if other:
            self._candidate.restore(other)
        self.phase, self.reason, self._seen, self._last_ns = phase, reason, seen, None


def _scores(block: Block) -> npt.NDArray[np.float64]:
    """Return the last column, NaN where it is null."""
    column = block.columns[-1]
    scores = column.values.astype(np.float64)
    scores[column.is_null()] = np.nan
    return scores
