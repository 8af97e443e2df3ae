"""A candidate detector beside the one in use: the same pictures, boxes that go nowhere, a report, and a gate.

Boxes of the two are paired greedily, the pair of largest overlap first; a pair overlaps by half (IoU) at least,
whatever its labels. What is promoted or rolled back changes places between two blocks, so that all detections of a
block are of one model; a picture on which a candidate on probation fails has no boxes. Nothing of a picture is kept:
counts and histograms of scores only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from forebay.clock import Clock
from forebay.config.models import PromoteOptions
from forebay.errors import ModelError
from forebay.infer.trial import PROBATION, Seen, Trial
from forebay.infer.vision import Detection
from forebay.memory import release_free_heap
from forebay.pictures import Frame

LEAST_OVERLAP = 0.5  # PASCAL VOC's measure of `the same object`


class BoxFinder(Protocol):
    """A detector as this module sees it."""

    @property
    def model(self) -> str:
        """`name@version#hash8`."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers that run it."""

    def detect_labelled(self, frame: Frame) -> list[Detection]:
        """Return the detections, best first."""


def pair(a: Sequence[Detection], b: Sequence[Detection]) -> list[tuple[int, int, float]]:
    """Return the pairs of boxes that show the same place: place in `a`, place in `b`, overlap (IoU)."""
    if not a or not b:
        return []
    one, other = (np.array([d.box for d in side], dtype=np.float64) for side in (a, b))
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(side[:, 2:] - side[:, :2], 0, None), axis=1) for side in (one, other)]
    overlap = common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)
    pairs: list[tuple[int, int, float]] = []
    while True:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        best = float(overlap[row, column])
        if best < LEAST_OVERLAP:
            return pairs
        pairs.append((int(row), int(column), best))
        overlap[row], overlap[:, column] = 0, 0


@dataclass(slots=True)
class BoxComparison(Seen):
    """What was seen of both; `rows` are pictures."""

    looked: int = 0
    incumbent_boxes: int = 0
    candidate_boxes: int = 0
    matched: int = 0
    same_label: int = 0
    overlap: float = 0.0

    def add(self, a: Sequence[Detection], b: Sequence[Detection]) -> None:
        """Take in what both found in a picture."""
        pairs = pair(a, b)
        self.looked += 1
        self.incumbent_boxes += len(a)
        self.candidate_boxes += len(b)
        self.matched += len(pairs)
        self.same_label += sum(a[i].label == b[k].label for i, k, _ in pairs)
        self.overlap += sum(overlap for _, _, overlap in pairs)
        self.add_scores(*(np.array([d.score for d in side], dtype=np.float64) for side in (a, b)))

    def agreement(self) -> float:
        """Return the share of all boxes that the other model has too, with the same label (F1); 1 without any."""
        boxes = self.incumbent_boxes + self.candidate_boxes
        return 2 * self.same_label / boxes if boxes else 1.0

    def is_enough(self, gate: PromoteOptions) -> bool:
        """See Seen. Pictures in which the model in use finds nothing prove little: its boxes count."""
        return self.incumbent_boxes >= gate.min_rows

    def tried(self) -> int:
        """See Seen."""
        return self.looked + self.failed

    def over(self, gate: PromoteOptions) -> list[str]:
        """See Seen."""
        over, agreement = Seen.over(self, gate), self.agreement()
        if agreement < gate.min_agreement:
            over.append(f"agreement {agreement:.4g} < {gate.min_agreement:g}")
        return over

    def facts(self) -> dict[str, Any]:
        """See Seen."""
        return {
            **Seen.facts(self),
            "incumbent_boxes": self.incumbent_boxes,
            "candidate_boxes": self.candidate_boxes,
            "matched": self.matched,
            "only_incumbent": self.incumbent_boxes - self.matched,
            "only_candidate": self.candidate_boxes - self.matched,
            "label_agreement": round(self.same_label / max(1, self.matched), 4),
            "agreement": round(self.agreement(), 4),
            "mean_iou": round(self.overlap / max(1, self.matched), 4),
        }


