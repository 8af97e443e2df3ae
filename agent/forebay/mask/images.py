"""Mask pictures: find faces, plates and persons, cover them, write the picture anew without its metadata.

Invariants
----------
- The original never passes: what cannot be read, searched or written becomes null(detector_failed).
- Values and decoded frames are replaced together, so no step behind can reach an uncovered frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import MAX_BYTES_BYTES, Column
from forebay.errors import InputError, MaskError, MissingExtra
from forebay.mask.policy import Policy

MAX_PIXELS = (
    64_000_000  # a picture beyond this is refused before it is decoded: a small file can claim any size
)

Frame = npt.NDArray[np.uint8]


class Detector(Protocol):
    """Finds one kind of thing in a picture."""

    def detect(self, frame: Frame) -> npt.NDArray[np.float32]:
        """Return float32 (n, 5): x1, y1, x2, y2 in pixels and score, for a BGR frame uint8 (h, w, 3)."""


class ImageMasker:
    """Masks encoded pictures after a policy's `images`."""

    def __init__(self, policy: Policy, detectors: Mapping[str, Detector]) -> None:
        self._options = policy.options.images
        self._operators = policy.image_classes
        self._detectors = detectors

    def apply(self, column: Column, hits: Counter[str]) -> Column:
        """Return the column with each picture masked, or null where that could not be done."""
        assert column.offsets is not None
        null = column.is_null()
        codes = np.zeros(column.rows, dtype=np.uint8) if column.quality is None else column.quality.copy()
        cells: list[bytes] = []
        frames: list[Frame | None] = []
        for row in range(column.rows):
            cell, frame = b"", None
            if not null[row]:
                held = column.frames[row] if column.frames is not None else None
                found: Counter[str] = Counter()
                try:
                    frame = self.mask_frame(decode(column.cell_bytes(row)) if held is None else held, found)
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

    def mask_frame(self, frame: Frame, hits: Counter[str]) -> Frame:
        """Return a copy of the frame with everything covered that the policy names.

        Raises
        ------
        MaskError
            A detector is missing or gave no usable answer. Whatever the detector raises goes through.
        """
        boxes: list[tuple[str, list[tuple[int, int, int, int]]]] = []
        for kind, operator in self._operators.items():
            detector = self._detectors.get(kind)
            if detector is None:
                raise MaskError(f"there is no detector for `{kind}`, which the policy masks")
            regions = self._regions(detector.detect(frame), frame.shape)
            hits[f"{kind}:{operator}"] += len(regions)
            boxes.append((operator, regions))
        # all detectors see the original: a filled face must not hide the person around it
        out = frame.copy()
        for operator, regions in boxes:
            for region in regions:
                self._cover(out, operator, region)
        return out

    def _regions(self, found: Any, shape: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
        rows = np.asarray(found, dtype=np.float64)
        if rows.size == 0:
            return []
        if rows.ndim != 2 or rows.shape[1] != 5 or not np.isfinite(rows).all():
            raise MaskError(f"a detector answered with shape {rows.shape}, expected finite (n, 5)")
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

    def _cover(self, frame: Frame, operator: str, region: tuple[int, int, int, int]) -> None:
        left, top, right, bottom = region
        view = frame[top:bottom, left:right]
        if operator == "fill":
            view[:] = 0
            return
        cv2 = _cv2()
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


def decode(data: bytes) -> Frame:
    """Return the picture as BGR uint8 (h, w, 3), turned as its metadata says.

    Raises
    ------
    InputError
        Not a picture, cut off, or larger than MAX_PIXELS.
    """
    cv2 = _cv2()
    if not data or len(data) > 8 * MAX_BYTES_BYTES:
        raise InputError(f"expected an encoded picture, found {len(data)} bytes")
    size = claimed_size(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"a picture of {size[0]} x {size[1]} is larger than {MAX_PIXELS} pixels")
    if data[:3] == b"\xff\xd8\xff" and b"\xff\xd9" not in data[-4096:]:
        raise InputError(f"a JPEG of {len(data)} bytes is cut off: no end marker")
    if data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" not in data[-4096:]:
        raise InputError(f"a PNG of {len(data)} bytes is cut off: no end chunk")
    try:
        frame = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        frame = None
    if frame is None:
        raise InputError(f"{len(data)} bytes are no picture that can be read")
    return np.asarray(frame, dtype=np.uint8)


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) from the header of a JPEG or PNG, None where it does not say."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def encode(frame: Frame, suffix: str, quality: int) -> bytes:
    """Return the frame as a file of a format (`.jpg`, `.png`, ...). Raises InputError."""
    cv2 = _cv2()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(suffix, frame, options)
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"cannot write a {frame.shape[1]} x {frame.shape[0]} picture as {suffix}")
    return bytes(data)


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("masking of pictures", "vision") from error
    return cv2
