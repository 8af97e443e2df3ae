"""Text in pictures: lines that hold an identifier are covered, and those that nobody could read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.errors import MaskError
from forebay.mask import Masker, Policy, load_policy
from forebay.mask.written import UNREAD, Written
from forebay_core import text_tables as tables

cv2 = pytest.importorskip("cv2")


def policy(folder: Path, rest: str = "") -> Policy:
    (folder / "p.yaml").write_text(
        f"name: p\nversion: 1\nextends: base\nimages: {{identifier: fill}}\n{rest}"
    )
    return load_policy("p.yaml", folder)


def lines(*texts: str, score: float = 0.9) -> tuple[np.ndarray, list[str]]:
    boxes = [(10, 40 * k + 5, 200, 40 * k + 30, score) for k in range(len(texts))]
    return np.array(boxes, np.float64).reshape(-1, 5), list(texts)


def classes(found: np.ndarray) -> list[str]:
    return [tables.CLASSES[int(code)] for code in found[:, 5]]


def test_only_lines_with_an_identifier_are_covered(tmp_path: Path) -> None:
    boxes, texts = lines("3号泵 4.21 MPa", "电话 13812345678", "2026-11-22", "粤B12345")
    found = Written(policy(tmp_path)).find(boxes, texts)
    assert classes(found) == ["mobile", "plate"]
    assert np.array_equal(found[:, :5], boxes[[1, 3]])


def test_a_class_that_the_policy_lets_pass_stays_also_in_one_stream(tmp_path: Path) -> None:
    passing = "streams:\n  gate: {classes: {plate: {operator: pass}}}\n"
    written = Written(policy(tmp_path, passing))
    boxes, texts = lines("粤B12345")
    assert classes(written.find(boxes, texts, "yard")) == ["plate"]
    assert classes(written.find(boxes, texts, "gate")) == []


@pytest.mark.parametrize("text", ["", "  ", "138l234S678"])
def test_what_nobody_could_read_is_covered(tmp_path: Path, text: str) -> None:
    boxes, texts = lines(text, score=0.3)
    found = Written(policy(tmp_path)).find(boxes, texts)
    assert found[:, 5].tolist() == [UNREAD]


def test_a_label_beside_a_line_vouches_for_it_and_one_in_another_row_does_not(tmp_path: Path) -> None:
    written = Written(policy(tmp_path))
    label, value = (10, 10, 60, 30, 0.9), (80, 12, 200, 32, 0.9)
    beside = np.array([value, label], np.float64)
    assert classes(written.find(beside, ["令狐冲", "姓名"])) == ["name"]
    below = np.array([value, (10, 200, 60, 220, 0.9)], np.float64)
    assert classes(written.find(below, ["5558800", "传真"])) == []


def test_an_identifier_that_runs_over_two_boxes_covers_both(tmp_path: Path) -> None:
    halves = np.array([(10, 10, 60, 30, 0.9), (70, 10, 120, 30, 0.9)], np.float64)
    assert classes(Written(policy(tmp_path)).find(halves, ["138 1234", "5678"])) == ["mobile", "mobile"]


def test_no_lines_are_nothing_and_another_number_of_texts_is_refused(tmp_path: Path) -> None:
    written = Written(policy(tmp_path))
    assert written.find(*lines()).shape == (0, 6)
    with pytest.raises(MaskError, match="1 boxes and 2 texts"):
        written.find(lines("a")[0], ["a", "b"])


class Reader:
    model = "reader@1#00000000"

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def read(self, frame: np.ndarray) -> tuple[np.ndarray, list[str]]:
        boxes, texts = lines(*self.texts)
        return boxes.astype(np.float32), texts


class Nothing:
    def detect(self, frame: np.ndarray) -> np.ndarray:
        return np.zeros((0, 5), np.float32)


def masked(folder: Path, reader: Reader) -> tuple[Block, np.ndarray | None]:
    data = bytes(cv2.imencode(".png", np.full((120, 300, 3), 200, np.uint8))[1])
    schema = Schema("cam", (Field("still", Type.BYTES, media="image"),))
    block = Block(schema, np.zeros(1, np.int64), (Column.of(Type.BYTES, [data]),))
    detectors = {"face": Nothing(), "plate": Nothing(), "identifier": reader}
    out = Masker(policy(folder), detectors=detectors).apply(block)  # type: ignore[arg-type]
    cell = out.columns[0].to_list(Type.BYTES)[0]
    return out, None if cell is None else cv2.imdecode(np.frombuffer(cell, np.uint8), cv2.IMREAD_COLOR)


def test_a_picture_comes_out_with_the_line_filled_and_names_who_read_it(tmp_path: Path) -> None:
    out, frame = masked(tmp_path, Reader("4.21 MPa", "tel 13812345678"))
    assert frame is not None
    assert frame[47:68, 12:198].max() < 30
    assert frame[:35].min() > 150
    assert out.hits["identifier:fill"] == 1
    assert out.hits["detector:reader@1#00000000"] == 1


def test_a_reader_that_fails_lets_nothing_pass(tmp_path: Path) -> None:
    class Broken(Reader):
        def read(self, frame: np.ndarray) -> tuple[np.ndarray, list[str]]:
            raise RuntimeError

    out, frame = masked(tmp_path, Broken())
    assert frame is None
    assert out.hits["image:detector_failed"] == 1


def test_a_policy_that_does_not_read_has_the_hash_that_it_had_before_it_could() -> None:
    base = load_policy("base", Path())
    assert not base.reads_pictures
    assert base.hash == "c20435033fbe2e108604d4d70826ae25765deaae52692640cd26c54ade7c49df"
