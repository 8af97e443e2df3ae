"""A manifest that does not go with its graph: refused at load, and a named error where loading did not look.

Heads answer with fixed tensors, so that each decoder is met with what another one, or another size, would give.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.errors import ModelError
from forebay.infer.anomaly import AnomalyStep
from forebay.infer.bundle import load, open_session
from forebay.infer.classify import ClassifyStep
from forebay.infer.decoders import blazeface_anchors, retinaface_priors, ssd_anchors
from forebay.infer.forecast import ForecastStep
from forebay.infer.session import Session, SessionOptions, SessionPool
from forebay.infer.vision import Detector

sys.path.insert(0, str(Path(__file__).parent))
from test_infer_yolo import field, head, tensor_info
from test_infer_yolo import graph as yolo_graph

SIDE = 96
IMAGE = (1, 3, SIDE, SIDE)
PRIORS, CELLS, ANCHORS = (
    len(of(SIDE, SIDE)) for of in (retinaface_priors, blazeface_anchors, ssd_anchors)
)  # fmt: skip
FRAME = np.full((SIDE, SIDE, 3), 200, np.uint8)


def fixed(
    outputs: dict[str, tuple[int, ...]], taken: tuple[int | str, ...] = IMAGE, value: float = 0.9
) -> bytes:
    """Return an ONNX file whose outputs are full of one value, whatever its input says."""
    nodes = weights = told = b""
    keep = field(5, field(1, b"keepdims") + field(3, 0) + field(20, 2))
    nodes += field(1, field(1, b"image") + field(2, b"top") + field(4, b"ReduceMax") + keep)
    nodes += field(1, field(1, b"top") + field(1, b"top") + field(2, b"none") + field(4, b"Sub"))
    for name, shape in outputs.items():
        told += field(12, tensor_info(name, shape))
        dims, cells = b"".join(field(1, d) for d in shape), np.full(shape, value, "<f4")
        weights += field(5, dims + field(2, 1) + field(8, f"{name}.w".encode()) + field(9, cells.tobytes()))
        add = field(1, b"none") + field(1, f"{name}.w".encode()) + field(2, name.encode()) + field(4, b"Add")
        nodes += field(1, add)
    dims = b"".join(field(1, field(2, d.encode()) if isinstance(d, str) else field(1, d)) for d in taken)
    given = field(1, b"image") + field(2, field(1, field(1, 1) + field(2, dims)))
    body = nodes + field(2, b"g") + weights + field(11, given) + told
    return field(1, 8) + field(8, field(1, b"") + field(2, 13)) + field(7, body)


def bundle(folder: Path, model: bytes, golden: np.ndarray, *, given: str = "image", **manifest: Any) -> Path:
    """Write a bundle whose golden output is what the graph says now."""
    folder.mkdir()
    names = [t["name"] for t in manifest["outputs"]]
    arrays = {f"in/{given}": golden}
    session = Session(model, SessionOptions(), place="here")
    for name, told in zip(names, session.run({given: golden}, tuple(names)), strict=True):
        arrays |= {f"out/{name}/index": np.arange(told.size), f"out/{name}/value": told.reshape(-1)}
    np.savez_compressed(folder / "golden.npz", **arrays)
    for name, data in (("model.onnx", model), ("CARD.md", b"card"), ("LICENCE", b"own")):
        (folder / name).write_bytes(data)
    whole = {
        "name": "own-model", "version": "1.0.0", "description": "Fixed.", "licence": "own", "origin": "this test",
        "opset": 13, "thresholds": {"score": 0.5},
        "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}, **manifest,
    }  # fmt: skip
    (folder / "manifest.yaml").write_text(yaml.safe_dump(whole))
    return folder


def pictures(
    folder: Path,
    decoder: str,
    outputs: dict[str, tuple[int, ...]],
    labels: int = 1,
    value: float = 0.9,
    names: tuple[str, ...] = (),
    side: int = SIDE,
) -> Path:
    """Write a detection bundle; `names`: the outputs in the manifest's order."""
    return bundle(
        folder,
        fixed(outputs, value=value),
        np.ones(IMAGE, np.float32),
        task="detection",
        decoder=decoder,
        inputs=[{"name": "image", "shape": list(IMAGE)}],
        outputs=[{"name": n, "shape": list(outputs[n])} for n in names or outputs],
        preprocessing={
            "kind": "image",
            "layout": "nchw",
            "colour": "bgr",
            "fit": "stretch",
            "size": [side] * 2,
        },
        labels=[f"label{k}" for k in range(labels)],
    )


