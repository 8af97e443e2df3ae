"""Frames to model inputs and suppression: one body over the compiled kernel and its twin."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import forebay_core
from forebay_core.reference import image as reference

kernels = [pytest.param(reference, id="reference")]
if forebay_core.IMPLEMENTATION == "compiled":
    from forebay_core import _image

    kernels.append(pytest.param(_image, id="compiled"))

MEAN = np.array([104, 117, 123], np.float32)
SCALE = np.array([0.5, 0.25, 1 / 127.5], np.float32)


def fit(kernel: ModuleType, frame: np.ndarray, size: tuple[int, int], **options: object) -> np.ndarray:
    height, width = size
    out = np.full(3 * height * width, np.nan, np.float32)
    place = {"top": 0, "left": 0, "inner_height": height, "inner_width": width}
    rest = {"mean": MEAN, "scale": SCALE, "rgb": False, "planar": True, "pad": 7.0} | place | options
    kernel.fit(frame, out, height, width, **rest)
    return out.reshape((3, height, width) if rest["planar"] else (height, width, 3))


@pytest.fixture(params=kernels)
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_frame_of_the_inputs_own_size_is_only_normalised(kernel: ModuleType) -> None:
    frame = noise(9, 7)
    expected = ((frame - MEAN) * SCALE).transpose(2, 0, 1)
    np.testing.assert_allclose(fit(kernel, frame, (9, 7)), expected, atol=1e-4)


def test_red_first_and_pixels_side_by_side_are_where_the_model_wants_them(kernel: ModuleType) -> None:
    frame = noise(5, 6)
    expected = ((frame - MEAN) * SCALE)[:, :, ::-1]
    np.testing.assert_allclose(fit(kernel, frame, (5, 6), rgb=True, planar=False), expected, atol=1e-4)


def test_borders_hold_the_padding_and_nothing_else_does(kernel: ModuleType) -> None:
    out = fit(kernel, noise(10, 20), (16, 16), top=4, left=2, inner_height=8, inner_width=12)
    inside = np.zeros((16, 16), bool)
    inside[4:12, 2:14] = True
    assert (out[:, ~inside] == 7.0).all()
    assert not (out[:, inside] == 7.0).any()


@pytest.mark.parametrize("size", [(30, 40), (7, 5), (200, 300), (1, 1)])
def test_resizing_agrees_with_opencv_to_one_grey_level(kernel: ModuleType, size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    frame = cv2.GaussianBlur(noise(67, 91), (0, 0), 2)
    expected = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)
    one = np.ones(3, np.float32)
    got = fit(kernel, frame, size, mean=np.zeros(3, np.float32), scale=one, planar=False)
    assert np.abs(got - expected).max() <= 1.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (33, 1), (40, 64)])
def test_compiled_and_reference_agree(shape: tuple[int, int], kernel: ModuleType) -> None:
    frame = noise(*shape)
    frame.setflags(write=False)
    options = {"top": 1, "left": 3, "inner_height": 20, "inner_width": 25, "rgb": True}
    np.testing.assert_allclose(
        fit(kernel, frame, (24, 32), **options), fit(reference, frame, (24, 32), **options), atol=1e-4
    )


def test_a_crop_with_distant_rows_is_read_in_place(kernel: ModuleType) -> None:
    frame = noise(40, 50)
    crop = frame[10:30, 5:45]
    np.testing.assert_array_equal(fit(kernel, crop, (20, 40)), fit(kernel, crop.copy(), (20, 40)))


@pytest.mark.parametrize(
    "bad",
    [{"top": -1}, {"left": 9}, {"inner_height": 0}, {"inner_width": 99}, {"mean": np.zeros(2, np.float32)}],
)
def test_a_place_outside_the_input_is_refused(kernel: ModuleType, bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"lie within|do not agree"):
        fit(kernel, noise(8, 8), (16, 16), **({"inner_height": 8, "inner_width": 8} | bad))


def test_an_empty_or_mirrored_frame_is_refused(kernel: ModuleType) -> None:
    with pytest.raises(ValueError, match="not empty"):
        fit(kernel, np.zeros((0, 4, 3), np.uint8), (4, 4))
    with pytest.raises(ValueError, match="side by side"):
        fit(kernel, noise(4, 4)[:, ::-1], (4, 4))


def keep(kernel: ModuleType, boxes: list[list[float]], labels: list[int], limit: float) -> list[int]:
    out = np.zeros(len(boxes), np.uint8)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    kernel.suppress(array, np.arange(len(boxes)), np.array(labels, np.int32), limit, out)
    return out.tolist()


def test_of_two_overlapping_boxes_of_a_label_the_better_stays(kernel: ModuleType) -> None:
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [30, 30, 40, 40]]
    assert keep(kernel, boxes, [1, 1, 2, 1], 0.5) == [1, 0, 1, 1]


def test_overlap_at_the_limit_stays_and_above_it_goes(kernel: ModuleType) -> None:
    boxes = [[0, 0, 10, 10], [5, 0, 15, 10]]  # a third
    assert keep(kernel, boxes, [0, 0], 0.34) == [1, 1]
    assert keep(kernel, boxes, [0, 0], 0.33) == [1, 0]


def test_empty_inverted_and_nan_boxes_suppress_nothing(kernel: ModuleType) -> None:
    nan = float("nan")
    assert keep(kernel, [[5, 5, 5, 5], [9, 9, 1, 1], [nan, 0, 9, 9], [0, 0, 9, 9]], [0] * 4, 0.1) == [1] * 4
    assert keep(kernel, [], [], 0.1) == []


def test_suppression_agrees_on_random_boxes() -> None:
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 50, (200, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 30, (200, 2))], axis=1).tolist()
    labels = rng.integers(0, 3, 200).tolist()
    results = [keep(k.values[0], boxes, labels, 0.4) for k in kernels]
    assert 0 < sum(results[0]) < 200
    assert all(r == results[0] for r in results)


def test_an_order_that_points_outside_is_refused(kernel: ModuleType) -> None:
    with pytest.raises(ValueError, match="permutation"):
        kernel.suppress(
            np.zeros((1, 4), np.float32), np.array([3]), np.zeros(1, np.int32), 0.5, np.zeros(1, np.uint8)
        )
