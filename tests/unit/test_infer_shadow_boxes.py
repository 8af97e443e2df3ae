"""A candidate detector in the shadow: its boxes go nowhere, it costs no picture, and the gate decides once."""

from __future__ import annotations

import hashlib
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgpack
import numpy as np
import pytest

from forebay import infer
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.cli.models_change import shadow_text
from forebay.config.models import InferOptions, PromoteOptions
from forebay.errors import ForebayError, ModelError
from forebay.infer.bundle import find
from forebay.infer.detect import DetectStep
from forebay.infer.notes import ModelNotes
from forebay.infer.shadow_boxes import ShadowDetector, pair
from forebay.infer.trial import PROBATION, PROMOTED, REJECTED, ROLLED_BACK, RUNNING
from forebay.infer.vision import Detection, Detector
from forebay.memory import release_free_heap, resident

SECOND = 1_000_000_000


class Ticks:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        self.now += SECOND
        return self.now

    def wall_ns(self) -> int:
        return self.now

    def state(self) -> str:
        return "synced"


class Eyes:
    """A detector that finds four objects where the picture says, moved, renamed or scored as told."""

    providers = ("CPUExecutionProvider",)

    def __init__(
        self,
        model: str,
        *,
        moved: float = 0,
        label: str = "Person",
        scores: Sequence[float] = (0.9, 0.8, 0.7),
    ) -> None:
        self.model, self.moved, self.label, self.scores = model, moved, label, scores
        self.saw, self.mode = 0, "ok"

    def detect_labelled(self, frame: np.ndarray) -> list[Detection]:
        self.saw += 1
        if self.mode == "raise":
            raise RuntimeError("13800138000")
        start = float(frame[0, 0, 0]) + self.moved
        return [
            Detection(self.label, score, (start + 40 * k, 10.0, start + 40 * k + 20, 50.0))
            for k, score in enumerate(self.scores)
        ]


def pictures(count: int, start: int = 0) -> Block:
    frames = [np.full((100, 300, 3), (start + n) % 100, np.uint8) for n in range(count)]
    image = Column(np.zeros(0, np.uint8), np.zeros(count + 1, np.int64), frames=list(frames))
    times = (np.arange(count, dtype=np.int64) + start) * SECOND
    return Block(Schema("yard", (Field("image", Type.BYTES, media="image"),)), times, (image,))


def step_of(candidate: Eyes, *, gate: bool = True, share: float = 1.0, **bounds: object) -> DetectStep:
    given = {"after": "30s", "min_rows": 100, "max_latency_ratio": 5} | bounds
    promote = PromoteOptions(**given) if gate else None  # type: ignore[arg-type]
    both = ShadowDetector("infer", Eyes("old"), candidate, Ticks(), gate=promote, share=share)
    return DetectStep("infer", both, field="image")


def models_of(step: DetectStep, blocks: int, start: int = 0) -> list[str]:
    """Return the model that each block's detections name; all of a block must be of one."""
    found = []
    for k in range(blocks):
        detections, passed = step.process(pictures(10, start + 10 * k))
        assert passed.rows == 10
        (model,) = {f.model for f in detections.schema.fields if f.model} | {passed.schema.fields[-1].model}
        found.append(model)
    return found


def phase(step: DetectStep) -> str:
    assert step.trial is not None
    return step.trial.phase


