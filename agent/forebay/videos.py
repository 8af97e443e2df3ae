"""Video files: frames in with a check that all of them came, frames out beside the target until they are whole.

Only pictures are written: no sound, no subtitles, no place, no title.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from forebay.errors import InputError
from forebay.pictures import MAX_PIXELS, Frame, load_cv2

# What OpenCV's wheels can write everywhere; H.264 is not among them.
CODECS = {
    ".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "XVID", ".webm": "VP80",
    ".ts": "mpg2", ".flv": "FLV1",
}  # fmt: skip
_KEEPS = {(".avi", "MJPG"), (".mkv", "MJPG"), (".mkv", "VP80"), (".webm", "VP90")}
_SLACK = 2  # frames that a container may announce and not have; a hundredth in a long one
_SNIFFED = 4 * 1024 * 1024  # of a file's beginning and end, searched for the mark of an audio track
_AUDIO_MARKS = {
    ".mp4": (b"soun",), ".m4v": (b"soun",), ".mov": (b"soun",), ".avi": (b"auds",),
    ".mkv": (b"A_",), ".webm": (b"A_OPUS", b"A_VORBIS"),
}  # fmt: skip


class Video:
    """Frames of a file with their times. Iterating checks that it ends where it says it ends."""

    def __init__(self, path: Path) -> None:
        # FFmpeg's own messages quote file content; errors here name file and place only
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self._cv2 = load_cv2("videos")
        self.path = path
        capture = self._open()
        rate = float(capture.get(self._cv2.CAP_PROP_FPS))
        self.fps = rate if 0 < rate <= 1000 else 25.0
        self.announced = max(0, int(capture.get(self._cv2.CAP_PROP_FRAME_COUNT)))
        code = int(capture.get(self._cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        self.codec = code.to_bytes(4, "little").decode("ascii", "replace")
        width, height = (
            int(capture.get(p)) for p in (self._cv2.CAP_PROP_FRAME_WIDTH, self._cv2.CAP_PROP_FRAME_HEIGHT)
        )
        capture.release()
        if width * height > MAX_PIXELS:
            raise InputError(
                f"a video of {width} x {height} is larger than {MAX_PIXELS} pixels", place=str(path)
            )

    def _open(self) -> Any:
        capture = self._cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            capture.release()
            raise InputError("the video cannot be opened: cut off, or of no known kind", place=str(self.path))
        return capture

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames BGR uint8 (h, w, 3). Raises InputError if the video ends early or changes its size."""
        capture = self._open()
        shape: tuple[int, ...] | None = None
        count = 0
        try:
            while True:
                good, frame = capture.read()
                if not good:
                    break
                if shape is not None and frame.shape != shape:
                    raise InputError(f"the picture's size changes at frame {count}", place=str(self.path))
                shape = frame.shape
                count += 1
                yield np.asarray(frame, dtype=np.uint8)
        finally:
            capture.release()
        if count == 0:
            raise InputError("no frame could be read", place=str(self.path))
        if self.announced - count > max(_SLACK, self.announced // 100):
            raise InputError(f"the video ends after {count} of {self.announced} frames", place=str(self.path))

    def time_ns(self, number: int) -> int:
        """Return the time of a frame from the start."""
        return round(number * 1e9 / self.fps)


def codec_of(target: Path, given: str) -> str:
    """Return the codec to write a file with; the source's own where it can be kept. Raises InputError."""
    suffix = target.suffix.lower()
    if suffix not in CODECS:
        hint = f"end the name in one of {', '.join(CODECS)}"
        raise InputError(f"cannot write a video as `{suffix}`", place=str(target), hint=hint)
    return given if (suffix, given) in _KEEPS else CODECS[suffix]


def has_audio(path: Path) -> bool:
    """Whether a container seems to hold an audio track, by the marks that its format sets.

    False also for formats without a mark (MPEG-TS, FLV). Sound is never written in any case.
    """
    marks = _AUDIO_MARKS.get(path.suffix.lower(), ())
    with path.open("rb") as file:
        data = file.read(_SNIFFED)
        size = file.seek(0, 2)
        if size > _SNIFFED:
            file.seek(max(_SNIFFED, size - _SNIFFED))
            data += file.read()
    return any(mark in data for mark in marks)


class Writer:
    """Writes a video beside its target and renames it when it is whole."""

    def __init__(self, target: Path, video: Video, shape: tuple[int, ...]) -> None:
        self._cv2 = load_cv2("videos")
        self._target = target
        descriptor, name = tempfile.mkstemp(
            prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
        )
        os.close(descriptor)
        self._path = Path(name)
        # MPEG-4 and its like store even sizes: one more row beats one less
        self._odd = (shape[0] % 2, shape[1] % 2)
        size = (shape[1] + self._odd[1], shape[0] + self._odd[0])
        code = self._cv2.VideoWriter.fourcc(*codec_of(target, video.codec))
        self._writer = self._cv2.VideoWriter(name, self._cv2.CAP_FFMPEG, code, video.fps, size)
        self._frames = 0

    def __enter__(self) -> Writer:
        if not self._writer.isOpened():
            self._path.unlink(missing_ok=True)
            raise InputError("the video cannot be written in this format", place=str(self._target))
        return self

    def write(self, frame: Frame) -> None:
        """Add a frame."""
        if any(self._odd):
            edge = self._cv2.BORDER_REPLICATE
            frame = self._cv2.copyMakeBorder(frame, 0, self._odd[0], 0, self._odd[1], edge)
        self._writer.write(frame)
        self._frames += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.release()
        try:
            if kind is None:
                # the writer reports no error of its own: a full disk shows only in what can be read back
                if Video(self._path).announced < self._frames - _SLACK:
                    raise InputError("the video could not be written whole", place=str(self._target))
                self._path.chmod(0o644 & ~_umask())
                os.replace(self._path, self._target)
        finally:
            self._path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
