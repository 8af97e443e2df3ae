"""Mask pictures: find faces, plates, persons and text, cover them and fixed zones, write the picture anew.

Invariants
----------
- The original never passes: what cannot be read, searched or written becomes null(detector_failed).
- Values and decoded frames are replaced together, so no step behind can reach an uncovered frame.
- What comes out was encoded from pixels: metadata, thumbnails, alpha and further pages are not in it.
"""

from __future__ import annotations

import fnmatch
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Column
from forebay.config.masking import Zone
from forebay.errors import InputError, MaskError
from forebay.mask.hold import Hold
from forebay.mask.policy import Policy
from forebay.mask.written import Written
from forebay.pictures import Frame, Picture, as_bgr, decode, encode, load_cv2
from forebay_core import text_tables as tables

MAX_CAMERAS = 1_000  # whose regions are held; the one not seen for longest goes

Found = dict[str, npt.NDArray[np.float64]]
"""By what was found (n, 5): x1 y1 x2 y2 in pixels and score. An `identifier` has a sixth number: its class."""


class Detector(Protocol):
    """Finds one kind of thing in a picture. Its `model`, where it has one, is `name@version#hash`."""

    def detect(self, frame: Frame) -> npt.NDArray[np.float32]:
        """Return float32 (n, 5): x1, y1, x2, y2 in pixels and score, for a BGR frame uint8 (h, w, 3)."""


class Covered(NamedTuple):
    """A region that was covered: as what, found by whom, where with its margin, how surely, and how and why.

    `by` is a model, `hold`, or a zone's name; only what a model saw in this very frame has a score.
    """

    kind: str
    by: str
    box: tuple[int, int, int, int]
    score: float | None
    operator: str
    rule: str


Tell = Callable[[Covered], None]


@dataclass(slots=True)
class Origin:
    """Where a column of pictures comes from: its stream, and of each row the camera and the time in ns.

    Rows that are frames of a video, decoded and not yet encoded, follow each other: their regions are held.
    """

    stream: str = ""
    cameras: Sequence[Any] = ()
    times: Sequence[int] = field(default_factory=list)


