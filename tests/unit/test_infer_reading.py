"""Text in pictures is read by the extra `ocr`: what is asked of its package, what is done when it fails."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.models import InferOptions, ModelsOptions
from forebay.errors import MissingExtra, ModelError
from forebay.infer import reading
from forebay.infer.session import ModelTimeout, SessionOptions
from forebay.infer.vision import Detection, load_detector
from forebay.mask import Masker, load_policy

cv2 = pytest.importorskip("cv2")

# A stand-in for the package, as large as what is used of it. It reads the blue of a line's middle as a number.
PACKAGE = """
import time
class _Read:
    def __init__(self, text, score):
        self.txts, self.scores = (text,), (score,)
class RapidOCR:
    def __init__(self, params):
        self.params = params
    def __call__(self, line):
        h, w = line.shape[:2]
        if (h, w) == (48, 320):
            return _Read("2026 0134 5789", 0.99)
        blue = int(line[h // 2, w // 2, 0])
        if blue == 13:
            raise ValueError("13812345678")
        if blue == 14:
            return type("Nothing", (), {"txts": None, "scores": None})()
        if blue == 15:
            time.sleep(0.05)
        return _Read(f"tel 138123456{blue:02d}" if h < w else "upright", 0.9)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site" / "rapidocr"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE)
    for stage in ("det_small", "cls_mobile", "rec_small"):
        (folder / "models" / f"PP_{stage}.onnx").write_bytes(stage.encode())
    told = tmp_path / "site" / "rapidocr-9.9.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: rapidocr\nVersion: 9.9\n")
    monkeypatch.delitem(sys.modules, "rapidocr", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield folder
    sys.modules.pop("rapidocr", None)


def page(*blues: int) -> tuple[np.ndarray, np.ndarray]:
    frame = np.full((40 * len(blues), 300, 3), 255, np.uint8)
    boxes = np.array([(10, 40 * k + 5, 200, 40 * k + 30, 0.8) for k in range(len(blues))], np.float32)
    for k, blue in enumerate(blues):
        frame[40 * k + 5 : 40 * k + 30, 10:200] = blue
    return frame, boxes


def test_lines_are_read_where_the_boxes_are_and_the_model_is_named(package: Path) -> None:
    reader = reading.Reader()
    texts, scores = reader.read(*page(78, 79))
    assert texts == ["tel 13812345678", "tel 13812345679"]
    assert scores == [0.9, 0.9]
    assert reader.model.startswith("rapidocr@9.9#")
    (package / "models" / "PP_rec_small.onnx").write_bytes(b"another")
    assert reading.Reader().model != reader.model


def test_its_models_are_given_by_path_so_that_nothing_is_fetched(package: Path) -> None:
    params = reading.Reader(SessionOptions(threads=2))._engine.params
    for stage in ("Det", "Cls", "Rec"):
        assert Path(params[f"{stage}.model_path"]).parent == package / "models"
    assert params["EngineConfig.onnxruntime.intra_op_num_threads"] == 2
    (package / "models" / "PP_rec_small.onnx").unlink()
    with pytest.raises(ModelError, match=r"expected one \*rec\*\.onnx in the package, found 0"):
        reading.Reader()


@pytest.mark.parametrize("blue", [13, 14])
def test_a_reader_that_fails_is_an_error_that_tells_nothing_of_what_it_saw(package: Path, blue: int) -> None:
    with pytest.raises(ModelError, match="the reader failed") as caught:
        reading.Reader().read(*page(blue))
    assert "138" not in str(caught.value)


def test_a_reading_that_is_late_or_has_too_many_lines_is_an_error(package: Path) -> None:
    with pytest.raises(ModelTimeout, match="not done within"):
        reading.Reader(SessionOptions(limit_ns=1_000_000)).read(*page(15))
    with pytest.raises(ModelError, match="more than 300 lines"):
        reading.Reader().read(np.zeros((9, 9, 3), np.uint8), np.zeros((301, 5), np.float32))


def test_a_reader_that_does_not_read_its_proof_is_refused(package: Path) -> None:
    (package / "__init__.py").write_text(PACKAGE.replace("2026 0134", "2026 0l34"))
    with pytest.raises(ModelError, match="does not read its proof"):
        reading.Reader()
    reading.Reader(verify=False)


def test_a_line_that_runs_down_is_turned(package: Path) -> None:
    frame = np.full((300, 100, 3), 20, np.uint8)
    texts, _ = reading.Reader().read(frame, np.array([[40, 10, 60, 280]], np.float32))
    assert texts == ["tel 13812345620"]


def test_boxes_beyond_the_edge_are_cut(package: Path) -> None:
    texts, _ = reading.Reader().read(
        np.full((50, 200, 3), 20, np.uint8), np.array([[-9, -9, 400, 400]], np.float32)
    )
    assert texts == ["tel 13812345620"]


def test_without_the_package_it_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtra) as caught:
        reading.Reader()
    assert "forebay[ocr]" in caught.value.hint


class Plates:
    """Stands for a detector of plates."""

    model = "plates-cn@1.0.0#00000000"

    def detect_labelled(self, frame: np.ndarray) -> list[Detection]:
        return [Detection("plate", 0.9, (10.0, 5.0, 200.0, 30.0))]


@pytest.fixture
def detections(package: Path) -> Block:
    from forebay.infer.detect import DetectStep

    reader = reading.Reader()
    step = DetectStep("infer", Plates(), field="image", reader=reader, read_class="plate")
    picture = bytes(cv2.imencode(".png", page(78)[0])[1])
    schema = Schema("gate", (Field("image", Type.BYTES, media="image"),))
    found, _ = step.process(Block(schema, np.array([7]), (Column.of(Type.BYTES, [picture]),)))
    assert step.models == (Plates.model, reader.model)
    return found


def test_a_step_tells_what_stands_in_its_boxes_and_masking_masks_it(detections: Block) -> None:
    index = detections.schema.index("text")
    told = detections.schema.fields[index]
    assert (told.classes, told.model[:13]) == (("plate",), "rapidocr@9.9#")
    assert detections.columns[index].to_list(Type.STR) == ["tel 13812345678"]
    masked = Masker(load_policy("base", Path())).apply(detections)
    assert masked.columns[index].to_list(Type.STR) == ["[plate]"]


def test_the_option_of_the_step_is_for_pictures_only(package: Path) -> None:
    from forebay import infer

    options = InferOptions(model="plates-cn", field="image", read=True)
    step: Any = infer.build("infer", options, models=ModelsOptions())
    assert step._read_classes == ("plate",)
    with pytest.raises(ValueError, match="`read` goes with `field`"):
        InferOptions(model="sensor-anomaly", inputs=["flow"], read=True)


@pytest.mark.skipif(importlib.util.find_spec("rapidocr") is None, reason="needs the extra `ocr`")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_reader_reads_a_page() -> None:
    frame = np.full((300, 700, 3), 240, np.uint8)
    lines = {80: "Tel 13812345678", 200: "Pump 3 pressure 4.21 bar"}
    for y, text in lines.items():
        cv2.putText(frame, text, (60, y), cv2.FONT_HERSHEY_DUPLEX, 1.1, (20, 20, 20), 2, cv2.LINE_AA)
    boxes, texts = reading.LineReader(load_detector("text-lines"), reading.Reader()).read(frame)
    read = {round(float(b[1])): t.replace(" ", "") for b, t in zip(boxes, texts, strict=True)}
    assert [read[y] for y in sorted(read)] == [t.replace(" ", "") for t in lines.values()]
