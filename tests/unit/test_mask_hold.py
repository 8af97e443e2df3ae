"""A region that was found stays covered through the frames that miss it, moving and growing, and no longer."""

from __future__ import annotations

import numpy as np
import pytest

from forebay.mask.hold import Hold, hold_both_ways

MS = 1_000_000
SHAPE = (1080, 1920, 3)


def boxes(*rows: tuple[float, float, float, float]) -> dict[str, np.ndarray]:
    return {"face": np.array(rows, dtype=np.float64).reshape(-1, 4)}


def covers(held: np.ndarray, box: tuple[float, float, float, float]) -> bool:
    return any((h[:2] <= box[:2]).all() and (h[2:] >= box[2:]).all() for h in held)


def at(number: int, speed: float = 10.0) -> tuple[float, float, float, float]:
    return (100 + speed * number, 200, 140 + speed * number, 250)


def test_a_moving_face_stays_covered_while_it_is_missed() -> None:
    hold = Hold(500 * MS)
    for n in range(10):
        assert not len(hold.update(n * 40 * MS, SHAPE, boxes(at(n)))["face"])
    for n in range(10, 22):
        assert covers(hold.update(n * 40 * MS, SHAPE, boxes())["face"], at(n)), n


def test_after_its_time_nothing_is_held() -> None:
    hold = Hold(500 * MS)
    hold.update(0, SHAPE, boxes(at(0)))
    assert len(hold.update(500 * MS, SHAPE, boxes())["face"]) == 1
    assert len(hold.update(501 * MS, SHAPE, boxes())["face"]) == 0


def test_a_face_found_again_is_not_held_beside_itself() -> None:
    hold = Hold(500 * MS)
    hold.update(0, SHAPE, boxes(at(0)))
    hold.update(40 * MS, SHAPE, boxes())
    assert not len(hold.update(80 * MS, SHAPE, boxes(at(2)))["face"])


def test_two_faces_are_told_apart() -> None:
    hold = Hold(500 * MS)
    other = (900.0, 500.0, 950.0, 560.0)
    hold.update(0, SHAPE, boxes(at(0), other))
    held = hold.update(40 * MS, SHAPE, boxes(at(1)))["face"]
    assert len(held) == 1
    assert covers(held, other)


def test_another_size_or_a_time_that_turns_back_begins_anew() -> None:
    hold = Hold(500 * MS)
    hold.update(0, SHAPE, boxes(at(0)))
    assert not len(hold.update(40 * MS, (480, 640, 3), boxes())["face"])
    hold.update(80 * MS, (480, 640, 3), boxes(at(0)))
    assert not len(hold.update(40 * MS, (480, 640, 3), boxes())["face"])


def test_frames_of_one_time_are_held_too() -> None:
    hold = Hold(500 * MS)
    hold.update(0, SHAPE, boxes(at(0)))
    assert covers(hold.update(0, SHAPE, boxes())["face"], at(0))


@pytest.mark.parametrize("first", [5, 12])
def test_a_whole_video_is_covered_before_the_first_find_too(first: int) -> None:
    times = [n * 40 * MS for n in range(30)]
    found = [boxes(at(n)) if first <= n < 20 else boxes() for n in range(30)]
    held = hold_both_ways(times, SHAPE, found, 500 * MS)
    for n in range(first - 12 if first >= 12 else 0, first):
        assert covers(held[n]["face"], at(n)), n
    assert covers(held[29]["face"], at(29))
    assert not len(held[first + 1]["face"])


def test_many_regions_of_a_broken_detector_stay_bounded() -> None:
    hold = Hold(10_000 * MS)
    rng = np.random.default_rng(4)
    for n in range(5):
        corner = rng.uniform(0, 5000, (600, 2))
        found = {"face": np.concatenate([corner, corner + 2], axis=1)}
        hold.update(n * MS, SHAPE, found)
    assert len(hold.update(9 * MS, SHAPE, boxes())["face"]) <= 600


def test_the_upper_half_alone_does_not_take_the_place_of_the_whole() -> None:
    hold = Hold(500 * MS)
    whole, half = (100.0, 100.0, 150.0, 250.0), (100.0, 100.0, 150.0, 160.0)
    hold.update(0, SHAPE, boxes(whole))
    assert covers(hold.update(40 * MS, SHAPE, boxes(half))["face"], whole)
    assert covers(hold.update(80 * MS, SHAPE, boxes())["face"], whole)


def test_who_walks_beside_another_keeps_to_their_own_track() -> None:
    hold = Hold(500 * MS)
    other = (170.0, 100.0, 210.0, 250.0)  # more than a width away, less than a height
    hold.update(0, SHAPE, boxes((100, 100, 140, 250), other))
    held = hold.update(40 * MS, SHAPE, boxes((104, 100, 144, 250)))["face"]
    assert covers(held, other)
    assert hold.update(80 * MS, SHAPE, boxes(other))["face"].shape == (1, 4), "the first one is held now"
