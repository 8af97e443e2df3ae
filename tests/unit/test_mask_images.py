"""Pictures: what a detector finds is covered, metadata goes, and what fails never passes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from forebay import pictures as images_module
from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.mask import Guard, Masker, load_policy

cv2 = pytest.importorskip("cv2")
BASE = load_policy("base", Path())
SCHEMA = Schema("cam", (Field("still", Type.BYTES, media="image"),))


class Finder:
    def __init__(self, *boxes):
        self.boxes = boxes

    def detect(self, frame):
        return np.array([(*b, 0.9) for b in self.boxes], np.float32).reshape(-1, 5)


class Broken:
    def __init__(self, answer):
        self.answer = answer

    def detect(self, frame):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def picture(suffix=".jpg"):
    rng = np.random.default_rng(7)
    frame = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (160, 120))
    return frame, cv2.imencode(suffix, frame)[1].tobytes()


def block(*cells, frames=None):
    column = Column.of(Type.BYTES, list(cells))
    column.frames = frames
    return Block(SCHEMA, np.arange(len(cells), dtype=np.int64), (column,))


def run(given, policy=BASE, **detectors):
    masker = Masker(policy, detectors={"face": Finder(), "plate": Finder(), **detectors})
    return masker.apply(given)


def read(column, row=0):
    return cv2.imdecode(np.frombuffer(column.cell_bytes(row), np.uint8), cv2.IMREAD_COLOR)


def test_a_face_is_filled_with_its_margin_and_the_rest_stays():
    frame, data = picture()
    out = run(block(data), face=Finder((40, 30, 80, 70)))
    masked = read(out.columns[0])
    assert masked[28:72, 38:82].max() < 40, "10 % margin on each side is filled too"
    assert np.abs(masked[:20].astype(int) - frame[:20]).mean() < 12
    assert out.hits == {"face:fill": 1, "plate:fill": 0}
    assert Guard(BASE).check(out).columns[0].to_list(Type.BYTES)[0] is not None


@pytest.mark.parametrize("operator", ["pixelate", "blur"])
def test_other_operators_leave_no_detail(tmp_path, operator):
    (tmp_path / "p.yaml").write_text(
        f"name: p\nversion: 1\nextends: base\nimages: {{face: {operator}, margin: 0}}\n"
    )
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (100, 100, 3), np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    out = run(block(data), load_policy("p.yaml", tmp_path), face=Finder((10, 10, 74, 74)))
    masked = read(out.columns[0])[14:70, 14:70].astype(float)
    detail = np.abs(np.diff(masked, axis=1)).mean()
    assert detail < 0.2 * np.abs(np.diff(noise[14:70, 14:70].astype(float), axis=1)).mean()


def test_regions_beyond_the_edge_are_cut_and_empty_ones_ignored():
    _, data = picture()
    boxes = ((-50, -50, 20, 20), (150, 110, 400, 400), (60, 60, 60, 60), (500, 500, 600, 600))
    out = run(block(data), face=Finder(*boxes))
    masked = read(out.columns[0])
    assert masked[:18, :18].max() < 40
    assert masked[112:, 152:].max() < 40
    assert out.hits["face:fill"] == 2


def test_metadata_does_not_pass():
    _, data = picture()
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0GPS-SECRET-PLACE"
    tagged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert b"GPS-SECRET-PLACE" in tagged
    out = run(block(tagged))
    assert b"GPS-SECRET-PLACE" not in out.columns[0].values.tobytes()
    assert b"Exif" not in out.columns[0].values.tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_what_is_cut_off_or_no_picture_becomes_null(suffix):
    _, data = picture(suffix)
    out = run(block(data[: len(data) // 2], b"no picture", b"", data, None))
    codes = out.columns[0].quality.tolist()
    assert codes[:2] == [q.DETECTOR_FAILED] * 2
    assert codes[3:] == [0, q.NULL]
    assert out.hits["image:detector_failed"] == 3


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("model"),
        MemoryError(),
        np.zeros((2, 4), np.float32),
        np.full((1, 5), np.nan, np.float32),
        None,
        "no",
    ],
)
def test_a_detector_that_fails_or_answers_nonsense_lets_nothing_pass(answer):
    _, data = picture()
    out = run(block(data, data), plate=Broken(answer))
    assert out.columns[0].to_list(Type.BYTES) == [None, None]
    assert out.columns[0].quality.tolist() == [q.DETECTOR_FAILED] * 2
    assert len(out.columns[0].values) == 0


def test_a_missing_detector_lets_nothing_pass():
    _, data = picture()
    out = Masker(BASE, detectors={"face": Finder()}).apply(block(data))
    assert out.columns[0].quality.tolist() == [q.DETECTOR_FAILED]


def test_frames_are_used_and_replaced_together_with_the_values():
    frame, data = picture()
    out = run(block(data, None, frames=[frame, None]), face=Finder((40, 30, 80, 70)))
    held = out.columns[0].frames
    assert held[0][30:70, 40:80].max() == 0
    assert held[1] is None
    assert frame[30:70, 40:80].max() > 0, "the source's frame is not written into"
    failed = run(block(data, frames=[frame]), face=Broken(RuntimeError()))
    assert failed.columns[0].frames == [None]


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(monkeypatch):
    _, data = picture(".png")
    bomb = data[:16] + struct.pack(">II", 60_000, 60_000) + data[24:]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(images_module.InputError, match="larger"):
        images_module.decode(bomb)
    _, jpeg = picture()
    header = images_module.read_header(jpeg)
    assert (header.width, header.height) == (160, 120)


def test_the_guard_stops_a_picture_that_masking_did_not_make():
    _, data = picture()
    out = Guard(BASE).check(block(data))
    assert out.columns[0].quality.tolist() == [q.GUARDED]
    assert len(out.columns[0].values) == 0


def policy(tmp_path, images, extends="base"):
    (tmp_path / "p.yaml").write_text(f"name: p\nversion: 1\nextends: {extends}\nimages: {images}\n")
    return load_policy("p.yaml", tmp_path)


ZONE = "[{name: window, polygon: [[0.5, 0], [1, 0], [1, 0.5], [0.5, 0.5]], operator: %s, streams: [%s]}]"


@pytest.mark.parametrize("operator", ["fill", "pixelate", "blur"])
def test_a_zone_is_covered_whatever_is_in_it(tmp_path, operator):
    noise = np.random.default_rng(1).integers(0, 255, (100, 160, 3), np.uint8)
    zones = ZONE % (operator, "cam*")
    out = run(block(cv2.imencode(".png", noise)[1].tobytes()), policy(tmp_path, f"{{zones: {zones}}}"))
    masked = read(out.columns[0]).astype(float)
    assert out.hits[f"zone:{operator}"] == 1
    assert np.abs(np.diff(masked[5:45, 88:155], axis=1)).mean() < 20
    assert np.abs(np.diff(masked[55:, :75], axis=1)).mean() > 50


def test_a_zone_of_another_stream_is_not_covered(tmp_path):
    _, data = picture()
    out = run(block(data), policy(tmp_path, f"{{zones: {ZONE % ('fill', 'yard')}}}"))
    assert "zone:fill" not in out.hits
    assert read(out.columns[0])[5:50, 90:150].max() > 100


def test_a_zone_of_any_shape_covers_what_lies_within_and_nothing_else(tmp_path):
    white = np.full((100, 100, 3), 255, np.uint8)
    triangle = "[{name: t, polygon: [[0, 0], [1, 0], [0, 1]]}]"
    masked = read(
        run(
            block(cv2.imencode(".png", white)[1].tobytes()), policy(tmp_path, f"{{zones: {triangle}}}")
        ).columns[0]
    )
    assert masked[10:40, 10:40].max() < 20
    assert masked[70:, 70:].min() > 235


def test_a_zone_that_is_a_line_or_one_pixel_does_not_break(tmp_path):
    zones = "[{name: l, polygon: [[1, 1], [1, 1], [1, 1]]}]"
    out = run(
        block(cv2.imencode(".png", np.full((1, 1, 3), 9, np.uint8))[1].tobytes()),
        policy(tmp_path, f"{{zones: {zones}}}"),
    )
    assert out.columns[0].to_list(Type.BYTES)[0] is not None


class Sometimes:
    """Finds the box in the frames whose upper left pixel is white."""

    def detect(self, frame):
        there = frame[0, 0, 0] > 200
        return np.array([[40, 30, 80, 70, 0.9]], np.float32)[: int(there)]


def stream(marks, step_ns, keys=None):
    """A block of video frames, decoded and not encoded, as a video source hands them on."""
    frames = []
    for mark in marks:
        frame = np.full((120, 160, 3), 150, np.uint8)
        frame[0, 0] = 255 if mark else 0
        frames.append(frame)
    column = Column(np.zeros(0, np.uint8), np.zeros(len(marks) + 1, np.int64), frames=frames)
    fields, columns, key = list(SCHEMA.fields), [column], ""
    if keys:
        fields.insert(0, Field("camera", Type.STR))
        columns.insert(0, Column.of(Type.STR, keys))
        key = "camera"
    time = np.arange(len(marks), dtype=np.int64) * step_ns
    return Block(Schema("cam", tuple(fields), key), time, tuple(columns))


def covered(column):
    return [bool(f[35:65, 45:75].max() < 40) for f in column.frames]


def test_a_face_missed_in_a_video_stays_covered_for_the_time_of_hold():
    out = run(stream([1, 0, 0, 0, 0], 200_000_000), face=Sometimes())
    assert covered(out.columns[0]) == [True, True, True, False, False]
    assert out.hits["face:held"] == 2


def test_hold_goes_on_over_blocks_and_is_of_one_camera():
    masker = Masker(BASE, detectors={"face": Sometimes(), "plate": Finder()})
    assert covered(masker.apply(stream([1, 0], 0, ["a", "b"])).columns[1]) == [True, False]
    assert covered(masker.apply(stream([0, 0], 0, ["a", "b"])).columns[1]) == [True, False]


def test_pictures_that_are_no_video_hold_nothing():
    frames = [np.full((120, 160, 3), 255 * (n == 0), np.uint8) for n in range(2)]
    cells = [cv2.imencode(".jpg", f)[1].tobytes() for f in frames]
    out = run(block(*cells), face=Sometimes())
    assert out.hits["face:held"] == 0


def test_16_bits_grey_are_masked_in_their_own_depth():
    from collections import Counter

    from forebay.mask.images import ImageMasker

    masker = ImageMasker(BASE, {"face": Finder((40, 30, 80, 70)), "plate": Finder()})
    deep = np.full((120, 160), 3000, np.uint16)
    out = masker.mask_frame(deep, Counter())
    assert (out.dtype, out.shape) == (np.uint16, (120, 160))
    assert out[30:70, 40:80].max() == 0
    assert out[0, 0] == deep[0, 0] == deep[50, 50] == 3000
