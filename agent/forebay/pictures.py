"""Encoded pictures: what their headers claim, decoding within limits, encoding. The rooms that see pictures share it.

Invariants
----------
- Nothing is decoded whose header does not say its size, or claims more than MAX_PIXELS: a file of a hundred
  bytes can claim any size, and a decoder allocates what it claims.
- A file that is cut off is an error, never a picture with a grey rest.
- Only the pixels of the first picture of a file come out: metadata, thumbnails, further pages and frames stay.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.blocks import MAX_BYTES_BYTES
from forebay.errors import InputError, MissingExtra

MAX_PIXELS = 64_000_000  # 8K has 33 million
MAX_PIXEL_BYTES = 8  # of one pixel: four channels of 16 bits
MAX_FILE_BYTES = 8 * MAX_BYTES_BYTES

Frame = npt.NDArray[np.uint8]
Picture = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_PNG = b"\x89PNG\r\n\x1a\n"
_STRETCH_SAMPLES = 1_000_000


@dataclass(frozen=True, slots=True)
class Header:
    """What a file claims: `more` is true where it holds further pages or an animation."""

    format: str
    width: int
    height: int
    more: bool = False
    pixel_bytes: int = 4


def read_header(data: bytes) -> Header:
    """Return what the header of a JPEG, PNG, WebP, BMP, TIFF or GIF says.

    Raises
    ------
    InputError
        Another format, a malformed header, or a file that is cut off.
    """
    for start, name, read in (
        (b"\xff\xd8\xff", "JPEG", _jpeg),
        (_PNG, "PNG", _png),
        (b"RIFF", "WebP", _webp),
        (b"BM", "BMP", _bmp),
        (b"II*\0", "TIFF", _tiff),
        (b"MM\0*", "TIFF", _tiff),
        (b"GIF8", "GIF", _gif),
    ):
        if data.startswith(start):
            try:
                header = read(data)
            except (struct.error, IndexError) as error:
                raise InputError(f"a {name} of {len(data)} bytes is cut off in its header") from error
            if header.width < 1 or header.height < 1:
                raise InputError(f"a {name} that claims {header.width} x {header.height} pixels")
            return header
    raise InputError(f"{len(data)} bytes are no picture: expected JPEG, PNG, WebP, BMP, TIFF or GIF")


def check(data: bytes) -> Header:
    """Return the header of a picture that may be decoded. Raises InputError, see read_header and MAX_PIXELS."""
    if not data or len(data) > MAX_FILE_BYTES:
        raise InputError(f"expected an encoded picture, found {len(data)} bytes")
    header = read_header(data)
    if header.width * header.height > MAX_PIXELS:
        raise InputError(
            f"a {header.format} of {header.width} x {header.height} is larger than {MAX_PIXELS} pixels"
        )
    if header.pixel_bytes > MAX_PIXEL_BYTES:
        raise InputError(
            f"a {header.format} of {header.pixel_bytes} bytes a pixel, at most {MAX_PIXEL_BYTES}"
        )
    return header


def decode(data: bytes) -> Frame:
    """Return the picture as BGR uint8 (h, w, 3), turned as its metadata says, without its alpha channel.

    Raises
    ------
    InputError
        Not a picture, cut off, or larger than MAX_PIXELS.
    MissingExtra
        Without OpenCV.
    """
    return as_bgr(decode_deep(data))


def decode_deep(data: bytes) -> Picture:
    """Return the picture as (h, w) or (h, w, 3), uint8 or uint16 as it is stored. Raises as `decode` does.

    The alpha channel goes: it can hold a picture of its own, which no detector would see.
    """
    check(data)
    cv2 = load_cv2("pictures")
    try:
        flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None or not picture.size:
        raise InputError(f"{len(data)} bytes are no picture that can be read")
    if picture.dtype not in (np.uint8, np.uint16) or picture.ndim not in (2, 3):
        raise InputError(f"expected 8 or 16 bits a channel, found {picture.dtype}{list(picture.shape)}")
    if picture.ndim == 3:
        picture = picture[:, :, 0] if picture.shape[2] < 3 else picture[:, :, :3]
    made: Picture = np.ascontiguousarray(picture)
    return made


def as_bgr(picture: Picture) -> Frame:
    """Return a picture as detectors take it: BGR uint8 (h, w, 3).

    16 bits are stretched to what is in use: a picture of 12 bits in 16 would be black otherwise, and whoever
    looks at it later stretches it too.
    """
    if picture.dtype == np.uint16:
        step = max(1, picture.size // _STRETCH_SAMPLES)
        low, high = np.percentile(picture.reshape(-1)[::step], (0.5, 99.5))
        scaled = (picture.astype(np.float32) - low) * (255.0 / max(high - low, 1.0))
        picture = np.clip(scaled, 0, 255).astype(np.uint8)
    three = np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim == 2 else picture
    frame: Frame = np.ascontiguousarray(three, dtype=np.uint8)
    return frame


def encode(picture: Picture, suffix: str, quality: int) -> bytes:
    """Return the picture as a file of a format (`.jpg`, `.png`, ...), without any metadata. Raises InputError."""
    cv2 = load_cv2("pictures")
    options: list[int] = []
    if suffix in (".jpg", ".jpeg", ".bmp", ".webp", ".gif") and picture.dtype != np.uint8:
        picture = as_bgr(picture)
    if suffix in (".jpg", ".jpeg"):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif suffix == ".webp":
        options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    try:
        done, data = cv2.imencode(suffix, picture, options)
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"cannot write a {picture.shape[1]} x {picture.shape[0]} picture as {suffix}")
    return bytes(data)


def load_cv2(feature: str) -> Any:
    """Return OpenCV. Raises MissingExtra."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra(f"reading {feature}", "vision") from error
    return cv2


