"""YOLO-style heads by manifest: synthetic graphs in real bundles, boxes mapped back through the letterbox.

A graph answers with fixed rows times the brightest value of its input, so an answer proves that it ran.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml

from forebay.errors import ModelError
from forebay.infer.manifest import Manifest
from forebay.infer.session import Session, SessionOptions
from forebay.infer.vision import Detector, load_detector

SIDE = 320
LABELS = ["helmet", "vest", "person"]
FRAME = (400, 1000)  # letterboxed: 0.32, 96 rows of grey above
TRUE = [(100.0, 50.0, 300.0, 250.0, 1), (700.0, 100.0, 860.0, 390.0, 2)]


def field(number: int, value: bytes | int) -> bytes:
    def varint(n: int) -> bytes:
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor_info(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(field(1, field(1, d)) for d in shape)
    return field(1, name.encode()) + field(2, field(1, field(1, 1) + field(2, dims)))


def graph(rows: np.ndarray, side: int = SIDE) -> bytes:
    """Return an ONNX file: output = rows * max(images)."""
    keep = field(5, field(1, b"keepdims") + field(3, 0) + field(20, 2))
    nodes = field(1, field(1, b"images") + field(2, b"top") + field(4, b"ReduceMax") + keep)
    nodes += field(1, field(1, b"rows") + field(1, b"top") + field(2, b"output0") + field(4, b"Mul"))
    dims = b"".join(field(1, d) for d in rows.shape)
    weights = dims + field(2, 1) + field(8, b"rows") + field(9, rows.astype("<f4").tobytes())
    body = nodes + field(2, b"g") + field(5, weights)
    body += field(11, tensor_info("images", (1, 3, side, side))) + field(
        12, tensor_info("output0", rows.shape)
    )
    return field(1, 8) + field(8, field(1, b"") + field(2, 13)) + field(7, body)


def letterboxed(box: tuple[float, ...]) -> tuple[float, float, float, float]:
    """A box of the frame in the model's pixels: centre and size."""
    x1, y1, x2, y2 = (v * 0.32 + shift for v, shift in zip(box[:4], (0, 96, 0, 96), strict=True))
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def head(version: str, count: int = 40) -> np.ndarray:
    """Rows of a head that sees TRUE, each twice and a little apart, among many of low score."""
    seen = [(letterboxed(b), int(b[4]), s, shift) for b in TRUE for s, shift in ((0.9, 0.0), (0.8, 2.0))]
    if version == "v10":
        out = np.zeros((1, count, 6))
        for row, ((cx, cy, w, h), label, score, shift) in enumerate(seen[::2]):
            out[0, row] = (cx - w / 2 + shift, cy - h / 2, cx + w / 2 + shift, cy + h / 2, score, label)
        return out
    with_object = version in ("v5", "v6", "v7", "x")
    first = 5 if with_object else 4
    count = sum((SIDE // s) ** 2 for s in (8, 16, 32)) if version == "x" else count
    out = np.zeros((1, count, first + len(LABELS)))
    for n, ((cx, cy, w, h), label, score, shift) in enumerate(seen):
        row, box = 7 * n + 3, np.array([cx + shift, cy, w, h])
        if version == "x":
            column, line = int(cx // 8), int(cy // 8)
            row = line * (SIDE // 8) + column + n % 2  # a neighbouring cell for the second
            box = np.array([box[0] / 8 - column - n % 2, cy / 8 - line, np.log(w / 8), np.log(h / 8)])
        out[0, row, :4] = box
        if with_object:
            out[0, row, 4] = 0.95
        out[0, row, first + label] = score
    return out if with_object else out.transpose(0, 2, 1)


def bundle(folder: Path, rows: np.ndarray, **decoding: str) -> str:
    model = graph(rows)
    images = np.ones((1, 3, SIDE, SIDE), np.float32)
    session = Session(model, SessionOptions(), place="here")
    (told,) = session.run({"images": images}, ("output0",))
    index = np.arange(told.size)
    golden = {"in/images": images, "out/output0/index": index, "out/output0/value": told.reshape(-1)}
    folder.mkdir()
    np.savez_compressed(folder / "golden.npz", **golden)
    for name, data in (("model.onnx", model), ("CARD.md", b"card"), ("LICENCE", b"own")):
        (folder / name).write_bytes(data)
    manifest = {
        "name": "own-model", "version": "1.0.0", "task": "detection", "description": "A head.", "licence": "own",
        "origin": "this test", "opset": 13, "decoder": "yolo", "decoding": {"type": "yolo", **decoding},
        "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()},
        "inputs": [{"name": "images", "shape": [1, 3, SIDE, SIDE]}],
        "outputs": [{"name": "output0", "shape": list(rows.shape)}],
        "preprocessing": {
            "kind": "image", "layout": "nchw", "colour": "rgb", "fit": "letterbox", "size": [SIDE, SIDE],
            "scale": [1 / 255] * 3, "pad": 114 / 255,
        },
        "thresholds": {"score": 0.5, "iou": 0.5}, "labels": LABELS,
    }  # fmt: skip
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return str(folder) + "/"


def detector(folder: Path, rows: np.ndarray, **decoding: str) -> Detector:
    return load_detector(bundle(folder, rows, **decoding))


VERSIONS = ["v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "x"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_head_gives_boxes_in_pixels_of_the_frame(tmp_path: Path, version: str) -> None:
    found = detector(tmp_path / "own", head(version), version=version).detect_labelled(
        np.full((*FRAME, 3), 255, np.uint8)
    )
    assert sorted(d.label for d in found) == ["person", "vest"]
    for box in TRUE:
        (one,) = (d for d in found if d.label == LABELS[box[4]])
        np.testing.assert_allclose(one.box, box[:4], atol=0.5)
        assert one.score == pytest.approx(0.9 * (0.95 if version in ("v5", "v6", "v7", "x") else 1), abs=0.01)


def test_the_graph_really_sees_the_frame(tmp_path: Path) -> None:
    eyes = detector(tmp_path / "own", head("v8"), version="v8")
    assert eyes.detect(np.zeros((*FRAME, 3), np.uint8)).shape == (0, 5)  # only the grey border shines: 0.447


@pytest.mark.parametrize("shape", [(1000, 400), (320, 320), (1, 1), (37, 2000)])
def test_the_whole_input_maps_back_to_the_whole_frame(tmp_path: Path, shape: tuple[int, int]) -> None:
    rows = np.zeros((1, 1, 6))
    rows[0, 0] = (0, 0, SIDE, SIDE, 0.9, 0)
    frame = np.full((*shape, 3), 255, np.uint8)
    (found,) = detector(tmp_path / "own", rows, version="v10").detect_labelled(frame)
    assert found.box == (0, 0, shape[1], shape[0])


def test_logits_and_shares_are_read_as_the_manifest_says(tmp_path: Path) -> None:
    rows = head("v8")
    rows[:, :4] /= SIDE
    rows[:, 4:] = np.log(np.clip(rows[:, 4:], 1e-4, 1) / (1 - np.clip(rows[:, 4:], 1e-4, 1 - 1e-4)))
    own = detector(tmp_path / "own", rows, version="v8", scores="logit", boxes="share")
    found = own.detect_labelled(np.full((*FRAME, 3), 255, np.uint8))
    assert sorted(d.label for d in found) == ["person", "vest"]
    np.testing.assert_allclose(next(d.box for d in found if d.label == "vest"), TRUE[0][:4], atol=0.5)


def test_a_transposed_export_is_read_too(tmp_path: Path) -> None:
    own = detector(tmp_path / "own", head("v8").transpose(0, 2, 1), version="v8")
    assert len(own.detect(np.full((*FRAME, 3), 255, np.uint8))) == 2


@pytest.mark.parametrize("version", ["v5", "v10"])
def test_a_head_of_another_version_is_a_named_error(tmp_path: Path, version: str) -> None:
    name = bundle(tmp_path / "own", head("v8"), version=version)
    message = rf"expected YOLO {version} output of . values a box, found \[1, 7, 40\]"
    with pytest.raises(ModelError, match=message) as caught:
        load_detector(name)
    assert "3 names" in caught.value.hint
    with pytest.raises(ModelError, match=message) as caught:
        load_detector(name, verify=False).detect(np.zeros((*FRAME, 3), np.uint8))
    assert caught.value.place == "own-model"


def test_a_class_beyond_the_labels_is_a_named_error(tmp_path: Path) -> None:
    rows = head("v10")
    rows[0, 0, 5] = 7
    with pytest.raises(ModelError, match="beyond its 3 labels"):
        detector(tmp_path / "own", rows, version="v10").detect(np.full((*FRAME, 3), 255, np.uint8))


def test_numbers_that_are_not_finite_are_an_error_not_an_empty_answer(tmp_path: Path) -> None:
    # the largest float32 times a pixel of 255 overflows; the golden input is 1
    rows = np.zeros((1, 1, 6))
    rows[0, 0] = (1, 1, 9, 9, struct.unpack("<f", b"\xff\xff\x7f\x7f")[0], 0)
    name = bundle(tmp_path / "own", rows, version="v10")
    path = Path(name) / "manifest.yaml"
    path.write_text(path.read_text().replace("0.00392156862745098", "1.0"))
    with pytest.raises(ModelError, match="not finite"):
        load_detector(name, verify=False).detect(np.full((8, 8, 3), 255, np.uint8))


@pytest.mark.parametrize(
    "change",
    [
        {"decoding": None},
        {"decoder": "ssd"},
        {"decoding": {"type": "yolo", "version": "v99"}},
        {"decoding": {"type": "yolo"}},
    ],
)
def test_a_manifest_with_half_a_decoder_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    text = (Path(bundle(tmp_path / "own", head("v8"), version="v8")) / "manifest.yaml").read_text()
    whole = yaml.safe_load(text)
    Manifest.model_validate(whole)
    with pytest.raises(ValueError, match=r"decod|version"):
        Manifest.model_validate({k: v for k, v in {**whole, **change}.items() if v is not None})
