"""Encoded pictures: every format, cut off at every place, claiming any size; depth, grey and alpha."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from forebay import pictures
from forebay.errors import InputError

cv2 = pytest.importorskip("cv2")

FORMATS = (".jpg", ".png", ".webp", ".bmp", ".tif")


def scene(height: int = 61, width: int = 83) -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 255, (8, 11, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)))


def encoded(suffix: str, frame: np.ndarray | None = None) -> bytes:
    return bytes(cv2.imencode(suffix, scene() if frame is None else frame)[1])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_header_says_what_the_decoder_gives(suffix: str) -> None:
    header = pictures.read_header(encoded(suffix))
    assert (header.height, header.width, header.more) == (61, 83, False)
    assert pictures.decode(encoded(suffix)).shape == (61, 83, 3)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_cut_off_anywhere_is_an_input_error(suffix: str) -> None:
    data = encoded(suffix)
    for end in {*range(min(len(data), 400)), *range(0, len(data), max(1, len(data) // 97)), len(data) - 2}:
        with pytest.raises(InputError):
            pictures.decode(data[:end])


@pytest.mark.parametrize("suffix", FORMATS)
def test_bytes_turned_over_never_crash_the_reader(suffix: str) -> None:
    data, rng = encoded(suffix), np.random.default_rng(9)
    for _ in range(200):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 64), 3).tolist():
            broken[at] = int(rng.integers(0, 256))
        try:
            header = pictures.read_header(bytes(broken))
        except InputError:
            continue
        assert header.width > 0
        assert header.height > 0


def bombs() -> dict[str, bytes]:
    """A small file of each format that claims 60,000 x 60,000 pixels."""
    side = 60_000
    png = encoded(".png")
    jpeg = bytearray(encoded(".jpg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(encoded(".bmp"))
    bmp[18:26] = struct.pack("<ii", side, side)
    bmp[30:34] = struct.pack("<I", 1)  # run lengths: a small body may stand for any size
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + 2 * (16_383).to_bytes(3, "little")
    webp = b"RIFF" + struct.pack("<I", len(body)) + body
    tags = ((256, side), (257, side), (258, 8), (277, 3))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    gif = b"GIF89a" + struct.pack("<HH", side, side) + bytes(3) + b";"
    return {
        "PNG": png[:16] + struct.pack(">II", side, side) + png[24:], "JPEG": bytes(jpeg), "BMP": bytes(bmp),
        "WebP": webp, "TIFF": tiff, "GIF": gif,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP", "WebP", "TIFF", "GIF"])
def test_a_file_that_claims_to_be_huge_is_refused_before_it_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=f"a {name} of .* is larger than"):
        pictures.decode(bombs()[name])


def test_other_formats_are_refused_by_their_first_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    ppm = encoded(".ppm")
    for data in (ppm, b"", b"noise" * 100, b"RIFF\x08\0\0\0WAVEfmt "):
        with pytest.raises(InputError):
            pictures.decode(data)


def test_a_jpeg_is_cut_off_though_its_thumbnail_has_an_end_marker() -> None:
    data, thumbnail = encoded(".jpg"), b"Exif\0\0" + encoded(".jpg", scene(8, 8))
    tagged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert pictures.decode(tagged).shape == (61, 83, 3)
    with pytest.raises(InputError, match="no end marker"):
        pictures.decode(tagged[:-2])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_and_depth_are_kept_and_alpha_goes(suffix: str) -> None:
    frame = scene()
    grey = pictures.decode_deep(encoded(suffix, frame[:, :, 0]))
    deep = pictures.decode_deep(encoded(suffix, frame.astype(np.uint16) * 16))
    clear = pictures.decode_deep(encoded(suffix, np.dstack([frame, np.zeros((61, 83), np.uint8)])))
    assert (grey.shape, grey.dtype) == ((61, 83), np.uint8)
    assert (deep.shape, deep.dtype) == ((61, 83, 3), np.uint16)
    np.testing.assert_array_equal(clear, frame)


def test_dark_16_bits_are_stretched_for_detectors() -> None:
    frame = scene()
    seen = pictures.as_bgr(frame.astype(np.uint16) * 4)  # 10 bits in 16
    assert seen.min() < 10
    assert seen.max() > 245
    assert np.corrcoef(seen.reshape(-1), frame.reshape(-1))[0, 1] > 0.99


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(InputError):
        pictures.decode(encoded(".tif", scene().astype(np.float32)))


def test_one_pixel_and_8k_are_read() -> None:
    assert pictures.decode(encoded(".png", scene(1, 1))).shape == (1, 1, 3)
    large = np.zeros((4320, 7680), np.uint8)
    large[4000:4100, 7000:7100] = 255
    assert pictures.decode(encoded(".png", large))[4050, 7050].tolist() == [255, 255, 255]


def test_further_pages_are_told() -> None:
    data = bytearray(encoded(".tif"))
    assert data[:2] == b"II"
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)  # the next page is this one once more
    assert pictures.read_header(bytes(data)).more


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_holds_pixels_alone(suffix: str) -> None:
    out = pictures.encode(scene(), suffix, 90)
    for mark in (b"Exif", b"xmp", b"XMP", b"ICC_PROFILE", b"iCCP", b"tEXt", b"iTXt", b"eXIf", b"OpenCV"):
        assert mark not in out
