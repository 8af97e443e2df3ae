"""Detectors: frames in, boxes in pixels of the frame out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forebay.errors import InputError, ModelError
from forebay.infer.bundle import TRY_NS, Bundle, find, load, open_session
from forebay.infer.decoders import F32, I32, Found
from forebay.infer.fit import decoder_of
from forebay.infer.manifest import ImagePreprocessing, Task
from forebay.infer.nms import drop_parts, suppress
from forebay.infer.session import Session, SessionOptions, SessionPool
from forebay_core import image as kernel

Frame = npt.NDArray[np.uint8]

TILE_OVERLAP = 0.2  # share of a tile's side that its neighbour sees too
PART = 0.8  # a box this far inside a larger one of another pass is a part of it,
LESSER_PART = 0.6  # and this far inside a better one
MAX_TILES = 64  # a run costs up to a second; beyond, tiles become coarser
BAND_PIXELS = 530_000  # of a model's input; the memory of a run grows with them
BAND_OVERLAP = 128  # model pixels that two bands share: what is larger shows in the overview
AGAIN_SIDE = 1.8  # a second look sees so many times the larger side of a box,
AGAIN_PIXELS = 33  # in which that side then has so many pixels: an input of 64 x 64, 1 ms with `faces`,
AGAIN_SAME = 0.3  # and what it finds must overlap with the box so much (IoU)
AGAIN_SMALL = (
    16  # pixels of the frame; most boxes below are noise: they need twice the score for a second look
)
MAX_AGAIN = 96  # second looks at one frame, the best boxes first


@dataclass(frozen=True, slots=True)
class Detection:
    """One object: its label, score 0..1 and box x1, y1, x2, y2 in pixels of the frame.

    `text` is what was read in the box and `text_score` how surely; None where nobody read.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    text: str | None = None
    text_score: float | None = None


@dataclass(frozen=True, slots=True)
class _Pass:
    """A region of the frame and the size at which the model sees it."""

    top: int
    left: int
    height: int
    width: int
    inner_height: int
    inner_width: int


def check_frame(frame: Frame) -> Frame:
    """Return a frame as BGR uint8 (h, w, 3), C-contiguous; grey and alpha are converted.

    Raises
    ------
    InputError
        For another type, shape or an empty frame.
    """
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or not frame.size:
        raise InputError(f"expected an image uint8 (h, w, 3), found {frame.dtype}{list(frame.shape)}")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    channels = frame.shape[2]
    if channels == 1:
        frame = np.repeat(frame, 3, axis=2)
    elif channels == 4:
        frame = frame[:, :, :3]
    elif channels != 3:
        raise InputError(f"expected an image of 1, 3 or 4 channels, found {channels}")
    return np.ascontiguousarray(frame)


