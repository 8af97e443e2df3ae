"""Operations with models and pictures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks import reference_series
from benchmarks.model import Case
from forebay.blocks import Block, Type
from forebay.config.models import InferOptions
from forebay.mask import load_policy
from forebay.mask.images import ImageMasker
from forebay_core.image import fit

_HEIGHT, _WIDTH = 1080, 1920


def anomaly() -> Case:
    """The anomaly step on the reference series: 50 devices, 2 inputs."""
    from forebay import infer

    options = InferOptions(model="sensor-anomaly", inputs=("t", "h"))
    step = infer.build("infer", options, key="dev")
    blocks = list(reference_series.blocks(reference_series.generate(60_000), 1_000))
    for block in blocks[:-1]:
        step.process(block)  # beyond calibration, so that scores are made

    def check(out: list[Block]) -> None:
        scores = out[0].column("anomaly").to_list(Type.F64)
        assert len(scores) == 1_000
        assert all(s is not None and 0.0 <= s <= 1.0 for s in scores)

    return Case(lambda: step.process(blocks[-1]), check, lambda s: s * 1e3)


def _frame() -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 256, (_HEIGHT // 8, _WIDTH // 8, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1))


def frame_to_input() -> Case:
    """A 1080p frame resized, normalised and in planes: 300 x 300, as the street detector takes it."""
    import cv2

    frame = _frame()
    out = np.empty(3 * 300 * 300, dtype=np.float32)
    mean, scale = np.full(3, 127.5, dtype=np.float32), np.full(3, 1 / 127.5, dtype=np.float32)
    cv2.setNumThreads(1)

    def run() -> np.ndarray:
        fit(frame, out, 300, 300, 0, 0, 300, 300, mean, scale, True, True, 0.0)
        return out.reshape(3, 300, 300)

    def with_cv2() -> np.ndarray:
        small = cv2.resize(frame, (300, 300), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(
            ((small[:, :, ::-1].astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)
        )

    def blob() -> np.ndarray:
        return cv2.dnn.blobFromImage(frame, 1 / 127.5, (300, 300), (127.5, 127.5, 127.5), swapRB=True)

    def check(made: np.ndarray) -> None:
        assert np.abs(made - with_cv2()).max() < 0.02

    return Case(run, check, lambda s: 1 / s, {"cv2.resize + NumPy": with_cv2, "cv2.dnn.blobFromImage": blob})


class _Boxes:
    """A detector that knows its eight answers, so that only masking is timed."""

    def __init__(self) -> None:
        corners = [(100 + 220 * (i % 4), 100 + 400 * (i // 4)) for i in range(8)]
        self._found = np.array([(x, y, x + 120, y + 150, 0.9) for x, y in corners], dtype=np.float32)

    def detect(self, frame: np.ndarray) -> np.ndarray:
        return self._found


def _regions(operator: str) -> Case:
    policy = load_policy("base", Path())
    masker = ImageMasker(policy, {})
    frame = _frame()
    regions, _ = masker._regions(_Boxes().detect(frame), frame.shape)

    def run() -> np.ndarray:
        for region in regions:
            masker._cover(frame, operator, region)
        return frame

    def check(covered: np.ndarray) -> None:
        left, top, right, bottom = regions[0]
        inside = covered[top:bottom, left:right].reshape(-1, 3)
        most = 1 if operator == "fill" else 400
        assert len(np.unique(inside, axis=0)) <= most

    def with_numpy() -> None:
        for left, top, right, bottom in regions:
            other[top:bottom, left:right] = 0

    def with_cv2() -> None:
        import cv2

        for left, top, right, bottom in regions:
            part = other[top:bottom, left:right]
            size = (right - left, bottom - top)
            small = cv2.resize(
                part, (max(1, size[0] // 16), max(1, size[1] // 16)), interpolation=cv2.INTER_AREA
            )
            other[top:bottom, left:right] = cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)

    other = frame.copy()
    peers = {"NumPy": with_numpy} if operator == "fill" else {"cv2.resize down and up": with_cv2}
    return Case(run, check, lambda s: s * 1e3, peers)


def fill() -> Case:
    """Eight regions of 144 x 180 pixels filled."""
    return _regions("fill")


def pixelate() -> Case:
    """The same pixelated."""
    return _regions("pixelate")


def mask_frame() -> Case:
    """What the step pays beyond decoding and the model: copy of the frame and eight fills."""
    masker = ImageMasker(load_policy("base", Path()), {"face": _Boxes(), "plate": _Boxes()})
    frame = _frame()

    def check(covered: np.ndarray) -> None:
        assert not covered[120:200, 120:180].any()
        assert frame[120:200, 120:180].any(), "the original must stay"

    peers = {"the copy alone": frame.copy}
    return Case(lambda: masker.mask_frame(frame, Counter()), check, lambda s: s * 1e3, peers)
