"""What the shadow runs of candidates share: what was seen of both models, the gate, and what was decided."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.clock import Clock
from forebay.config.models import PromoteOptions

log = logging.getLogger(__name__)

BINS = 200  # of the scores, 0 to 1
GROUPS = 10  # of the PSI: the incumbent's deciles
LEAST_SHARE = 1e-4  # an empty group is not infinitely far away
FAILED_IN_ROW = 3  # blocks or pictures; then the candidate is set aside, gate or not
RUNNING, PROMOTED, REJECTED = "running", "promoted", "rejected"


@dataclass(slots=True)
class Seen(ABC):
    """What was seen of both models.

    Attributes
    ----------
    rows : rows or pictures that the candidate was given
    failed : of these, those of which its model gave nothing though it should have
    incumbent, candidate : histograms of the scores
    """

    rows: int = 0
    failed: int = 0
    elapsed_ns: int = 0
    incumbent_ns: int = 0
    candidate_ns: int = 0
    incumbent: list[int] = field(default_factory=lambda: [0] * BINS)
    candidate: list[int] = field(default_factory=lambda: [0] * BINS)

    def add_scores(self, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> None:
        """Take in scores of the incumbent and of the candidate."""
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
        a, b = np.array(self.incumbent, float), np.array(self.candidate, float)
        return a / max(1.0, a.sum()), b / max(1.0, b.sum())

    def is_enough(self, gate: PromoteOptions) -> bool:
        """Return whether there is enough to judge by."""
        return self.rows >= gate.min_rows

    @abstractmethod
    def tried(self) -> int:
        """Return of how many rows or pictures the candidate should have given something."""

    def over(self, gate: PromoteOptions) -> list[str]:
        """Return the bounds that are passed, each with its number."""
        facts = self.facts()
        bounds = {
            "psi": gate.max_psi,
            "error_rate": gate.max_error_rate,
            "latency_ratio": gate.max_latency_ratio,
        }
        return [
            f"{name} {facts[name]:g} > {bound:g}" for name, bound in bounds.items() if facts[name] > bound
        ]

    def facts(self) -> dict[str, Any]:
        """Return the report's numbers."""
        return {
            "rows": self.rows,
            "psi": round(self.psi(), 4),
            "ks": round(self.ks(), 4),
            "error_rate": round(self.failed / max(1, self.tried()), 6),
            "latency_ratio": round(self.candidate_ns / max(1, self.incumbent_ns), 3),
            "elapsed_s": round(self.elapsed_ns / 1e9, 3),
        }


class Trial:
    """How the shadow run of a candidate stands, and what was decided of it.

    Parameters
    ----------
    name : of the step
    models : the incumbent's and the candidate's
    seen : empty; filled by the step
    gate : when and under which bounds the candidate takes over; None: it only is reported

    Attributes
    ----------
    phase : `running`, `promoted` or `rejected`
    reason : why it was rejected
    decisions : made since somebody took them, for the audit log: names of models and numbers, never data
    """

    def __init__(
        self, name: str, models: tuple[str, str], seen: Seen, gate: PromoteOptions | None, clock: Clock
    ) -> None:
        self.models, self.seen = models, seen
        self.phase, self.reason = RUNNING, ""
        self.decisions: list[str] = []
        self._name, self._gate, self._clock = name, gate, clock
        self._in_row = 0
        self._last_ns: int | None = None

    @property
    def model(self) -> str:
        """The model whose results go out."""
        return self.models[self.phase == PROMOTED]

    def begin(self) -> int:
        """Begin a look at the candidate; return the clock. The time since the last one counts as run."""
        now = self._clock.monotonic_ns()
        if self._last_ns is not None:
            self.seen.elapsed_ns += max(0, now - self._last_ns)
        self._last_ns = now
        return now

    def worked(self) -> None:
        """The candidate gave something."""
        self._in_row = 0

    def failed(self, rows: int, kind: str) -> None:
        """The candidate gave nothing of so many rows, or raised an error of that kind."""
        self.seen.rows += rows
        self.seen.failed += rows
        self._in_row += 1
        if self._in_row >= FAILED_IN_ROW:
            self._reject(f"it failed {FAILED_IN_ROW} times in a row {kind}".rstrip())

    def judge(self) -> None:
        """Decide, if there is a gate and it is time."""
        gate, seen = self._gate, self.seen
        if gate is None or self.phase != RUNNING or seen.elapsed_ns < gate.after or not seen.is_enough(gate):
            return
        over = seen.over(gate)
        if over:
            self._reject(", ".join(over))
            return
        self.phase = PROMOTED
        self.decisions.append(f"promoted {self.models[1]} in place of {self.models[0]}")
        log.warning(
            "a candidate was promoted step=%s model=%s before=%s psi=%g",
            self._name,
            *self.models[::-1],
            seen.psi(),
        )

    def _reject(self, reason: str) -> None:
        self.phase, self.reason = REJECTED, reason
        self.decisions.append(f"rejected {self.models[1]}: {reason}")
        log.warning(
            "a candidate was rejected, the model in use stays step=%s candidate=%s: %s",
            self._name,
            self.models[1],
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
            **self.seen.facts(),
        }

    def dump(self) -> dict[str, Any]:
        """Return what `load` needs to go on after a restart."""
        return {
            "incumbent": self.models[0],
            "candidate": self.models[1],
            "phase": self.phase,
            "reason": self.reason,
            "seen": asdict(self.seen),
        }

    def load(self, saved: dict[str, Any] | None) -> bool:
        """Go on where `saved` ends; return whether it is of these two models, otherwise the run starts afresh.

        Raises TypeError, KeyError or AttributeError if it is damaged; nothing is changed then.
        """
        ours = saved is not None and (saved["incumbent"], saved["candidate"]) == self.models
        if saved is None or not ours:
            self.phase, self.reason, self.seen = RUNNING, "", type(self.seen)()
        else:
            seen = type(self.seen)(**saved["seen"])
            if saved["phase"] not in (RUNNING, PROMOTED, REJECTED):
                raise KeyError("phase")
            self.phase, self.reason, self.seen = saved["phase"], saved["reason"], seen
        self._last_ns = None
        return ours