class ImageMasker:
    """Masks pictures after a policy's `images`. Used by one thread."""

    def __init__(self, policy: Policy, detectors: Mapping[str, Detector]) -> None:
        self._options = policy.options.images
        self._operators = policy.image_classes
        self._detectors, self._policy = detectors, policy
        self._written = Written(policy)
        self._models: dict[str, str] = {}  # by class, who looked last
        self._holds: OrderedDict[tuple[str, Any], Hold] = OrderedDict()

    def apply(self, column: Column, hits: Counter[str], origin: Origin | None = None) -> Column:
        """Return the column with each picture masked, or null where that could not be done."""
        assert column.offsets is not None
        origin = origin or Origin()
        null = column.is_null()
        codes = np.zeros(column.rows, dtype=np.uint8) if column.quality is None else column.quality.copy()
        cells: list[bytes] = []
        frames: list[Frame | None] = []
        for row in range(column.rows):
            cell, frame = b"", None
            if not null[row]:
                found: Counter[str] = Counter()
                try:
                    frame = self._row(column, row, origin, found)
                    cell = encode(frame, ".jpg", self._options.quality)
                    hits.update(found)
                    hits.update(self.seen_by())
                except Exception:  # noqa: BLE001 - a detector is a model: whatever it raises, nothing passes
                    cell, frame = b"", None
                    codes[row] = q.DETECTOR_FAILED
                    hits["image:detector_failed"] += 1
            cells.append(cell)
            frames.append(frame)
        offsets = np.zeros(len(cells) + 1, dtype=np.int64)
        np.cumsum([len(c) for c in cells], out=offsets[1:])
        values = np.frombuffer(b"".join(cells), dtype=np.uint8)
        kept = frames if column.frames is not None else None
        return Column(values, offsets, codes if codes.any() else None, None, kept)

    def _row(self, column: Column, row: int, origin: Origin, hits: Counter[str]) -> Frame:
        assert column.offsets is not None
        held = column.frames[row] if column.frames is not None else None
        frame = decode(column.cell_bytes(row)) if held is None else held
        found = self.look(frame, origin.stream)
        video = held is not None and column.offsets[row] == column.offsets[row + 1]
        if video and self._options.hold and row < len(origin.times):
            camera = origin.cameras[row] if row < len(origin.cameras) else None
            extra = self._hold((origin.stream, camera)).update(origin.times[row], frame.shape, found)
        else:
            extra = {}
        covered = self.cover(frame, found, hits, origin.stream, extra)
        return np.asarray(covered, dtype=np.uint8)

    def _hold(self, camera: tuple[str, Any]) -> Hold:
        hold = self._holds.pop(camera, None) or Hold(self._options.hold)
        self._holds[camera] = hold
        if len(self._holds) > MAX_CAMERAS:
            self._holds.popitem(last=False)
        return hold

    def mask_frame(
        self, frame: Picture, hits: Counter[str], stream: str = "", tell: Tell | None = None
    ) -> Picture:
        """Return a copy of the picture, (h, w) or (h, w, 3) of 8 or 16 bits, with all covered that is to be.

        Raises
        ------
        MaskError
            A detector is missing or gave no usable answer. Whatever the detector raises goes through.
        """
        covered = self.cover(frame, self.look(as_bgr(frame), stream), hits, stream, tell=tell)
        hits.update(self.seen_by())
        return covered

    def look(self, frame: Frame, stream: str = "") -> Found:
        """Return what the policy wants covered in a BGR frame. All detectors see the original.

        Raises
        ------
        MaskError
            A detector is missing or gave no usable answer. Whatever the detector raises goes through.
        """
        found: Found = {}
        for kind in self._operators:
            detector = self._detectors.get(kind)
            if detector is None:
                raise MaskError(f"there is no detector for `{kind}`, which the policy masks")
            self._models[kind] = getattr(detector, "model", "")
            if kind == "identifier":
                boxes, texts = detector.read(frame)  # type: ignore[attr-defined]
                found[kind] = self._written.find(_boxes(boxes), texts, stream)
            else:
                found[kind] = _boxes(detector.detect(frame))
        return found

    def seen_by(self) -> Counter[str]:
        """Return the models that looked at the last picture, counted once each: `detector:name@version#hash`."""
        return Counter(f"detector:{model}" for model in set(self._models.values()) if model)

    def cover(
        self,
        picture: Picture,
        found: Found,
        hits: Counter[str],
        stream: str = "",
        extra: Found | None = None,
        tell: Tell | None = None,
    ) -> Picture:
        """Return a copy of the picture with regions and zones covered.

        Parameters
        ----------
        picture : (h, w) or (h, w, 3), uint8 or uint16
        found : what `look` found, counted as `face:fill` and the like
        hits : counts go here
        stream : decides which zones there are
        extra : regions held from other frames, counted as `face:held`
        tell : told of each region
        """
        out = picture.copy()
        for kind, operator in self._operators.items():
            for boxes, is_held in ((found.get(kind), False), ((extra or {}).get(kind), True)):
                if boxes is None:
                    continue
                regions, rows = self._regions(boxes, picture.shape)
                if regions or not is_held:
                    hits[f"{kind}:{'held' if is_held else operator}"] += len(regions)
                for region, row in zip(regions, rows, strict=True):
                    self._cover(out, operator, region)
                    if tell is not None:
                        tell(self._told(kind, operator, region, None if is_held else row))
        for zone in self._options.zones:
            if not zone.streams or any(fnmatch.fnmatchcase(stream, p) for p in zone.streams):
                region = self._cover_zone(out, zone)
                hits[f"zone:{zone.operator}"] += 1
                if tell is not None:
                    rule = self._rule("zones")
                    tell(Covered("zone", zone.name, region, None, zone.operator, rule))
        return out

    def _told(
        self, kind: str, operator: str, region: tuple[int, int, int, int], row: list[float] | None
    ) -> Covered:
        if row is None:
            return Covered(kind, "hold", region, None, operator, self._rule("hold"))
        label = kind
        if len(row) > 5:  # what stands in the line
            label = f"{kind} ({tables.CLASSES[int(row[5])] or 'unread'})"
        by = self._models.get(kind) or "detector"
        return Covered(label, by, region, row[4], operator, self._rule(kind))

    def _rule(self, key: str) -> str:
        """Return the key of the policy that decides, with its place."""
        place = self._policy.where(("images", key))
        return f"images.{key}" + (f" ({place})" if place else "")

    def _regions(
        self, found: Any, shape: tuple[int, ...]
    ) -> tuple[list[tuple[int, int, int, int]], list[list[float]]]:
        """Return boxes (n, 4 or more) with their margin, as whole pixels within the picture, and their rows."""
        rows = np.asarray(found, dtype=np.float64)
        if rows.size == 0:
            return [], []
        x1, y1, x2, y2 = rows[:, :4].T
        across, down = (x2 - x1) * self._options.margin, (y2 - y1) * self._options.margin
        height, width = shape[:2]
        left = np.clip(np.floor(x1 - across), 0, width).astype(int)
        top = np.clip(np.floor(y1 - down), 0, height).astype(int)
        right = np.clip(np.ceil(x2 + across), 0, width).astype(int)
        bottom = np.clip(np.ceil(y2 + down), 0, height).astype(int)
        inside = (right > left) & (bottom > top)
        table = np.stack([left, top, right, bottom], axis=1)[inside].tolist()
        return [(a, b, c, d) for a, b, c, d in table], rows[inside].tolist()

    def _cover(self, frame: Picture, operator: str, region: tuple[int, int, int, int]) -> None:
        left, top, right, bottom = region
        view = frame[top:bottom, left:right]
        if operator == "fill":
            view[:] = 0
            return
        cv2 = load_cv2("pictures")
        height, width = view.shape[:2]
        longer = max(height, width)
        if operator == "blur":
            sigma = max(longer / 4, 4)  # wide enough that no feature of a face is left
            view[:] = cv2.GaussianBlur(view, (0, 0), sigma)
            return
        blocks = self._options.blocks
        size = (max(1, round(width * blocks / longer)), max(1, round(height * blocks / longer)))
        small = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
        view[:] = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)

    def _cover_zone(self, frame: Picture, zone: Zone) -> tuple[int, int, int, int]:
        """Cover a zone and return the rectangle around it."""
        height, width = frame.shape[:2]
        corners = np.array(zone.polygon, dtype=np.float64) * (width, height)
        left, top = np.floor(corners.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(corners.max(axis=0)).astype(int).tolist()
        region = (max(0, min(left, width - 1)), max(0, min(top, height - 1)), max(1, right), max(1, bottom))
        inside = np.zeros((region[3] - region[1], region[2] - region[0]), dtype=np.uint8)
        # an edge through a pixel covers that pixel: fillPoly draws the outline too
        load_cv2("pictures").fillPoly(inside, [np.round(corners - region[:2]).astype(np.int32)], 1)
        view = frame[region[1] : region[3], region[0] : region[2]]
        patch = view.copy()
        self._cover(patch, zone.operator, (0, 0, patch.shape[1], patch.shape[0]))
        chosen = inside[: view.shape[0], : view.shape[1]].astype(bool)
        view[chosen] = patch[chosen]
        return region


def _boxes(found: Any) -> npt.NDArray[np.float64]:
    rows = np.asarray(found, dtype=np.float64)
    if rows.size == 0 and rows.ndim == 2:
        return np.zeros((0, 5))
    if rows.ndim != 2 or rows.shape[1] != 5 or not np.isfinite(rows).all():
        raise MaskError(f"a detector answered with shape {rows.shape}, expected finite (n, 5)")
    return rows


__all__ = ["Covered", "Detector", "Found", "ImageMasker", "InputError", "Origin", "Tell"]