def test_a_candidate_that_finds_the_same_takes_over_between_two_blocks() -> None:
    step = step_of(Eyes("new", moved=1))
    found = models_of(step, 20)
    first = found.index("new")
    assert 4 <= first < 20, "100 boxes of 3 a picture"
    assert found == ["old"] * first + ["new"] * (20 - first)
    assert phase(step) == PROMOTED
    assert step.models == ("old", "new")


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (Eyes("new", moved=15), "agreement 0 < 0.7"),
        (Eyes("new", label="Car"), "agreement 0 < 0.7"),
        (Eyes("new", scores=(0.9,)), "agreement 0.5 < 0.7"),
        (Eyes("new", scores=(0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5)), "agreement 0.5455 < 0.7"),
        (Eyes("new", scores=(0.3, 0.3, 0.3)), "psi"),
    ],
)
def test_one_that_finds_something_else_is_set_aside_and_named_why(
    candidate: Eyes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    step = step_of(candidate)
    assert set(models_of(step, 20)) == {"old"}
    assert phase(step) == REJECTED
    assert why in step.report()["reason"]
    assert "the model in use stays" in caplog.text
    saw = candidate.saw
    models_of(step, 2)
    assert candidate.saw == saw, "one that was set aside costs nothing more"


def test_the_report_says_what_only_one_of_them_found() -> None:
    step = step_of(Eyes("new", moved=2, scores=(0.9, 0.8, 0.7, 0.6)), gate=False)
    models_of(step, 5)
    report = step.report()
    assert report["phase"] == RUNNING
    assert (report["rows"], report["matched"], report["looked"]) == (50, 150, 50)
    assert (report["only_incumbent"], report["only_candidate"]) == (0, 50)
    assert report["label_agreement"] == 1.0
    assert report["agreement"] == pytest.approx(2 * 150 / 350, abs=1e-4)
    assert report["mean_iou"] == pytest.approx(18 / 22, abs=1e-3)
    assert report["error_rate"] == 0
    text = shadow_text({**report, "pipeline": "yard", "step": "infer"})
    assert "50 pictures" in text
    assert "50 of the candidate alone" in text


def test_a_candidate_that_fails_never_costs_a_picture_and_is_set_aside_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    candidate = Eyes("new")
    candidate.mode = "raise"
    step = step_of(candidate, gate=False)
    assert set(models_of(step, 2)) == {"old"}
    assert step.counts == {"looked": 20}
    assert phase(step) == REJECTED
    assert candidate.saw == 3
    assert "13800138000" not in caplog.text + step.report()["reason"]


def test_when_the_incumbent_fails_the_picture_is_as_without_a_candidate() -> None:
    from forebay.errors import ModelError

    class Failing(Eyes):
        def detect_labelled(self, frame: np.ndarray) -> list[Detection]:
            raise ModelError("broken")

    both = ShadowDetector("infer", Failing("old"), Eyes("new"), Ticks())
    step = DetectStep("infer", both, field="image")
    (passed,) = step.process(pictures(3))
    assert passed.column("objects").to_list(Type.I64) == [None] * 3
    assert step.counts == {"model_error": 3}
    assert both.trial.seen.rows == 0


def test_empty_scenes_prove_nothing() -> None:
    both = ShadowDetector(
        "infer",
        Eyes("old", scores=()),
        Eyes("new", scores=()),
        Ticks(),
        gate=PromoteOptions(after="1s"),  # type: ignore[arg-type]
    )
    step = DetectStep("infer", both, field="image")
    for k in range(30):
        step.process(pictures(100, 100 * k))
    assert phase(step) == RUNNING


def test_a_share_of_the_pictures_is_spread_evenly() -> None:
    candidate = Eyes("new")
    step = step_of(candidate, gate=False, share=0.25)
    for k in range(4):
        models_of(step, 1, start=10 * k)
    assert candidate.saw == 10


def test_what_was_decided_and_counted_survives_a_restart() -> None:
    one = step_of(Eyes("new"), after="1h")
    models_of(one, 5)
    two = step_of(Eyes("new"), after="1h")
    two.restore(one.state())
    assert two.trial is not None
    assert one.trial is not None
    assert two.trial.report() == one.trial.report()
    for candidate, decided in ((Eyes("new"), PROMOTED), (Eyes("new", moved=15), REJECTED)):
        done = step_of(candidate)
        models_of(done, 20)
        again = step_of(Eyes("new"))
        again.restore(done.state())
        assert phase(again) == decided
        other = step_of(Eyes("newer"))
        other.restore(done.state())
        assert phase(other) == RUNNING
        assert other.report()["rows"] == 0


def test_a_state_goes_from_a_step_without_a_candidate_to_one_with_and_back() -> None:
    plain = DetectStep("infer", Eyes("old"), field="image", every_ns=1)
    plain.process(pictures(3))
    both = step_of(Eyes("new"))
    both.restore(plain.state())
    assert both._frames == 3
    back = DetectStep("infer", Eyes("old"), field="image", every_ns=1)
    back.restore(both.state())
    assert back._frames == 3


def test_a_damaged_shadow_in_a_state_is_refused_and_changes_nothing() -> None:
    step = step_of(Eyes("new"))
    models_of(step, 3)
    good = step.state()
    for key, value in (("seen", {"unknown": 1}), ("phase", "perhaps"), ("seen", None)):
        saved = msgpack.unpackb(good)
        saved["shadow"][key] = value
        with pytest.raises(ForebayError, match="saved state is damaged"):
            step.restore(msgpack.packb(saved))
    assert step.state() == good


def test_boxes_are_paired_one_to_one_the_largest_overlap_first() -> None:
    a = [Detection("x", 0.9, (0, 0, 10, 10)), Detection("x", 0.8, (4, 0, 14, 10))]
    b = [Detection("x", 0.9, (3, 0, 13, 10)), Detection("x", 0.9, (50, 50, 60, 60))]
    assert pair(a, b) == [(1, 0, pytest.approx(9 / 11))]
    assert pair(a, []) == pair([], b) == []
    assert pair([Detection("x", 1, (5, 5, 5, 5))], [Detection("x", 1, (5, 5, 5, 5))]) == [], "no area"


# -- the audit log ------------------------------------------------------------------------------------------


def test_the_audit_log_and_the_ledger_hear_what_serves_gives_and_is_decided_once_each() -> None:
    step = step_of(Eyes("new"), probation="60s")
    notes = ModelNotes("yard", [step])
    assert notes.take_tally() == {("yard", "infer", "model:serves old"): 1}
    assert notes.take_tally() == {}
    found = models_of(step, 40)
    assert notes.take_tally() == {
        ("yard", "infer", "model:promoted new in place of old"): 1,
        ("yard", "infer", "model:confirmed new"): 1,
        ("yard", "infer", "model:serves new"): 1,
    }
    assert notes.take_tally() == {}
    assert notes.take_counts() == {
        ("yard", "model", "serves old"): 1,
        ("yard", "model", "promoted new"): 1,
        ("yard", "model", "confirmed new"): 1,
        ("yard", "model", "serves new"): 1,
        ("yard", "model", "gave old"): 10 * found.count("old"),
        ("yard", "model", "gave new"): 10 * found.count("new"),
    }
    assert notes.take_counts() == {}
    again = step_of(Eyes("new"), probation="60s")
    again.restore(step.state())
    assert ModelNotes("yard", [again]).take_tally() == {("yard", "infer", "model:serves new"): 1}


# -- on probation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ModelError, RuntimeError])
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_detector_that_fails_on_probation_is_taken_back_at_the_end_of_its_block(
    kind: type[Exception], share: float
) -> None:
    candidate = Eyes("new")
    step = step_of(candidate, probation="1d", share=share)
    while phase(step) == RUNNING:
        models_of(step, 1)
    assert phase(step) == PROBATION

    def fail(_frame: np.ndarray) -> list[Detection]:
        raise kind("13800138000")

    candidate.detect_labelled = fail  # type: ignore[method-assign]
    (passed,) = step.process(pictures(10))
    assert passed.rows == 10, "the pictures go on"
    assert phase(step) == ROLLED_BACK
    assert step.trial is not None
    assert "3 times in a row" in step.trial.reason
    assert "13800138000" not in step.trial.reason
    assert models_of(step, 3) == ["old"] * 3
    assert step.results["failed", "new"] == 10


def test_a_detector_that_finds_other_boxes_on_probation_is_taken_back() -> None:
    candidate = Eyes("new")
    step = step_of(candidate, probation="1d")
    while phase(step) == RUNNING:
        models_of(step, 1)
    candidate.moved = 15
    found = models_of(step, 20)
    assert found[0] == "new"
    assert found[-1] == "old"
    assert phase(step) == ROLLED_BACK
    assert step.trial is not None
    assert "agreement" in step.trial.reason


def test_a_rejection_is_told_with_its_bound() -> None:
    step = step_of(Eyes("new", moved=15))
    models_of(step, 20)
    ((_, _, rule),) = [k for k in ModelNotes("yard", [step]).take_tally() if "rejected" in k[2]]
    assert rule == "model:rejected new: agreement 0 < 0.7"


# -- with real models ---------------------------------------------------------------------------------------


def test_a_real_candidate_changes_no_detection_and_agrees_with_itself(tmp_path: Path) -> None:
    photos = Path(__file__).parents[1] / "data" / "photos"
    if not photos.is_dir():
        from forebay import shipped

        photos = shipped.path("config") / "demo" / "photos"
    made = Path(shutil.copytree(find("street-objects"), tmp_path / "candidate"))
    text = (made / "manifest.yaml").read_text()
    (made / "manifest.yaml").write_text(text.replace("version: 1.0.0", "version: 1.1.0"))
    options = InferOptions(model="street-objects", field="image", shadow=f"{made}/")
    cells: list[bytes | None] = [p.read_bytes() for p in sorted(photos.glob("*.jpg"))[:3]]
    given = Block(
        Schema("yard", (Field("image", Type.BYTES, media="image"),)),
        np.arange(len(cells), dtype=np.int64),
        (Column.of(Type.BYTES, cells),),
    )
    step = infer.build("infer", options)
    plain = infer.build("infer", InferOptions(model="street-objects", field="image"))
    (a, b), (c, d) = step.process(given), plain.process(given)
    assert isinstance(step, DetectStep)
    assert (a.schema, b.schema) == (c.schema, d.schema)
    assert [x.values.tolist() for x in a.columns] == [y.values.tolist() for y in c.columns]
    report = step.report()
    assert report["agreement"] == 1.0
    assert report["mean_iou"] == pytest.approx(1.0, abs=1e-4)
    assert report["candidate"].startswith("street-objects@1.1.0#")


def test_a_detector_that_was_set_aside_gives_its_memory_back(tmp_path: Path) -> None:
    made = Path(shutil.copytree(find("street-objects"), tmp_path / "candidate"))
    graph, manifest = made / "model.onnx", made / "manifest.yaml"
    before = hashlib.sha256(graph.read_bytes()).hexdigest()
    graph.write_bytes(graph.read_bytes() + b"\x72\x06\x0a\x01a\x12\x01b")  # ModelProto.metadata_props: a = b
    text = manifest.read_text().replace("version: 1.0.0", "version: 1.1.0")
    manifest.write_text(text.replace(before, hashlib.sha256(graph.read_bytes()).hexdigest()))
    step = infer.build("infer", InferOptions(model="street-objects", field="image", shadow=f"{made}/"))
    assert isinstance(step, DetectStep)
    assert step._shadow is not None
    (_, candidate) = step._shadow._sides
    assert isinstance(candidate, Detector)
    cell = bytes(cv2.imencode(".jpg", np.zeros((300, 300, 3), np.uint8))[1])
    given = Block(
        Schema("yard", (Field("image", Type.BYTES, media="image"),)),
        np.arange(3, dtype=np.int64),
        (Column.of(Type.BYTES, [cell] * 3),),
    )
    step.process(given)
    release_free_heap()
    with_both = resident()[0]
    session = weakref.ref(candidate._session)

    class Broken(Eyes):
        def detect_labelled(self, frame: np.ndarray) -> list[Detection]:
            raise RuntimeError

    step._shadow._sides[1] = Broken("new")
    del candidate
    step.process(given)
    assert phase(step) == REJECTED
    assert session() is None
    assert with_both - resident()[0] > 8 * 1024 * 1024
    step.process(given)
    assert step.report()["model"].startswith("street-objects@1.0.0#")
