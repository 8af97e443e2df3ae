"""Small faces: the floor under docs/images-and-video.md's table, see tests/quality/faces.py."""

from __future__ import annotations

import faces
import pytest


def test_nine_in_ten_faces_of_25_pixels_without_hair_and_neck_are_found() -> None:
    result = faces.measure(25, seeds=(1,))
    assert result.faces == 100
    assert result.found >= 91
    assert result.others <= 4


@pytest.mark.slow
def test_of_faces_from_24_to_40_pixels_nineteen_in_twenty_are_found() -> None:
    results = [faces.measure(size) for size in (24, 28, 32, 40)]
    assert sum(r.found for r in results) >= 0.95 * sum(r.faces for r in results)