def _cut_off(name: str, data: bytes, what: str) -> InputError:
    return InputError(f"a {name} of {len(data)} bytes is cut off: {what}")


def _jpeg(data: bytes) -> Header:
    """Walk the segments up to the first scan; the end marker must come behind it (a thumbnail has its own)."""
    at, size, channels, precision = 2, (0, 0), 3, 8
    while True:
        if data[at] != 0xFF:
            raise InputError("a JPEG whose segments do not follow each other")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a body
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            precision, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            if size != (0, 0):
                raise InputError("a JPEG with two sizes")
            size = (width, height)
        at += 2 + length
        if marker == 0xDA:
            break
    if data.find(b"\xff\xd9", at) < 0:
        raise _cut_off("JPEG", data, "no end marker")
    return Header("JPEG", *size, pixel_bytes=channels * (2 if precision > 8 else 1))


def _png(data: bytes) -> Header:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
    at, more = 8, False
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        more = more or kind == b"acTL"
        if kind == b"IEND":
            break
        at += 12 + length
        if at + 8 > len(data):
            raise _cut_off("PNG", data, "no end chunk")
    return Header("PNG", width, height, more, max(1, channels * depth // 8))


def _webp(data: bytes) -> Header:
    length, form, kind = struct.unpack_from("<4xI4s4s", data, 0)
    if form != b"WEBP":
        raise InputError("a RIFF file that is no WebP picture")
    if length + 8 > len(data):
        raise _cut_off("WebP", data, f"it announces {length + 8}")
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return Header("WebP", width, height, bool(data[20] & 2))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    raise InputError("a WebP whose first chunk is no picture")


def _bmp(data: bytes) -> Header:
    announced, offset, header = struct.unpack_from("<I4xII", data, 2)
    if header == 12:  # the oldest header has 16-bit sizes
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packed = 0
    else:
        width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    rows = 0 if packed not in (0, 3) else height * (-(-width * bits // 32) * 4)
    if max(announced, offset + rows) > len(data):
        raise _cut_off("BMP", data, f"it announces {max(announced, offset + rows)}")
    return Header("BMP", width, height, pixel_bytes=max(1, bits // 8))


_TIFF_KINDS = {1: "B", 3: "H", 4: "I"}
_TIFF_VALUES = 1 << 20  # of one entry: strips of a very tall picture


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, first)
    tags: dict[int, list[int]] = {}
    for k in range(count):
        tag, kind, number = struct.unpack_from(order + "HHI", data, first + 2 + 12 * k)
        if tag in (256, 257, 258, 277, 273, 279, 324, 325):
            tags[tag] = list(_tiff_values(data, order, kind, number, first + 10 + 12 * k))
    (following,) = struct.unpack_from(order + "I", data, first + 2 + 12 * count)
    for starts, lengths in ((273, 279), (324, 325)):
        ends = [a + b for a, b in zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False)]
        if ends and max(ends) > len(data):
            raise _cut_off("TIFF", data, f"its pixels end at {max(ends)}")
    width, height = ((tags.get(tag) or [0])[0] for tag in (256, 257))
    bits, channels = max(tags.get(258) or [1]), (tags.get(277) or [1])[0]
    return Header("TIFF", width, height, following != 0, max(1, bits * channels // 8))


def _tiff_values(data: bytes, order: str, kind: int, number: int, at: int) -> Iterator[int]:
    code = _TIFF_KINDS.get(kind)
    if code is None or number > _TIFF_VALUES:
        raise InputError("a TIFF with a malformed header")
    if number * struct.calcsize(code) > 4:
        (at,) = struct.unpack_from(order + "I", data, at)
    yield from struct.unpack_from(f"{order}{number}{code}", data, at)


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    if not data.rstrip(b"\0").endswith(b";"):
        raise _cut_off("GIF", data, "no trailer")
    return Header("GIF", width, height, data.count(b"\x21\xf9\x04") > 1, 4)
