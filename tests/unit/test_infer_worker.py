"""Steps over detections in a pipeline's worker: they see the detections, and the ledger counts what is dropped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay import infer
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.clock import SystemClock
from forebay.config import detections as config
from forebay.config.models import InferOptions
from forebay.infer.detect import DetectStep
from forebay.infer.vision import Detection
from forebay.mask import Guard, Masker, load_policy
from forebay.stages import Chunk, Commit, Step
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import Worker, WorkerOptions

pytest.importorskip("cv2")
SECOND = 1_000_000_000


class Writer:
    """Takes commits and calls them durable at once."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def submit(self, commit: Commit) -> None:
        self.commits.append(commit)

    def outstanding(self, owner: str) -> int:
        return 0

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        return True


class Eyes:
    """A detector that finds one person, whose place is the picture's grey level."""

    model = "eyes@1.0.0#00000000"

    def detect_labelled(self, frame: np.ndarray) -> list[Detection]:
        x = float(frame[0, 0, 0])
        return [Detection("Person", 0.9, (x - 10, 100.0, x + 10, 150.0))]

    def detect(self, frame: np.ndarray) -> np.ndarray:
        return np.zeros((0, 5), np.float32)


class Slow(SystemClock):
    """A clock on which every question takes 0.2 s."""

    now = 0

    def monotonic_ns(self) -> int:
        self.now += SECOND // 5
        return self.now


def pictures(count: int) -> list[Chunk]:
    schema = Schema("cam", (Field("frame", Type.I64), Field("image", Type.BYTES, media="image")))
    out = []
    for n in range(count):
        frame = np.full((200, 250, 3), 10 * n, np.uint8)
        image = Column(np.zeros(0, np.uint8), np.zeros(2, np.int64), frames=[frame])
        time = np.array([n * SECOND // 10], np.int64)
        out.append(Chunk([Block(schema, time, (Column(np.array([n])), image))], nbytes=frame.nbytes))
    return out


def worker_of(steps: list[Step], writer: Writer) -> Worker:
    policy = load_policy("base", Path())
    masker = Masker(policy, detectors={"face": Eyes(), "plate": Eyes()})  # type: ignore[dict-item]
    sealer = Sealer(Context("gw", "s/p", "boot", "0"), lambda: Stamp(0, 0, "synced"))
    options = WorkerOptions("s/p", "cam", queue_bytes=1 << 30)
    return Worker(options, steps, masker, Guard(policy), sealer, writer, SystemClock())


def run(steps: list[Step], count: int = 25) -> tuple[Counter[str], Counter[tuple[str, str, str]]]:
    """Return sealed rows by stream and the ledger."""
    writer = Writer()
    worker = worker_of(steps, writer)
    for chunk in pictures(count):
        worker.queue.put(chunk, chunk.nbytes)
    worker.queue.close()
    worker.finish_steps = True
    worker.run()
    rows: Counter[str] = Counter()
    ledger: Counter[tuple[str, str, str]] = Counter()
    for commit in writer.commits:
        ledger.update(commit.ledger)
        for batch in commit.batches:
            rows[batch.stream] += batch.rows
    return rows, ledger


def watch(kind: str, **options: Any) -> Step:
    return infer.build_watch(kind, config.STEP_OPTIONS[kind].model_validate(options))  # type: ignore[arg-type]


def test_events_counts_and_stills_come_out_of_a_pipeline() -> None:
    steps: list[Step] = [
        DetectStep("infer", Eyes(), field="image"),  # type: ignore[arg-type]
        watch("track"),
        watch("zone", polygon=[[0.5, 0], [1, 0], [1, 1], [0.5, 1]], still={"before": 1, "after": 1}),
        watch("line", start=[0.5, 1], end=[0.5, 0]),
        watch("count", every="1s"),
    ]
    rows, ledger = run(steps)
    assert rows == {"cam": 25, "cam_detections": 25, "cam_events": 2, "cam_events_stills": 3, "cam_counts": 3}
    for stream in rows:
        read, accepted = (
            sum(n for (s, kind, _), n in ledger.items() if s == stream and kind == k)
            for k in ("read", "accepted")
        )
        lost = sum(
            n
            for (s, kind, _), n in ledger.items()
            if s == stream and kind in ("filtered", "guarded", "rejected")
        )
        assert read == accepted + lost, stream


def test_images_dropped_under_load_are_counted_as_filtered() -> None:
    step = DetectStep("infer", Eyes(), field="image", drop_late=True, clock=Slow())  # type: ignore[arg-type]
    rows, ledger = run([step], 20)  # ten images a second, a look takes two of them
    assert rows["cam"] == 10
    assert ledger["cam", "filtered", "infer"] == 10 * 2  # `frame` and `image` of each
    assert step.counts["late"] == 10


def test_the_pipeline_builds_the_steps_from_their_names() -> None:
    assert isinstance(
        infer.build("infer", InferOptions(model="faces-near", field="image", on_load="drop")), DetectStep
    )
    for kind, options in (("track", {}), ("left_post", {"for": "5s"}), ("present", {"for": "5s"})):
        assert watch(kind, **options).name == kind


def test_each_of_several_models_of_a_pipeline_has_its_report_the_candidates_too() -> None:
    first = InferOptions(model="sensor-anomaly", inputs=["flow"], shadow="sensor-anomaly")
    second = InferOptions(model="energy-forecast", inputs=["flow"])
    steps = [infer.build("infer", options) for options in (first, second, second)]
    told = worker_of(steps, Writer()).reports()
    models = [report["model"].partition("@")[0] for report in told.values()]
    assert list(zip(told, models, strict=True)) == [
        ("infer", "sensor-anomaly"), ("infer_2", "energy-forecast"), ("infer_3", "energy-forecast")
    ]  # fmt: skip
    assert "candidate" in told["infer"]
