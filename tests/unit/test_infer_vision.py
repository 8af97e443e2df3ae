"""Detectors on real photographs, and frames that are none."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay import shipped
from forebay.errors import InputError, ModelError
from forebay.infer import vision
from forebay.infer.bundle import find, load, open_session
from forebay.infer.decoders import blazeface_anchors, retinaface_priors, ssd_anchors
from forebay.infer.nms import drop_parts
from forebay.infer.session import SessionOptions, SessionPool
from forebay.infer.vision import Detector, _cuts, load_detector

cv2 = pytest.importorskip("cv2")

PHOTOS = shipped.path("config") / "demo" / "photos"
# Measured by hand: hairline to chin, ear to ear.
FACES = {"astronaut.jpg": (180, 76, 272, 179), "hopper.jpg": (165, 140, 362, 335)}


def photo(name: str) -> np.ndarray:
    frame = cv2.imread(str(PHOTOS / name))
    assert frame is not None
    return np.asarray(frame)


@lru_cache
def detector(name: str) -> Detector:
    return load_detector(name)


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("model", ["faces", "faces-near"])
@pytest.mark.parametrize("name", FACES)
def test_the_one_face_of_a_portrait_is_found_where_it_is(model: str, name: str) -> None:
    boxes = detector(model).detect(photo(name))
    assert boxes.shape == (1, 5)
    assert boxes.dtype == np.float32
    assert iou(FACES[name], tuple(boxes[0, :4])) > 0.5
    assert boxes[0, 4] > 0.6


@pytest.mark.parametrize("model", ["faces", "faces-near", "plates-cn"])
def test_a_cup_is_no_face_and_no_plate(model: str) -> None:
    assert detector(model).detect(photo("coffee.jpg")).shape == (0, 5)


@pytest.mark.parametrize(
    ("name", "label"), [("astronaut.jpg", "Person"), ("hopper.jpg", "Person"), ("coffee.jpg", "Coffee cup")]
)
def test_street_objects_names_what_a_photograph_shows(name: str, label: str) -> None:
    found = detector("street-objects").detect_labelled(photo(name))
    assert found[0].label == label
    assert (found[0].box[2] - found[0].box[0]) * (found[0].box[3] - found[0].box[1]) > 20_000


def test_faces_of_32_pixels_are_found_in_a_large_frame() -> None:
    frame = cv2.resize(photo("coffee.jpg"), (1920, 1080))
    small = cv2.resize(photo("astronaut.jpg"), None, fx=32 / 88, fy=32 / 88, interpolation=cv2.INTER_AREA)
    expected = []
    for top, left in ((40, 100), (600, 1500), (850, 60)):
        frame[top : top + len(small), left : left + len(small)] = small
        expected.append(
            tuple(v * 32 / 88 + o for v, o in zip(FACES["astronaut.jpg"], (left, top) * 2, strict=True))
        )
    found = detector("faces").detect(frame)
    assert [max(iou(e, tuple(f[:4])) for f in found) > 0.4 for e in expected] == [True] * 3


def test_large_frames_are_tiled_and_boxes_stay_in_frame_pixels() -> None:
    frame = np.zeros((700, 1900, 3), np.uint8)
    frame[150:662, 1300:1812] = photo("astronaut.jpg")
    tiled = load_detector("faces", resolution=1.0)
    (found,) = tiled.detect_labelled(frame)
    assert len(tiled._plan(700, 1900)) > 3
    expected = tuple(v + o for v, o in zip(FACES["astronaut.jpg"], (1300, 150) * 2, strict=True))
    assert iou(expected, found.box) > 0.5


def test_a_synthetic_plate_is_found() -> None:
    frame = np.full((480, 640, 3), 90, np.uint8)
    cv2.rectangle(frame, (120, 60), (520, 430), (60, 60, 70), -1)
    plate = np.full((70, 220, 3), (160, 60, 10), np.uint8)
    cv2.rectangle(plate, (3, 3), (216, 66), (255, 255, 255), 2)
    for a, b in (((28, 10), (28, 20)), ((12, 20), (46, 20)), ((17, 27), (41, 40)), ((29, 40), (29, 60))):
        cv2.rectangle(plate, a, b, (255, 255, 255), 3)
    cv2.putText(plate, "A", (52, 54), cv2.FONT_HERSHEY_DUPLEX, 1.5, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.putText(plate, "8K216", (98, 54), cv2.FONT_HERSHEY_DUPLEX, 1.25, (255, 255, 255), 3, cv2.LINE_AA)
    frame[330:400, 210:430] = plate
    (found,) = detector("plates-cn").detect_labelled(cv2.GaussianBlur(frame, (0, 0), 0.8))
    assert found.label == "plate"
    assert iou((210, 330, 430, 400), found.box) > 0.7


EDGE = 6  # masking's margin is wider; other releases of OpenCV draw letters a little wider


def test_lines_of_text_are_found_where_they_are_and_a_portrait_has_none() -> None:
    frame = np.full((300, 500, 3), 240, np.uint8)
    for text, y in (("Forebay 2026-11", 80), ("do not enter", 200)):
        cv2.putText(frame, text, (60, y), cv2.FONT_HERSHEY_DUPLEX, 1.0, (20, 20, 20), 2, cv2.LINE_AA)
    found = sorted(detector("text-lines").detect_labelled(frame), key=lambda d: d.box[1])
    assert [d.label for d in found] == ["text", "text"]
    for one, y in zip(found, (80, 200), strict=True):
        assert one.box[0] < 62
        assert one.box[1] < y - 20
        assert one.box[3] > y
    dark = (np.asarray(frame) < 128).any(axis=2)
    for one in found:
        x1, y1, x2, y2 = (round(v) for v in one.box)
        dark[y1 - EDGE : y2 + EDGE, x1 - EDGE : x2 + EDGE] = False
    assert not dark.any()
    assert detector("text-lines").detect(photo("astronaut.jpg")).shape == (0, 5)


def test_only_wanted_classes_come_back_and_unknown_ones_are_refused() -> None:
    cups = load_detector("street-objects", classes=("Coffee cup",))
    assert not cups.detect_labelled(photo("astronaut.jpg"))
    assert [d.label for d in cups.detect_labelled(photo("coffee.jpg"))] == ["Coffee cup"]
    with pytest.raises(ModelError, match="no class `Helmet`") as caught:
        load_detector("street-objects", classes=("Helmet",))
    assert "Person" in caught.value.hint


def test_a_higher_threshold_finds_less() -> None:
    frame = photo("astronaut.jpg")
    few = load_detector("street-objects", threshold=0.95).detect(frame)
    many = load_detector("street-objects", threshold=0.05).detect(frame)
    assert len(few) == 0 < len(many)
    assert (np.diff(many[:, 4]) <= 0).all()


def test_tiles_find_what_the_whole_frame_is_too_coarse_for() -> None:
    frame = np.full((1200, 1600, 3), 200, np.uint8)
    frame[80:480, 100:700] = photo("coffee.jpg")
    whole = [d.label for d in load_detector("street-objects").detect_labelled(frame)]
    tiled = [d.label for d in load_detector("street-objects", tiles=2).detect_labelled(frame)]
    assert tiled.count("Coffee cup") == 1
    assert len(tiled) >= len(whole)


@pytest.mark.parametrize("model", ["faces", "faces-near", "street-objects", "plates-cn", "text-lines"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (700, 2, 3), (40, 50), (40, 50, 1), (40, 50, 4)])
def test_tiny_grey_and_alpha_frames_are_looked_at(model: str, shape: tuple[int, ...]) -> None:
    boxes = detector(model).detect(np.full(shape, 128, np.uint8))
    assert boxes.shape[1] == 5


def test_a_grey_portrait_gives_the_same_face() -> None:
    grey = cv2.cvtColor(photo("astronaut.jpg"), cv2.COLOR_BGR2GRAY)
    (box,) = detector("faces").detect(grey)
    assert iou(FACES["astronaut.jpg"], tuple(box[:4])) > 0.5


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5, 2), np.uint8),
        np.zeros((5, 5, 3)),
        np.zeros(5, np.uint8),
    ],
)
def test_what_is_no_frame_is_an_input_error(frame: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected an image"):
        detector("faces-near").detect(frame)


def test_a_sensor_model_is_no_detector() -> None:
    with pytest.raises(ModelError, match="expected a detection model, found task anomaly"):
        load_detector("sensor-anomaly")


def test_anchor_counts_are_those_of_the_models() -> None:
    assert ssd_anchors(300, 300).shape == (1917, 4)
    assert blazeface_anchors(128, 128).shape == (896, 2)
    assert retinaface_priors(320, 320).shape == (2 * (1600 + 400 + 100), 4)


@pytest.mark.parametrize(("length", "count"), [(1000, 1), (1000, 2), (1001, 4), (7, 3)])
def test_tiles_cover_everything(length: int, count: int) -> None:
    seen = np.zeros(length, int)
    for start, size in _cuts(length, count):
        assert start >= 0
        assert start + size <= length
        seen[start : start + size] += 1
    assert seen.min() >= 1


def test_a_part_that_a_tile_cut_off_is_dropped_but_not_a_neighbour() -> None:
    boxes = np.array([[0, 0, 100, 200], [0, 100, 100, 200], [10, 10, 40, 40]], np.float32)
    labels, passes = np.zeros(3, np.int32), np.array([0, 1, 0], np.int32)
    keep = drop_parts(boxes, np.array([0.5, 0.9, 0.5], np.float32), labels, passes, 0.8, 0.6)
    assert keep.tolist() == [True, False, True]


def test_the_same_thing_seen_worse_by_another_pass_is_dropped_but_not_two_inside_a_loose_box() -> None:
    boxes = np.array([[0, 0, 40, 100], [0, 30, 44, 120]], np.float32)
    labels, passes = np.zeros(2, np.int32), np.array([0, 1], np.int32)
    assert drop_parts(boxes, np.array([0.6, 0.4], np.float32), labels, passes, 0.8, 0.6).tolist() == [
        True,
        False,
    ]
    couple = np.array([[0, 0, 40, 100], [50, 0, 90, 100], [-20, -20, 62, 120]], np.float32)
    kept = drop_parts(
        couple,
        np.array([0.6, 0.58, 0.4], np.float32),
        np.zeros(3, np.int32),
        np.array([0, 0, 1], np.int32),
        1.1,
        0.6,
    )
    assert kept.tolist() == [True, True, True]


def test_photographs_have_a_notice() -> None:
    notice = (PHOTOS / "NOTICE.md").read_text(encoding="utf-8")
    assert all(p.name in notice for p in Path(PHOTOS).glob("*.jpg"))


def small_faces(size: int) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    """A frame with three faces of `size` pixels, and where they are."""
    frame = cv2.resize(photo("coffee.jpg"), (960, 540))
    portrait, ratio = photo("astronaut.jpg")[40:230, 140:310], size / 103
    small = cv2.resize(portrait, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    x1, y1, x2, y2 = FACES["astronaut.jpg"]
    face, places = ((x1 - 140) * ratio, (y1 - 40) * ratio, (x2 - 140) * ratio, (y2 - 40) * ratio), []
    for left, top in ((40, 30), (500, 300), (860, 450)):
        frame[top : top + small.shape[0], left : left + small.shape[1]] = small
        places.append((face[0] + left, face[1] + top, face[2] + left, face[3] + top))
    return frame, places


def test_a_second_look_finds_what_the_first_was_unsure_of_and_says_where() -> None:
    frame, places = small_faces(27)
    once = load_detector("faces", 0.4)
    twice = load_detector("faces", 0.4, again=0.05)
    assert len(once.detect(frame)) < 3
    found = twice.detect(frame)
    assert len(found) == 3
    assert (found[:, 4] >= 0.4).all()
    assert [max(iou(place, tuple(f[:4])) for f in found) > 0.4 for place in places] == [True] * 3


def test_a_second_look_lets_what_is_none_go_and_looks_at_so_many_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise = np.random.default_rng(5).integers(0, 255, (480, 640, 3), np.uint8)
    unsure = load_detector("faces", 0.4, again=0.001)
    looks: list[Any] = []
    monkeypatch.setattr(
        unsure, "_look", lambda frame, p, real=unsure._look: looks.append(p) or real(frame, p)
    )
    assert unsure.detect(noise).shape == (0, 5)
    assert len(looks) <= len(unsure._plan(480, 640)) + vision.MAX_AGAIN
    assert len(looks) > len(unsure._plan(480, 640))


def test_a_small_box_needs_twice_the_score_for_a_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = load_detector("faces", 0.4, again=0.1)
    small, large = (10, 10, 20, 22), (100, 100, 120, 124)
    looks: list[Any] = []

    def look(frame: Any, part: Any) -> Any:
        if part.height == 480:
            boxes = np.array([small, small, large], dtype=np.float32)
            boxes[1] += 40
            return boxes, np.array([0.19, 0.21, 0.11], dtype=np.float32), np.zeros(3, dtype=np.int32)
        looks.append((part.left, part.top))
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)

    monkeypatch.setattr(faces, "_look", look)
    assert faces.detect(np.zeros((480, 480, 3), np.uint8)).shape == (0, 5)
    assert len(looks) == 2
    assert all(left > 20 for left, _ in looks)


def test_a_resolution_that_would_cost_tiles_is_not_taken() -> None:
    bundle = load(find("faces"))
    faces = Detector(bundle, open_session(bundle, SessionPool(), SessionOptions(), verify=False), most=1.0)
    assert next((p.inner_height, p.inner_width) for p in faces._plan(540, 960)) == (540, 960)
    *whole, overview = faces._plan(1080, 1920)
    assert {p.inner_width for p in whole} == {1600}, "bands of the whole width, no tiles"
    assert overview.inner_width == 416


@pytest.mark.parametrize("shape", [(540, 960), (1080, 1920), (1920, 1080), (4000, 900), (3000, 4000)])
def test_bands_cover_the_frame_share_an_overlap_and_stay_small(shape: tuple[int, int]) -> None:
    *bands, overview = detector("faces")._plan(*shape)
    assert (overview.height, overview.width) == shape
    whole = [b for b in bands if b.inner_width == bands[0].inner_width and b.width == shape[1]]
    assert whole[0].top == 0
    assert whole[-1].top + whole[-1].height == shape[0]
    ratio = whole[0].inner_width / whole[0].width
    for above, below in pairwise(whole):
        assert above.top + above.height - below.top >= vision.BAND_OVERLAP / ratio - 1
    if len(whole) > 1:
        assert max(b.inner_height * b.inner_width for b in whole) < 1.6 * vision.BAND_PIXELS


def test_a_face_on_the_edge_of_two_bands_is_found_whole() -> None:
    frame = np.full((1080, 1920, 3), 90, np.uint8)
    first = detector("faces")._plan(1080, 1920)[0]
    top = first.top + first.height - 128  # the edge goes through the face
    frame[top : top + 256, 300:556] = cv2.resize(photo("astronaut.jpg"), (256, 256))
    (found,) = detector("faces").detect_labelled(frame)
    expected = tuple(v / 2 + o for v, o in zip(FACES["astronaut.jpg"], (300, top) * 2, strict=True))
    assert iou(expected, found.box) > 0.5