class Detector:
    """A detection model ready to run. May be used from several threads.

    Parameters
    ----------
    bundle, session : verified and loaded
    threshold : least score; the manifest's if None
    tiles : look also at tiles x tiles parts of the frame (models of fixed input size)
    classes : labels to keep; empty keeps all
    resolution : model pixels per frame pixel in place of the manifest's (models of variable input size)
    most : a higher resolution, for frames that it still lets the model see in one piece
    again : boxes below the threshold that have at least this score are looked at a second time, larger, and
        count if that reaches the threshold (models of variable input size); None: none are
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        *,
        threshold: float | None = None,
        tiles: int = 1,
        classes: tuple[str, ...] = (),
        resolution: float | None = None,
        most: float = 0.0,
        again: float | None = None,
    ) -> None:
        manifest = bundle.manifest
        prep = manifest.preprocessing
        if manifest.task is not Task.DETECTION or not isinstance(prep, ImagePreprocessing):
            raise ModelError(f"expected a detection model, found task {manifest.task}", place=bundle.place)
        unknown = sorted(set(classes) - set(manifest.labels))
        if unknown:
            hint = f"it knows: {', '.join(manifest.labels)}"
            raise ModelError(f"the model has no class `{unknown[0]}`", place=bundle.place, hint=hint)
        self.name = manifest.name
        self.model = bundle.model
        self.threshold = manifest.thresholds.score if threshold is None else threshold
        self._iou = manifest.thresholds.iou
        self._labels = manifest.labels
        self._wanted = np.array([not classes or label in classes for label in manifest.labels], dtype=bool)
        self._prep, self._session, self._tiles = prep, session, tiles
        self._resolution, self._most = prep.resolve if resolution is None else resolution, most
        self._least = self.threshold if again is None else min(again, self.threshold)
        self._decode = decoder_of(manifest, self.name)
        self._input = manifest.inputs[0].name
        self._outputs = tuple(t.name for t in manifest.outputs)
        self._mean = np.array(prep.mean, dtype=np.float32)
        self._scale = np.array(prep.scale, dtype=np.float32)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that it may give."""
        return tuple(k for k, wanted in zip(self._labels, self._wanted.tolist(), strict=True) if wanted)

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers that run it."""
        return self._session.providers

    def detect(self, frame: Frame) -> F32:
        """Return float32 (n, 5): x1, y1, x2, y2, score in pixels of the frame, best first.

        For masking: a box that lies partly within another one is kept.

        Parameters
        ----------
        frame : uint8 (h, w, 3), BGR; grey and BGRA are taken too

        Raises
        ------
        InputError
            If it is no image.
        ModelError
            If the model fails.
        """
        boxes, scores, _, _ = self._run(check_frame(frame))
        return np.concatenate([boxes, scores[:, None]], axis=1)

    def detect_labelled(self, frame: Frame) -> list[Detection]:
        """Return the detections, best first, as `detect` but without parts that a tile's edge cut off."""
        boxes, scores, labels, passes = self._run(check_frame(frame))
        keep = drop_parts(boxes, scores, labels, passes, PART, LESSER_PART)
        return [
            Detection(self._labels[k], round(float(s), 4), tuple(round(float(v), 1) for v in b))  # type: ignore[arg-type]
            for b, s, k in zip(boxes[keep], scores[keep], labels[keep].tolist(), strict=True)
        ]

    def _run(self, frame: Frame) -> tuple[F32, F32, I32, I32]:
        height, width = frame.shape[:2]
        found = [self._look(frame, p) for p in self._plan(height, width)]
        boxes = np.concatenate([f[0] for f in found])
        scores, labels = (np.concatenate([f[k] for f in found]) for k in (1, 2))
        passes = np.repeat(np.arange(len(found), dtype=np.int32), [len(f[1]) for f in found])
        np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32), out=boxes)
        usable = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1) & self._wanted[labels]
        boxes, scores, labels, passes = boxes[usable], scores[usable], labels[usable], passes[usable]
        if self._least < self.threshold:
            keep = suppress(boxes, scores, labels, self._iou)  # so that nothing is looked at twice more
            boxes, scores, labels, passes = boxes[keep], scores[keep], labels[keep], passes[keep]
            self._look_again(frame, boxes, scores, labels)
            sure = scores >= self.threshold
            boxes, scores, labels, passes = boxes[sure], scores[sure], labels[sure], passes[sure]
        keep = suppress(boxes, scores, labels, self._iou)
        return boxes[keep], scores[keep], labels[keep], passes[keep]

    def _look_again(self, frame: Frame, boxes: F32, scores: F32, labels: I32) -> None:
        """Look at each box below the threshold, larger; write what is seen there in its place."""
        height, width = frame.shape[:2]
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        enough = scores >= np.where(sides < AGAIN_SMALL, 2 * self._least, self._least)
        for k in np.flatnonzero(enough & (scores < self.threshold))[:MAX_AGAIN].tolist():
            x1, y1, x2, y2 = boxes[k].tolist()
            side = max(x2 - x1, y2 - y1)
            reach = side * AGAIN_SIDE / 2
            left, top = max(0, int((x1 + x2) / 2 - reach)), max(0, int((y1 + y2) / 2 - reach))
            right, bottom = (
                min(width, int((x1 + x2) / 2 + reach) + 1),
                min(height, int((y1 + y2) / 2 + reach) + 1),
            )
            w, h = right - left, bottom - top
            part = _Pass(top, left, h, w, *_scaled(h, w, AGAIN_PIXELS / side))
            seen, sure, kinds = self._look(frame, part)
            same = np.flatnonzero((kinds == labels[k]) & (_overlaps(boxes[k], seen) >= AGAIN_SAME))
            best = int(same[sure[same].argmax()]) if len(same) else -1
            if best >= 0 and sure[best] >= self.threshold:
                np.clip(seen[best], 0, (width, height, width, height), out=boxes[k])
                scores[k] = sure[best]

    def _look(self, frame: Frame, p: _Pass) -> Found:
        """Run the model on one region, return what it found in pixels of the frame."""
        prep = self._prep
        if prep.fit == "scale":
            height, width = (-(-s // prep.multiple) * prep.multiple for s in (p.inner_height, p.inner_width))
            top = left = 0
        else:
            height, width = prep.size
            top, left = (height - p.inner_height) // 2, (width - p.inner_width) // 2
        planar = prep.layout == "nchw"
        tensor = np.empty(3 * height * width, dtype=np.float32)
        region = frame[p.top : p.top + p.height, p.left : p.left + p.width]
        kernel.fit(
            region, tensor, height, width, top, left, p.inner_height, p.inner_width,
            self._mean, self._scale, prep.colour == "rgb", planar, prep.pad,
        )  # fmt: skip
        shape = (1, 3, height, width) if planar else (1, height, width, 3)
        outputs = self._session.run({self._input: tensor.reshape(shape)}, self._outputs)
        # NaN compares false: such a model would find nothing, and masking would let everything pass
        if not all(bool(np.isfinite(out).all()) for out in outputs):
            raise ModelError("the model answered with numbers that are not finite", place=self.name)
        boxes, scores, labels = self._decode(outputs, height, width, self._least)
        boxes = (boxes - np.array([left, top, left, top], dtype=np.float32)) * np.array(
            [p.width / p.inner_width, p.height / p.inner_height] * 2, dtype=np.float32
        ) + np.array([p.left, p.top, p.left, p.top], dtype=np.float32)
        return boxes.astype(np.float32), scores.astype(np.float32), labels

    def _plan(self, height: int, width: int) -> list[_Pass]:
        """Return the regions to look at."""
        prep = self._prep
        if prep.fit == "scale":
            return self._plan_scaled(height, width)
        regions = [(0, 0, height, width)]
        if self._tiles > 1:
            regions += _grid(height, width, self._tiles, self._tiles)
        return [self._placed(*r) for r in regions]

    def _placed(self, top: int, left: int, height: int, width: int) -> _Pass:
        inner_height, inner_width = self._prep.size
        if self._prep.fit == "letterbox":
            ratio = min(inner_height / height, inner_width / width)
            inner_height, inner_width = max(1, round(height * ratio)), max(1, round(width * ratio))
        return _Pass(top, left, height, width, inner_height, inner_width)

    def _plan_scaled(self, height: int, width: int) -> list[_Pass]:
        """Whole frame so that the smallest wanted object shows, beyond `max_side` also tiles; an overview.

        Where there is an overview, a large frame is seen in bands: as much is found, and memory stays bounded.
        """
        prep, long = self._prep, max(height, width)
        most = self._most if self._tiles == 1 else 0.0  # tiles enlarge enough
        resolution = max(self._resolution, min(most, prep.max_side / long))
        ratio = max(resolution, min(prep.min_side / long, 4.0)) * self._tiles
        first = min(ratio, prep.max_side / long)
        whole = _Pass(0, 0, height, width, *_scaled(height, width, first))
        passes = _bands(whole, first) if prep.overview else [whole]
        if ratio * long > prep.max_side:
            rows, columns = (max(1, math.ceil(s * ratio / prep.max_side)) for s in (height, width))
            coarser = max(1.0, math.sqrt(rows * columns / MAX_TILES))
            rows, columns = max(1, int(rows / coarser)), max(1, int(columns / coarser))
            for top, left, h, w in _grid(height, width, rows, columns):
                passes.append(_Pass(top, left, h, w, *_scaled(h, w, min(ratio, prep.max_side / max(h, w)))))
        if prep.overview and max(whole.inner_height, whole.inner_width) > 1.5 * prep.overview:
            passes.append(_Pass(0, 0, height, width, *_scaled(height, width, prep.overview / long)))
        return passes


def _overlaps(box: F32, others: F32) -> F32:
    """Return the intersection over union of a box with each of the others."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = np.clip(size, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    shares: F32 = both / np.maximum(areas - both, 1e-6)
    return shares


def _scaled(height: int, width: int, ratio: float) -> tuple[int, int]:
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def _bands(whole: _Pass, ratio: float) -> list[_Pass]:
    """Return overlapping bands from the top down, one if the pass is small enough."""
    count = math.ceil(whole.inner_height * whole.inner_width / BAND_PIXELS)
    overlap = math.ceil(BAND_OVERLAP / ratio)
    size = math.ceil((whole.height + (count - 1) * overlap) / count)
    if count == 1 or size <= 2 * overlap:
        return [whole]
    starts = [round(k * (whole.height - size) / (count - 1)) for k in range(count)]
    return [_Pass(top, 0, size, whole.width, *_scaled(size, whole.width, ratio)) for top in starts]


def _grid(height: int, width: int, rows: int, columns: int) -> list[tuple[int, int, int, int]]:
    """Return overlapping regions (top, left, height, width) that cover the frame."""
    out = []
    for top, h in _cuts(height, rows):
        for left, w in _cuts(width, columns):
            out.append((top, left, h, w))
    return out


def _cuts(length: int, count: int) -> list[tuple[int, int]]:
    if count == 1:
        return [(0, length)]
    size = min(length, math.ceil(length / (count - (count - 1) * TILE_OVERLAP)))
    starts = [round(k * (length - size) / (count - 1)) for k in range(count)]
    return [(start, size) for start in starts]


def load_detector(
    name: str,
    threshold: float | None = None,
    *,
    bundles_dir: Path | None = None,
    base: Path | None = None,
    pool: SessionPool | None = None,
    options: SessionOptions | None = None,
    verify: bool = True,
    tiles: int = 1,
    classes: tuple[str, ...] = (),
    resolution: float | None = None,
    again: float | None = None,
) -> Detector:
    """Return a detector by bundle name or path.

    Parameters
    ----------
    name : e.g. `faces`, `faces-near`, `plates-cn`, `street-objects`, or a folder with a separator in it
    threshold : least score, the manifest's if None
    bundles_dir, base : see bundle.find
    pool, options, verify : sessions shared through `pool`, each run limited if nothing is said; golden check at load
    tiles, classes, resolution, again : see Detector

    Raises
    ------
    ModelError
        If the bundle is missing, damaged or not a detector.
    """
    bundle = load(find(name, bundles_dir=bundles_dir, base=base))
    session = open_session(
        bundle, pool or SessionPool(), options or SessionOptions(limit_ns=TRY_NS), verify=verify
    )
    return Detector(
        bundle, session, threshold=threshold, tiles=tiles, classes=classes, resolution=resolution, again=again
    )
