"""Read text in pictures: the extra `ocr`. Where it stands, the bundle `text-lines` or another detector says.

The reader is RapidOCR (PP-OCR as ONNX, Apache-2.0), of which only the recognition is used: its models come in its
package, and their paths are given to it, so that nothing is ever fetched. It runs within the process, on one thread.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from forebay.errors import MissingExtra, ModelError
from forebay.infer.decoders import F32
from forebay.infer.session import ModelTimeout, SessionOptions, load_runtime
from forebay.infer.vision import Detection, Detector, Frame
from forebay.pictures import load_cv2

MAX_LINES = 300  # of one picture: more are a pattern that looks like text, and cannot be looked at
_MARGIN = 0.08  # of a line's height, on each side: what a box cut off is not read
_UPRIGHT = 1.5  # a box so much higher than wide holds a line that runs down
_PROOF = "2026 0134 5789"  # what the loaded reader has to read


class Reader:
    """Reads single lines. May be used from several threads, one of which reads at a time.

    Attributes
    ----------
    model : `rapidocr@VERSION#HASH`, the hash over the model files of the package
    """

    def __init__(self, options: SessionOptions | None = None, *, verify: bool = True) -> None:
        options = options or SessionOptions()
        load_runtime()  # before RapidOCR imports it, so that its telemetry is off
        try:
            package = importlib.import_module("rapidocr")
        except ImportError as error:
            raise MissingExtra("reading text in pictures", "ocr") from error
        folder = Path(str(package.__file__)).parent / "models"
        files = {stage: _model_file(folder, f"*{stage.lower()}*.onnx") for stage in ("Det", "Cls", "Rec")}
        told = hashlib.sha256(files["Rec"].read_bytes())
        version = importlib.import_module("importlib.metadata").version("rapidocr")
        self.model = f"rapidocr@{version}#{told.hexdigest()[:8]}"
        self._limit_ns, self._lock = options.limit_ns, threading.Lock()
        settings: dict[str, Any] = {
            "Global.log_level": "critical",
            "Global.use_det": False,
            "Global.use_cls": False,
            "EngineConfig.onnxruntime.intra_op_num_threads": options.threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            **{f"{stage}.model_path": str(path) for stage, path in files.items()},
        }
        try:
            self._engine = package.RapidOCR(params=settings)
        except Exception as error:
            raise ModelError(
                f"the reader does not start: {type(error).__name__}", place=self.model
            ) from error
        if verify:
            self._prove()

    def _prove(self) -> None:
        cv2 = load_cv2("text")
        page = np.full((48, 320, 3), 255, np.uint8)
        cv2.putText(page, _PROOF, (8, 34), cv2.FONT_HERSHEY_DUPLEX, 1.0, (0, 0, 0), 2, cv2.LINE_AA)
        text, _ = self.read_line(page)
        if text.replace(" ", "") != _PROOF.replace(" ", ""):
            raise ModelError("the reader does not read its proof on this machine", place=self.model)

    def read_line(self, line: Frame) -> tuple[str, float]:
        """Return what stands in a picture of one line, BGR uint8 (h, w, 3), and the score of the reading.

        Raises
        ------
        ModelError
            The reader failed; without what it read in the text.
        """
        try:
            with self._lock:
                told = self._engine(line)
            texts, scores = told.txts, told.scores
            (text,), (score,) = texts, scores
            return str(text), float(score)
        except Exception as error:  # noqa: BLE001 - the library's errors have no common base
            raise ModelError(f"the reader failed: {type(error).__name__}", place=self.model) from None

    def read(self, frame: Frame, boxes: F32) -> tuple[list[str], list[float]]:
        """Return what stands in each box, and the scores of the readings.

        Parameters
        ----------
        frame : BGR uint8 (h, w, 3)
        boxes : (n, 4 or more), x1 y1 x2 y2 in its pixels, each around one line

        Raises
        ------
        ModelError
            The reader failed, or there are more lines than it will read.
        ModelTimeout
            Not done within the time limit of a run.
        """
        if len(boxes) > MAX_LINES:
            raise ModelError(f"more than {MAX_LINES} lines of text in one picture", place=self.model)
        began = time.monotonic_ns()
        found = []
        for x1, y1, x2, y2 in boxes[:, :4].tolist():
            found.append(self.read_line(_cut(frame, (x1, y1, x2, y2))))
            if self._limit_ns and time.monotonic_ns() - began > self._limit_ns:
                raise ModelTimeout(f"not done within {self._limit_ns / 1e9:g} s", place=self.model)
        return [text for text, _ in found], [score for _, score in found]

    def read_boxes(self, frame: Frame, found: Sequence[Detection]) -> list[Detection]:
        """Return the detections with what stands in them. Raises as `read` does."""
        boxes = np.array([d.box for d in found], dtype=np.float32).reshape(-1, 4)
        texts, scores = self.read(frame, boxes)
        return [
            replace(d, text=text, text_score=round(score, 4))
            for d, text, score in zip(found, texts, scores, strict=True)
        ]


class LineReader:
    """Finds the lines of text in a picture and reads them: what masking asks for identifiers.

    Attributes
    ----------
    model : of the detector and of the reader
    """

    def __init__(self, detector: Detector, reader: Reader) -> None:
        self._detector, self._reader = detector, reader
        self.model = f"{detector.model} {reader.model}"

    def read(self, frame: Frame) -> tuple[F32, list[str]]:
        """Return float32 (n, 5), box and the score of the reading, and what stands in each box."""
        boxes = self._detector.detect(frame)
        texts, scores = self._reader.read(frame, boxes)
        return np.concatenate([boxes[:, :4], np.array(scores, np.float32).reshape(-1, 1)], axis=1), texts


def _model_file(folder: Path, pattern: str) -> Path:
    found: Sequence[Path] = sorted(folder.glob(pattern))
    if len(found) != 1:  # asked without a path, the library would fetch one
        raise ModelError(f"expected one {pattern} in the package, found {len(found)}", place="rapidocr")
    return found[0]


def _cut(frame: Frame, box: tuple[float, float, float, float]) -> Frame:
    """Return the part of a frame, turned to the left if its line runs from the top down."""
    height, width = frame.shape[:2]
    edge = _MARGIN * min(box[2] - box[0], box[3] - box[1])
    left, top = max(0, int(box[0] - edge)), max(0, int(box[1] - edge))
    right, bottom = min(width, int(box[2] + edge) + 1), min(height, int(box[3] + edge) + 1)
    part = frame[top:bottom, left:right]
    if part.shape[0] >= _UPRIGHT * part.shape[1]:
        part = np.rot90(part)
    return np.ascontiguousarray(part)
