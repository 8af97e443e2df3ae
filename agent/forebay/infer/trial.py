"""What the shadow runs of candidates share: what was seen of both models, the gate, and what was decided."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from forebay.clock import Clock
from forebay.config.models import PromoteOptions

log = logging.getLogger(__name__)

BINS = 200  # of the scores, 0 to 1
GROUPS = 10  # of the PSI: the incumbent's deciles
LEAST_SHARE = 1e-4  # an empty group is not infinitely far away
FAILED_IN_ROW = 3  # blocks or pictures; then the candidate is set aside, gate or not
LOOK_NS = 1_000_000_000  # between two looks at the bounds: one costs 0.5 ms of CPU
HALF_NS = 60_000_000_000  # half a window of what was seen lately lasts so long; of a short trial
HALVES = 16  # this part of it,
LEAST_HALF_NS = 5_000_000_000  # but no less: in a second another process's turn makes a model slow
RUNNING, PROBATION, PROMOTED = "running", "on_probation", "promoted"
REJECTED, ROLLED_BACK = "rejected", "rolled_back"
PHASES = (RUNNING, PROBATION, PROMOTED, REJECTED, ROLLED_BACK)


class Decision(NamedTuple):
    """What was decided of a candidate: `promoted`, `confirmed`, `rejected` or `rolled_back`, and why."""

    event: str
    model: str
    text: str


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

    def since(self, mark: Self) -> Self:
        """Return what was seen after `mark`, a copy made then."""
        now, then = asdict(self), asdict(mark)
        return type(self)(**{f.name: _less(now[f.name], then[f.name]) for f in fields(self)})

    def copy(self) -> Self:
        """Return it as it is now."""
        return type(self)(**asdict(self))

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


def _less(now: Any, then: Any) -> Any:
    return [a - b for a, b in zip(now, then, strict=True)] if isinstance(now, list) else now - then


class Trial:
    """How the shadow run of a candidate stands, and what was decided of it.

    running --within the bounds--> on_probation --still within them--> promoted
       |                                |
       +--beyond one, failing--> rejected   +--> rolled_back: the incumbent, which ran on beside it, serves again

    The bounds hold for all that was seen in a phase, and for what was seen lately: a model that turns slow after a
    good day would else be noticed a day later. Lately is a window of two halves, the last whole one and the one that
    fills; a half is enough to judge by and HALF_NS long. All that is kept for it are two copies of the sums.

    Parameters
    ----------
    name : of the step
    models : the incumbent's and the candidate's
    seen : empty; filled by the step, renewed when the probation begins
    gate : when and under which bounds the candidate takes over; None: it only is reported

    Attributes
    ----------
    phase : one of PHASES
    reason : why it was rejected or rolled back
    decisions : made since somebody took them, for the audit log and the ledger: names of models and numbers, never data
    """

    def __init__(
        self, name: str, models: tuple[str, str], seen: Seen, gate: PromoteOptions | None, clock: Clock
    ) -> None:
        self.models, self.seen = models, seen
        self.phase, self.reason = RUNNING, ""
        self.decisions: list[Decision] = []
        self._name, self._gate, self._clock = name, gate, clock
        self._in_row, self._kind = 0, ""
        self._last_ns: int | None = None
        self._looked_ns = 0  # how long it had run at the last look at the bounds
        # `seen` when the last half of a window began, before it that of the one before
        self._marks = [seen.copy()]

    @property
    def model(self) -> str:
        """The model whose results go out."""
        return self.models[self.candidate_serves]

    @property
    def candidate_serves(self) -> bool:
        """Whether the candidate's results go out."""
        return self.phase in (PROBATION, PROMOTED)

    @property
    def both_run(self) -> bool:
        """Whether both are looked at: nothing is decided for good."""
        return self.phase in (RUNNING, PROBATION)

    def begin(self) -> int:
        """Begin a look at both; return the clock. The time since the last one counts as run."""
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
        self._in_row, self._kind = self._in_row + 1, kind
        if self.phase == RUNNING:  # one that serves goes at the end of its block: that is of one model
            self._set_aside_failing()

    def judge(self) -> None:
        """Decide, if there is a gate and it is time. Between two blocks."""
        if self.phase == PROBATION:
            self._set_aside_failing()
        gate, seen = self._gate, self.seen
        if gate is None or not self.both_run or not seen.is_enough(gate):
            return
        length_ns = gate.after if self.phase == RUNNING else gate.probation_ns
        is_due = seen.elapsed_ns >= length_ns
        if not is_due and seen.elapsed_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = seen.elapsed_ns
        lately = self._lately(gate, min(HALF_NS, max(LEAST_HALF_NS, length_ns // HALVES)))
        if not is_due and self.phase == RUNNING:  # one that does not serve yet has its whole time
            return
        if over := seen.over(gate) or [f"{bound} lately" for bound in lately]:
            self._set_aside(", ".join(over))  # one that serves already is not waited for
        elif is_due and self.phase == RUNNING:
            self._promote(gate)
        elif is_due:
            self._confirm()

    def _lately(self, gate: PromoteOptions, half_ns: int) -> list[str]:
        """Return the bounds that are passed in the window, and move it on."""
        window, half = self.seen.since(self._marks[0]), self.seen.since(self._marks[-1])
        if half.elapsed_ns >= half_ns and half.is_enough(gate):
            self._marks = [self._marks[-1], self.seen.copy()]
        return window.over(gate) if window.is_enough(gate) else []

    def _promote(self, gate: PromoteOptions) -> None:
        new, old = self.models[1], self.models[0]
        self.phase = PROBATION if gate.probation_ns else PROMOTED
        self.decisions.append(Decision("promoted", new, f"promoted {new} in place of {old}"))
        text = "a candidate was promoted step=%s model=%s before=%s psi=%g probation_s=%g"
        log.warning(text, self._name, new, old, self.seen.psi(), gate.probation_ns / 1e9)
        if self.phase == PROBATION:
            self._begin_anew(type(self.seen)())

    def _begin_anew(self, seen: Seen, marks: list[Seen] | None = None) -> None:
        self.seen, self._marks = seen, marks or [seen.copy()]
        self._in_row, self._looked_ns = 0, 0

    def _confirm(self) -> None:
        self.phase = PROMOTED
        self.decisions.append(Decision("confirmed", self.models[1], f"confirmed {self.models[1]}"))
        log.info("a promoted candidate has passed its probation step=%s model=%s", self._name, self.models[1])

    def _set_aside_failing(self) -> None:
        if self._in_row >= FAILED_IN_ROW:
            self._set_aside(f"it failed {FAILED_IN_ROW} times in a row {self._kind}".rstrip())

    def _set_aside(self, reason: str) -> None:
        old, new = self.models
        was_serving = self.phase == PROBATION
        self.phase, self.reason = ROLLED_BACK if was_serving else REJECTED, reason
        told = f"rolled back {new} to {old}" if was_serving else f"rejected {new}"
        self.decisions.append(Decision(self.phase, new, f"{told}: {reason}"))
        text = (
            "a candidate was rolled back, the model before serves again step=%s candidate=%s model=%s: %s"
            if was_serving
            else "a candidate was rejected, the model in use stays step=%s candidate=%s model=%s: %s"
        )
        log.warning(text, self._name, new, old, reason)

    def report(self) -> dict[str, Any]:
        """Return how the run stands: names and numbers only."""
        return {
            "model": self.model,
            "incumbent": self.models[0],
            "candidate": self.models[1],
            "phase": self.phase,
            "reason": self.reason,
            **self.seen.facts(),
            "lately": self.seen.since(self._marks[0]).facts(),
        }

    def dump(self) -> dict[str, Any]:
        """Return what `load` needs to go on after a restart."""
        return {
            "incumbent": self.models[0],
            "candidate": self.models[1],
            "phase": self.phase,
            "reason": self.reason,
            "seen": asdict(self.seen),
            "lately": [asdict(self.seen.since(mark)) for mark in self._marks],  # small numbers pack better
        }

    def load(self, saved: dict[str, Any] | None) -> bool:
        """Go on where `saved` ends; return whether it is of these two models, otherwise the run starts afresh.

        Raises TypeError, KeyError or AttributeError if it is damaged; nothing is changed then.
        """
        ours = saved is not None and (saved["incumbent"], saved["candidate"]) == self.models
        if saved is None or not ours:
            self.phase, self.reason = RUNNING, ""
            self._begin_anew(type(self.seen)())
        else:
            seen = type(self.seen)(**saved["seen"])
            # A release before this one kept no window: it begins here.
            marks = [seen.since(type(seen)(**part)) for part in saved.get("lately", ())]
            if saved["phase"] not in PHASES:
                raise KeyError("phase")
            self.phase, self.reason = saved["phase"], saved["reason"]
            self._begin_anew(seen, marks)
        self._last_ns = None
        return ours