MAPS = {"heat": (1, 1, 24, 24), "size": (1, 2, 24, 24), "offset": (1, 2, 24, 24)}
GOOD: dict[str, tuple[dict[str, tuple[int, ...]], int]] = {
    "ssd": ({"codes": (1, ANCHORS, 4), "scores": (1, ANCHORS, 3)}, 3),
    "centerface": (MAPS, 1),
    "blazeface": ({"codes": (1, CELLS, 16), "scores": (1, CELLS, 1)}, 1),
    "retinaface": ({"codes": (1, PRIORS, 4), "scores": (1, PRIORS, 2), "corners": (1, PRIORS, 8)}, 1),
    "dbnet": ({"heat": (1, 1, SIDE, SIDE)}, 1),
}
WRONG: dict[str, tuple[str, dict[str, tuple[int, ...]], str]] = {
    "anchors of another size": (
        "ssd",
        {"codes": (1, ANCHORS + 9, 4), "scores": (1, ANCHORS + 9, 3)},
        f"expected [1, {ANCHORS}, 4], found [1, {ANCHORS + 9}, 4]",
    ),
    "maps in another order": (
        "centerface",
        {"size": (1, 2, 24, 24), "heat": (1, 1, 24, 24), "offset": (1, 2, 24, 24)},
        "expected [1, 1, 24, 24], found [1, 2, 24, 24]",
    ),
    "maps at an eighth": (
        "centerface",
        {k: (*v[:2], 12, 12) for k, v in MAPS.items()},
        "expected [1, 1, 24, 24], found [1, 1, 12, 12]",
    ),
    "outputs swapped": (
        "blazeface",
        {"scores": (1, CELLS, 1), "codes": (1, CELLS, 16)},
        f"expected [1, {CELLS}, 16], found [1, {CELLS}, 1]",
    ),
    "one class only": (
        "retinaface",
        {"codes": (1, PRIORS, 4), "scores": (1, PRIORS, 1)},
        f"expected [1, {PRIORS}, 2], found [1, {PRIORS}, 1]",
    ),
    "a map of half the size": (
        "dbnet",
        {"heat": (1, 1, 48, 48)},
        "expected [1, 1, 96, 96], found [1, 1, 48, 48]",
    ),
}


def opened(folder: Path, *, verify: bool = True) -> Session:
    return open_session(load(folder), SessionPool(), SessionOptions(), verify=verify)


@pytest.mark.parametrize("decoder", GOOD)
def test_a_head_that_fits_its_manifest_loads_and_finds_something(tmp_path: Path, decoder: str) -> None:
    outputs, labels = GOOD[decoder]
    value = 8.0 if decoder == "blazeface" else 0.9  # there sizes are in pixels and scores logits
    folder = pictures(tmp_path / "own", decoder, outputs, labels, value)
    assert len(Detector(load(folder), opened(folder)).detect(FRAME))


@pytest.mark.parametrize("name", WRONG)
def test_an_output_of_another_shape_is_refused_at_load_and_named_at_a_run(tmp_path: Path, name: str) -> None:
    decoder, outputs, message = WRONG[name]
    folder = pictures(tmp_path / "own", decoder, outputs, GOOD[decoder][1])
    with pytest.raises(ModelError, match=re.escape(message)):
        opened(folder)
    eyes = Detector(load(folder), opened(folder, verify=False))
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        eyes.detect(FRAME)
    assert caught.value.place == "own-model"


def test_fewer_outputs_than_the_decoder_reads_are_refused(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "own", "centerface", MAPS, names=("heat", "size"))
    with pytest.raises(ModelError, match="decoder centerface reads 3 outputs, the manifest names 2"):
        opened(folder, verify=False)


@pytest.mark.parametrize("labels", [2, 4])
def test_labels_that_are_not_the_classes_of_the_graph_are_refused(tmp_path: Path, labels: int) -> None:
    folder = pictures(tmp_path / "own", "ssd", GOOD["ssd"][0], labels)
    with pytest.raises(ModelError, match=f"the model scores 3 classes, `labels` has {labels} names"):
        opened(folder)


def test_a_class_without_a_label_is_an_error_of_the_run_too(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "own", "ssd", GOOD["ssd"][0], 2)
    eyes = Detector(load(folder), opened(folder, verify=False))
    with pytest.raises(ModelError, match="a class beyond its 2 labels"):
        eyes.detect(FRAME)


def test_scores_that_are_no_probabilities_are_refused(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "own", "centerface", MAPS, value=3.0)
    with pytest.raises(ModelError, match="a score above 1") as caught:
        opened(folder)
    assert "sigmoid" in caught.value.hint


@pytest.mark.parametrize("verify", [True, False])
def test_a_picture_of_another_size_than_the_graph_takes_is_refused(tmp_path: Path, verify: bool) -> None:
    folder = pictures(tmp_path / "own", "centerface", MAPS, side=64)
    message = r"makes float32\[1, 3, 64, 64\], the graph takes tensor\(float\)\[1, 3, 96, 96\]"
    with pytest.raises(ModelError, match=message):
        opened(folder, verify=verify)