class ShadowDetector:
    """Two detectors that see the same pictures; the boxes of one go out.

    Parameters
    ----------
    name : of the step
    incumbent, candidate : built alike, of different models
    clock : measures the shadow run and the latencies
    gate : when and under which bounds the candidate takes over; None: it only is reported
    share : of the pictures, evenly spread, that the candidate sees

    Attributes
    ----------
    trial : how the run stands
    """

    def __init__(
        self,
        name: str,
        incumbent: BoxFinder,
        candidate: BoxFinder,
        clock: Clock,
        *,
        gate: PromoteOptions | None = None,
        share: float = 1.0,
    ) -> None:
        self._sides: list[BoxFinder | None] = [incumbent, candidate]  # None: let go
        self._clock, self._share, self._due = clock, share, 0.0
        self.trial = Trial(name, (incumbent.model, candidate.model), BoxComparison(), gate, clock)

    @property
    def model(self) -> str:
        """The model whose boxes go out."""
        return self.trial.model

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers that run it."""
        serving = self._sides[self.trial.candidate_serves]
        assert serving is not None
        return serving.providers

    def detect_labelled(self, frame: Frame) -> list[Detection]:
        """Return the serving model's detections. Whatever it raises goes through; what the other raises never does."""
        trial = self.trial
        serving, standby = self._sides[trial.candidate_serves], self._sides[not trial.candidate_serves]
        assert serving is not None
        if not trial.both_run or standby is None or not self._is_chosen():
            return self._watched(serving, frame, 0)
        begun = trial.begin()
        found = self._watched(serving, frame, 1)
        between = self._clock.monotonic_ns()
        try:
            other = standby.detect_labelled(frame)
        except Exception as error:  # noqa: BLE001 - the one that does not serve must never cost the stream
            if not trial.candidate_serves:
                trial.failed(1, type(error).__name__)
            return found
        self._saw(found, other, between - begun, self._clock.monotonic_ns() - between)
        return found

    def settle(self) -> None:
        """Decide, between two blocks; a model that will not be asked again is let go, with its memory."""
        self.trial.judge()
        self.let_go()

    def let_go(self) -> None:
        """Forget the model that lost, if that is decided."""
        loser = not self.trial.candidate_serves
        if not self.trial.both_run and self._sides[loser] is not None:
            self._sides[loser] = None
            release_free_heap()

    def _watched(self, serving: BoxFinder, frame: Frame, pictures: int) -> list[Detection]:
        """Return the serving model's detections; a candidate's failure on probation counts as so many pictures."""
        if self.trial.phase != PROBATION:
            return serving.detect_labelled(frame)
        try:
            found = serving.detect_labelled(frame)
        except ModelError:
            self.trial.failed(pictures, "")
            raise
        except Exception as error:  # noqa: BLE001 - it costs this picture's boxes, not the block's
            self.trial.failed(pictures, type(error).__name__)
            raise ModelError(f"the candidate failed: {type(error).__name__}", place=self.model) from None
        self.trial.worked()
        return found

    def _saw(self, found: list[Detection], other: list[Detection], found_ns: int, other_ns: int) -> None:
        """Take in what the serving model and the other one found."""
        trial, seen = self.trial, self.trial.seen
        assert isinstance(seen, BoxComparison)
        trial.worked()
        seen.rows += 1
        if trial.candidate_serves:
            seen.add(other, found)
            seen.incumbent_ns, seen.candidate_ns = seen.incumbent_ns + other_ns, seen.candidate_ns + found_ns
        else:
            seen.add(found, other)
            seen.incumbent_ns, seen.candidate_ns = seen.incumbent_ns + found_ns, seen.candidate_ns + other_ns

    def _is_chosen(self) -> bool:
        self._due += self._share
        if self._due < 1.0:
            return False
        self._due -= 1.0
        return True
