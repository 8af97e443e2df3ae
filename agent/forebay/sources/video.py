"""Video files: one row a frame, decoded in a child process."""

from __future__ import annotations

import importlib.util
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from forebay import child
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.clock import Clock
from forebay.config.fields import FieldOptions
from forebay.config.sources import FileOptions, guess_format
from forebay.errors import InputError, MissingExtra
from forebay.sources.fields import describe
from forebay.sources.frames import HEADER
from forebay.sources.states import pack, unpack
from forebay.sources.tail import kept_name, known_name
from forebay.sources.times import parse_instant
from forebay.stages import Chunk, Emit, Rejected

MAX_FRAME_BYTES = 256 * 1024 * 1024  # 8K has 100 MB; more is a broken header
_POSITION_VERSION = 1
_END, _CANNOT_OPEN = -1, -2


class VideoReader:
    """Reads a video, a pattern or a folder of videos, by name. One use.

    A frame is handed on decoded (`Column.frames`), its cell in `values` is empty: what masks it also encodes
    it. The position is the file's name and the number of the next frame.
    """

    def __init__(
        self,
        options: FileOptions,
        path: Path,
        stream: str,
        fields: Mapping[str, FieldOptions],
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._options, self._path, self._clock, self._stop = options, path, clock, stop
        self._schema = Schema(
            stream,
            (
                describe(Field("frame", Type.I64), fields.get("frame")),
                describe(Field("image", Type.BYTES, media="image"), fields.get("image")),
            ),
            stamped_by="gateway",
        )

    def run(self, emit: Emit, position: bytes | None) -> None:
        """Hand on the frames until the last video ends."""
        if importlib.util.find_spec("cv2") is None:
            raise MissingExtra("reading videos", "vision")
        name, first = self._restore(position)
        paths = self._list()
        name = known_name(name, paths)
        if not paths:
            raise InputError("no such file", place=str(self._path), retryable=True)
        for path in paths:
            if path.name >= name and not self._read(path, first if path.name == name else 0, emit):
                return

    def _list(self) -> list[Path]:
        if self._path.is_dir():
            return sorted(p for p in self._path.iterdir() if guess_format(p.name) == "video" and p.is_file())
        if any(c in self._path.name for c in "*?[") and not self._path.exists():
            return sorted(p for p in self._path.parent.glob(self._path.name) if p.is_file())
        return [self._path] if self._path.exists() else []

    def _read(self, path: Path, first: int, emit: Emit) -> bool:
        """Hand on the frames of one video. False: the agent is stopping."""
        start = parse_instant(self._options.start) if self._options.start else path.stat().st_mtime_ns
        arguments = [str(path), str(first), str(self._options.every), str(self._options.fps or 0.0)]
        reader = subprocess.Popen(
            child.command("forebay.sources.frames", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders print about content
            env=child.environment(),
        )
        assert reader.stdout is not None
        try:
            return self._frames(reader.stdout, path, start, first, emit)
        finally:
            reader.kill()
            reader.stdout.close()
            reader.wait()

    def _frames(self, pipe: IO[bytes], path: Path, start: int, first: int, emit: Emit) -> bool:
        reached, inode = first, path.stat().st_ino
        while not self._stop.is_set():
            raw = _read_exactly(pipe, HEADER.size)
            number, offset, width, height = (_END, reached, -1, 0) if raw is None else HEADER.unpack(raw)
            if number < 0:
                return self._ended(path, number, reached=offset, announced=width, emit=emit)
            size = width * height * 3
            data = _read_exactly(pipe, size) if 0 < size <= MAX_FRAME_BYTES else None
            if data is None:
                return self._ended(path, _END, reached=reached, announced=-1, emit=emit)
            frame = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            reached = number + 1
            position = pack([_POSITION_VERSION, kept_name(path.name, inode), reached])
            block = self._block(start + offset, number, frame)
            if not emit(Chunk([block], position, nbytes=block.nbytes)):
                return False
        return False

    def _ended(self, path: Path, number: int, *, reached: int, announced: int, emit: Emit) -> bool:
        """Report a video that ended before its end; frame counts in containers are estimates."""
        detail = ""
        if number == _CANNOT_OPEN:
            detail = "the video cannot be opened"
        elif announced < 0:
            detail = f"the decoder stopped after {reached} frames"
        elif announced - reached > max(2, announced // 100):
            detail = f"the video ends after {reached} of {announced} frames"
        if not detail:
            return True
        rejected = Rejected("image", path.name, path.stat().st_size, detail)
        position = pack(
            [_POSITION_VERSION, kept_name(path.name, path.stat().st_ino), 2**62]
        )  # the rest is not read again
        return emit(Chunk([], position, [rejected], Counter({"image": 1})))

    def _block(self, time: int, number: int, frame: npt.NDArray[np.uint8]) -> Block:
        image = Column(np.zeros(0, np.uint8), np.zeros(2, np.int64), frames=[frame])
        columns = (Column(np.array([number], np.int64)), image)
        return Block(self._schema, np.array([time], np.int64), columns)

    def _restore(self, position: bytes | None) -> tuple[str, int]:
        if position is None:
            return "", 0
        try:
            version, name, first = unpack(position, "the position of the source")
            if version != _POSITION_VERSION:
                raise ValueError
            return str(name), int(first)
        except (TypeError, ValueError) as error:
            raise InputError("the position of the source cannot be read") from error


def _read_exactly(pipe: IO[bytes], size: int) -> bytearray | None:
    """Return `size` bytes, None if the pipe ends before."""
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        count = pipe.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            return None
        done += count
    return data