def test_a_graph_of_another_layout_is_refused(tmp_path: Path) -> None:
    rows = head("v8")
    folder = bundle(
        tmp_path / "own",
        yolo_graph(rows),
        np.ones((1, 3, 320, 320), np.float32),
        given="images",
        task="detection",
        decoder="yolo",
        decoding={"type": "yolo", "version": "v8"},
        inputs=[{"name": "images", "shape": [1, 3, 320, 320]}],
        outputs=[{"name": "output0", "shape": list(rows.shape)}],
        preprocessing={
            "kind": "image",
            "layout": "nhwc",
            "colour": "rgb",
            "fit": "letterbox",
            "size": [320, 320],
        },
        labels=["a", "b", "c"],
    )
    with pytest.raises(ModelError, match=r"makes float32\[1, 320, 320, 3\]"):
        opened(folder, verify=False)


# -- numbers ----------------------------------------------------------------------------------------------------------

WINDOW = {
    "anomaly": {"kind": "series-window", "window": 14},
    "forecast": {"kind": "series-window", "window": 14},
    "classification": {"kind": "waveform", "window": 16, "rate_hz": 1.0},
}
DECODER = {"anomaly": "series-error", "forecast": "series-forecast", "classification": "window-classes"}


def numbers(
    folder: Path,
    task: str,
    answer: tuple[int, ...],
    taken: tuple[int | str, ...] = ("n", 16),
    value: float = 0.5,
) -> Path:
    """Write a bundle that answers with the same shape whatever number of rows it gets."""
    golden = np.ones([8 if isinstance(d, str) else d for d in taken], np.float32)
    return bundle(
        folder,
        fixed({"out": answer}, taken, value),
        golden,
        task=task,
        decoder=DECODER[task],
        inputs=[{"name": "image", "shape": list(taken)}],
        outputs=[{"name": "out", "shape": list(answer)}],
        preprocessing=WINDOW[task],
        labels=["good", "bad"] if task == "classification" else [],
    )


@pytest.mark.parametrize("task", ["anomaly", "forecast"])
@pytest.mark.parametrize("answer", [(1,), (8, 16), (8, 1, 1)])
def test_a_model_that_gives_not_one_number_a_row_is_refused(
    tmp_path: Path, task: str, answer: tuple[int, ...]
) -> None:
    folder = numbers(tmp_path / "own", task, answer)
    with pytest.raises(ModelError, match=re.escape(f"one number for each of 8 rows, found {list(answer)}")):
        opened(folder)


@pytest.mark.parametrize("answer", [(8, 3), (1, 2), (8,)])
def test_a_model_that_gives_not_one_probability_a_label_is_refused(
    tmp_path: Path, answer: tuple[int, ...]
) -> None:
    folder = numbers(tmp_path / "own", "classification", answer)
    with pytest.raises(ModelError, match=re.escape(f"2 labels for each of 8 windows, found {list(answer)}")):
        opened(folder)


def test_a_classifier_without_softmax_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no probabilities") as caught:
        opened(numbers(tmp_path / "own", "classification", (8, 2), value=-2.0))
    assert "softmax" in caught.value.hint


@pytest.mark.parametrize(
    ("taken", "hint"),
    [(("n", 15), "go together"), ((1, 16), "open first dimension"), (("n", 16, 1), "go together")],
)
@pytest.mark.parametrize("task", WINDOW)
def test_a_graph_that_takes_another_window_is_refused(
    tmp_path: Path, task: str, taken: tuple[int | str, ...], hint: str
) -> None:
    folder = numbers(tmp_path / "own", task, (8,), taken)
    with pytest.raises(ModelError, match=r"makes float32\[(rows|windows), 16\]") as caught:
        opened(folder, verify=False)
    assert hint in caught.value.hint


@pytest.mark.parametrize("task", WINDOW)
def test_rows_go_on_without_a_result_where_the_answer_has_another_size(tmp_path: Path, task: str) -> None:
    # golden rows are eight and so are the answers: only a block of another number tells
    answer = (8, 2) if task == "classification" else (8,)
    loaded = load(numbers(tmp_path / "own", task, answer))
    session = open_session(loaded, SessionPool(), SessionOptions())
    step: Any
    if task == "classification":
        step = ClassifyStep("infer", loaded, session, field="flow")
    else:
        made = AnomalyStep if task == "anomaly" else ForecastStep
        step = made("infer", loaded, session, inputs=("flow",), calibration=32)
    rows = 200
    values = np.random.default_rng(0).normal(size=rows)
    schema = Schema("s", (Field("flow", Type.F64),))
    seconds = np.arange(rows, dtype=np.int64) * 1_000_000_000
    (out,) = step.process(Block(schema, seconds, (Column(values),)))
    assert out.rows == rows
    assert out.columns[-1].is_null().all()
    assert step.counts["model_error"]
    assert step.failures == 1
