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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Column
from forebay.config.masking import Zone
from forebay.errors import InputError, MaskError
from forebay.mask.hold import Hold
from forebay.mask.policy import Policy
from forebay.pictures import Frame, Picture, as_bgr, decode, encode, load_cv2

MAX_CAMERAS = 1_000  # whose regions are held; the one not seen for longest goes

Found = dict[str, npt.NDArray[np.float64]]
"""Boxes (n, 4), x1 y1 x2 y2 in pixels, by what was found."""


class Detector(Protocol):
    """Finds one kind of thing in a picture."""

    def detect(self, frame: Frame) -> npt.NDArray[np.float32]:
        """Return float32 (n, 5): x1, y1, x2, y2 in pixels and score, for a BGR frame uint8 (h, w, 3)."""


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
        self._detectors = detectors
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
        found = self.look(frame)
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

    def mask_frame(self, frame: Picture, hits: Counter[str], stream: str = "") -> Picture:
        """Return a copy of the picture, (h, w) or (h, w, 3) of 8 or 16 bits, with all covered that is to be.

        Raises
        ------
        MaskError
            A detector is missing or gave no usable answer. Whatever the detector raises goes through.
        """
        return self.cover(frame, self.look(as_bgr(frame)), hits, stream)

    def look(self, frame: Frame) -> Found:
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
            found[kind] = _boxes(detector.detect(frame))
        return found

    def cover(
        self,
        picture: Picture,
        found: Found,
        hits: Counter[str],
        stream: str = "",
        extra: Found | None = None,
    ) -> Picture:
        """Return a copy of the picture with regions and zones covered.

        Parameters
        ----------
        picture : (h, w) or (h, w, 3), uint8 or uint16
        found : what `look` found, counted as `face:fill` and the like
        hits : counts go here
        stream : decides which zones there are
        extra : regions held from other frames, counted as `face:held`
        """
        out = picture.copy()
        for kind, operator in self._operators.items():
            for boxes, name in ((found.get(kind), operator), ((extra or {}).get(kind), "held")):
                if boxes is None:
                    continue
                regions = self._regions(boxes, picture.shape)
                if regions or name != "held":
                    hits[f"{kind}:{name}"] += len(regions)
                for region in regions:
                    self._cover(out, operator, region)
        for zone in self._options.zones:
            if not zone.streams or any(fnmatch.fnmatchcase(stream, p) for p in zone.streams):
                self._cover_zone(out, zone)
                hits[f"zone:{zone.operator}"] += 1
        return out

    def _regions(self, found: Any, shape: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
        """Return boxes (n, 4 or more) with their margin, as whole pixels within the picture."""
        rows = np.asarray(found, dtype=np.float64)
        if rows.size == 0:
            return []
        x1, y1, x2, y2 = rows[:, :4].T
        across, down = (x2 - x1) * self._options.margin, (y2 - y1) * self._options.margin
        height, width = shape[:2]
        left = np.clip(np.floor(x1 - across), 0, width).astype(int)
        top = np.clip(np.floor(y1 - down), 0, height).astype(int)
        right = np.clip(np.ceil(x2 + across), 0, width).astype(int)
        bottom = np.clip(np.ceil(y2 + down), 0, height).astype(int)
        inside = (right > left) & (bottom > top)
        table = np.stack([left, top, right, bottom], axis=1)[inside].tolist()
        return [(a, b, c, d) for a, b, c, d in table]

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

    def _cover_zone(self, frame: Picture, zone: Zone) -> None:
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


def _boxes(found: Any) -> npt.NDArray[np.float64]:
    rows = np.asarray(found, dtype=np.float64)
    if rows.size == 0 and rows.ndim == 2:
        return np.zeros((0, 4))
    if rows.ndim != 2 or rows.shape[1] != 5 or not np.isfinite(rows).all():
        raise MaskError(f"a detector answered with shape {rows.shape}, expected finite (n, 5)")
    return rows[:, :4]


__all__ = ["Detector", "Found", "ImageMasker", "InputError", "Origin"]
