"""Bad input walked through as a list: a named error, the rest goes on, and masking lets nothing pass."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from forebay import infer, shipped
from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.models import InferOptions
from forebay.errors import InputError, ModelError
from forebay.infer.bundle import find, load, open_session
from forebay.infer.detect import DetectStep
from forebay.infer.session import SessionOptions, SessionPool
from forebay.infer.vision import MAX_TILES, Detector, load_detector
from forebay.mask import load_policy
from forebay.mask.images import ImageMasker
from forebay.videos import Video

POOL = SessionPool()


def portrait() -> np.ndarray:
    photos = sorted((shipped.path("config") / "demo" / "photos").glob("*.jpg"))
    return np.asarray(cv2.imread(str(photos[0])))


def encoded(frame: np.ndarray, suffix: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(suffix, frame)[1])


def claims(width: int, height: int) -> bytes:
    """Return a PNG of 1 x 1 whose header claims another size."""
    data = bytearray(encoded(np.zeros((1, 1, 3), np.uint8), ".png"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


JPEG = encoded(portrait())
BAD: dict[str, bytes] = {
    "empty": b"",
    "text": b"13800138000 is no picture",
    "JPEG cut in the middle": JPEG[: len(JPEG) // 2],
    "JPEG without its last byte": JPEG[:-1],
    "JPEG of which only the end is left": JPEG[200:],
    "JPEG without tables": re.sub(rb"\xff\xdb.{67}", b"", JPEG, count=1, flags=re.DOTALL),
    "PNG that claims 20 000 megapixels": claims(200_000, 100_000),
    "PNG without a pixel": claims(0, 7),
    "TIFF of floats": encoded(np.zeros((4, 4), np.float32), ".tiff"),
    "video": b"\0\0\0\x20ftypisom" + b"\0" * 64,
}
ODD: dict[str, np.ndarray] = {
    "1 x 1": np.full((1, 1, 3), 9, np.uint8),
    "one row": np.full((1, 900, 3), 9, np.uint8),
    "grey": cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY),
    "alpha": cv2.cvtColor(portrait(), cv2.COLOR_BGR2BGRA),
    "16 bits": portrait().astype(np.uint16) * 257,
}


@lru_cache
def faces() -> Detector:
    return load_detector("faces", pool=POOL)


def masked(*cells: bytes) -> tuple[Column, Counter[str]]:
    hits: Counter[str] = Counter()
    masker = ImageMasker(load_policy("base", Path()), {"face": faces(), "plate": Nothing()})
    return masker.apply(Column.of(Type.BYTES, list(cells)), hits), hits


class Nothing:
    """A detector that finds nothing, at once."""

    def detect(self, frame: np.ndarray) -> np.ndarray:
        assert frame.dtype == np.uint8
        assert frame.ndim == 3
        return np.zeros((0, 5), np.float32)


def pictures(*cells: bytes) -> Block:
    schema = Schema("cam", (Field("image", Type.BYTES, media="image"),))
    return Block(schema, np.arange(len(cells), dtype=np.int64), (Column.of(Type.BYTES, list(cells)),))


@pytest.mark.parametrize("name", BAD)
def test_a_picture_that_cannot_be_read_is_null_and_the_ones_beside_it_are_masked(name: str) -> None:
    column, hits = masked(JPEG, BAD[name], JPEG)
    assert column.quality is not None
    assert column.quality.tolist() == [q.GOOD, q.DETECTOR_FAILED, q.GOOD]
    assert column.cell_bytes(1) == b""
    assert hits["image:detector_failed"] == 1
    assert hits["face:fill"] == 2


@pytest.mark.parametrize("name", BAD)
def test_a_detection_model_names_it_without_a_byte_of_it_and_looks_at_the_next(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    step = infer.build("infer", InferOptions(model="faces", field="image"), pool=POOL)
    assert isinstance(step, DetectStep)
    found, passed = step.process(pictures(BAD[name], JPEG))
    assert passed.column("objects").to_list(Type.I64) == [None, 1]
    assert step.counts == {"undecodable": 1, "looked": 1}
    assert found.column("frame").values.tolist() == [1]
    assert "field image: " in caplog.text
    assert "13800138000" not in caplog.text


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_looked_at_and_masked(name: str) -> None:
    column, hits = masked(encoded(ODD[name], ".png"))
    assert column.quality is None
    assert hits["face:fill"] == (0 if name in ("1 x 1", "one row") else 1)
    out = cv2.imdecode(np.frombuffer(column.cell_bytes(0), np.uint8), cv2.IMREAD_UNCHANGED)
    assert out.shape[:2] == ODD[name].shape[:2]
    assert out.ndim == 3, "no alpha channel, three planes"
    assert out.shape[2] == 3


def test_pixels_that_were_damaged_on_the_way_are_looked_at_as_they_are_or_refused() -> None:
    rng = np.random.default_rng(0)
    body = JPEG.index(b"\xff\xda") + 20
    outcomes: Counter[bool] = Counter()
    for _ in range(12):
        data = bytearray(JPEG)
        for place in rng.integers(body, len(JPEG) - 2, 40).tolist():
            data[place] = int(rng.integers(0, 255))
        column, hits = masked(bytes(data))
        null = bool(column.is_null()[0])
        assert null == bool(hits["image:detector_failed"])
        assert bytes(data)[body : body + 64] not in column.cell_bytes(0)
        outcomes[null] += 1
    assert outcomes[False] + outcomes[True] == 12


def test_an_8k_picture_takes_a_bounded_number_of_runs_and_is_masked() -> None:
    plan = faces()._plan(4320, 7680)
    assert len(plan) <= MAX_TILES + 2
    longest = faces()._prep.max_side
    assert max(max(p.inner_height, p.inner_width) for p in plan) <= longest
    assert max(p.top + p.height for p in plan) == 4320
    assert max(p.left + p.width for p in plan) == 7680
    frame = np.full((4320, 7680), 120, np.uint8)
    masker = ImageMasker(load_policy("base", Path()), {"face": Nothing(), "plate": Nothing()})
    column = masker.apply(Column.of(Type.BYTES, [encoded(frame)]), Counter())
    assert column.quality is None
    objects = load_detector("street-objects", pool=POOL)
    assert objects.detect(np.repeat(frame[:, :, None], 3, axis=2)).shape[1] == 5


def test_a_video_that_ends_in_the_middle_of_a_frame_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for n in range(40):
        writer.write(np.full((48, 64, 3), 5 * n, np.uint8))
    writer.release()
    assert len(list(Video(whole))) == 40
    data = whole.read_bytes()
    for share in (0.3, 0.6, 0.8):
        cut = tmp_path / f"{share}.avi"
        cut.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match=r"cut off|ends after|no frame"):
            list(Video(cut))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dtype: float32, shape: [n, 26]", "dtype: float64, shape: [n, 26]", "expected float64"),
        ("dtype: float32, shape: [n, 26]", "dtype: float32, shape: [n, 25]", r"expected float32\['n', 25\]"),
        ("dtype: float32, shape: [n, 26]", "dtype: float32, shape: [26]", r"expected float32\[26\]"),
    ],
)
def test_another_type_or_shape_than_the_graph_has_is_refused_at_load(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    import shutil

    made = Path(shutil.copytree(find("sensor-anomaly"), tmp_path / "made"))
    text = (made / "manifest.yaml").read_text()
    assert old in text
    (made / "manifest.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError, match=message):
        open_session(load(made), SessionPool(), SessionOptions())


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8])
def test_an_input_of_another_type_is_named_without_its_values(dtype: Any) -> None:
    bundle = load(find("sensor-anomaly"))
    session = open_session(bundle, POOL, SessionOptions(), verify=False)
    with pytest.raises(ModelError, match=np.dtype(dtype).name) as caught:
        session.run({"window": np.full((2, 26), 77, dtype)}, ("error",))
    assert "77" not in str(caught.value)
