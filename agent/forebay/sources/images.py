"""Folders of images: each file is one row with its name and its bytes as they are."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebay import quality as q
from forebay.blocks import MAX_BYTES_BYTES, Block, Column, Field, Schema, Type
from forebay.clock import Clock
from forebay.config.fields import FieldOptions
from forebay.config.sources import FileOptions, guess_format
from forebay.errors import InputError
from forebay.sources.fields import describe
from forebay.sources.states import pack, unpack
from forebay.sources.tail import kept_name, known_name
from forebay.stages import Chunk, Emit, Rejected

POLL_S = 0.5
CHUNK_BYTES = 1024 * 1024  # a chunk is one commit at least: several must fit the smallest quota
CHUNK_ROWS = 64
REMEMBERED = 512  # files known by name, so that a touched one is not taken twice
_POSITION_VERSION = 1
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")


@dataclass(slots=True, frozen=True)
class _Found:
    """A file in the folder. `changed` is ns of its inode's last change, which a copied time does not hide."""

    path: Path
    changed: int
    modified: int
    size: int
    inode: int

    @property
    def kept(self) -> str:
        """What a position says of the file."""
        return kept_name(self.path.name, self.inode)


class ImageReader:
    """Reads a folder of images, a pattern or one image. One use.

    A finite source goes by name; its position is the last name. With `follow` files are taken in order of
    their inode's change, each once it has been left alone for `settle`; the position is the last change and
    the names of the last files.
    """

    def __init__(
        self,
        options: FileOptions,
        path: Path,
        stream: str,
        fields: Mapping[str, FieldOptions],
        clock: Clock,
        stop: threading.Event,
        wait: Callable[[float], bool],
    ) -> None:
        self._options, self._path, self._clock = options, path, clock
        self._stop, self._wait = stop, wait
        self._schema = Schema(
            stream,
            (
                describe(Field("name", Type.STR), fields.get("name")),
                describe(Field("image", Type.BYTES, media="image"), fields.get("image")),
            ),
            stamped_by="gateway",
        )
        self._last_name, self._last_change = "", 0
        self._last_kept = ""
        self._recent: deque[tuple[str, int, int]] = deque(maxlen=REMEMBERED)

    def run(self, emit: Emit, position: bytes | None) -> None:
        """Hand on the images until the last one, or until stopped if `follow`."""
        self._restore(position)
        if not self._options.follow and not self._path.exists() and not self._list():
            raise InputError("no such file or folder", place=str(self._path), retryable=True)
        while not self._stop.is_set():
            new = self._list()
            if not self._hand_on(new, emit):
                return
            if not self._options.follow or (not new and self._wait(POLL_S)):
                return

    def _list(self) -> list[_Found]:
        """Return the files that are not taken yet, in order."""
        found = []
        for path in _candidates(self._path):
            try:
                status = path.stat()
            except OSError:
                continue  # gone since it was listed
            found.append(_Found(path, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino))
        if not self._options.follow:
            self._last_name = known_name(self._last_name, (f.path for f in found))
            return sorted((f for f in found if f.path.name > self._last_name), key=lambda f: f.path.name)
        settled = self._clock.wall_ns() - self._options.settle
        known = set(self._recent)
        out = []
        for file in sorted(found, key=lambda f: (f.changed, f.path.name)):
            if file.changed > settled:
                break  # what comes after it is newer still
            if file.changed >= self._last_change and (file.kept, file.modified, file.size) not in known:
                out.append(file)
        return out

    def _hand_on(self, files: list[_Found], emit: Emit) -> bool:
        """Emit the files in chunks. False: the agent is stopping."""
        rows: list[tuple[_Found, bytes | None]] = []
        rejected: list[Rejected] = []
        size = 0
        for number, file in enumerate(files, start=1):
            if self._stop.is_set():
                return False
            data, problem = self._read(file)
            if problem is not None:
                rejected.append(problem)
            if problem is None or problem.reason == "size":  # one that is too large keeps its row
                rows.append((file, data))
            size += len(data or b"")
            self._last_name, self._last_change = file.path.name, max(self._last_change, file.changed)
            self._last_kept = file.kept
            self._recent.append((file.kept, file.modified, file.size))
            if size >= CHUNK_BYTES or len(rows) >= CHUNK_ROWS or number == len(files):
                counts = Counter(r.reason for r in rejected)
                blocks = [self._block(rows)] if rows else []
                nbytes = sum(block.nbytes for block in blocks)
                chunk = Chunk(blocks, self._position(), rejected, counts, nbytes=nbytes)
                if (blocks or rejected) and not emit(chunk):
                    return False
                rows, rejected, size = [], [], 0
        return True

    def _read(self, file: _Found) -> tuple[bytes | None, Rejected | None]:
        """Return the bytes of an image, or why there are none."""
        place = file.path.name
        try:
            with file.path.open("rb") as stream:
                data = stream.read(MAX_BYTES_BYTES + 1)
        except OSError as error:
            return None, Rejected("image", place, 0, f"cannot read the file: {error.strerror}")
        if len(data) > MAX_BYTES_BYTES:
            return None, Rejected("size", place, file.size, f"an image may have {MAX_BYTES_BYTES} bytes")
        if not (data.startswith(_MAGIC) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")):
            detail = "expected JPEG, PNG, BMP, WebP or TIFF by the first bytes"
            return None, Rejected("image", place, len(data), detail)
        return data, None

    def _block(self, rows: list[tuple[_Found, bytes | None]]) -> Block:
        codes = np.array([q.GOOD if data is not None else q.SIZE for _, data in rows], np.uint8)
        names = Column.of(Type.STR, [file.path.name for file, _ in rows])
        images = Column.of(Type.BYTES, [data or b"" for _, data in rows], codes)
        time = np.array([file.modified for file, _ in rows], np.int64)
        return Block(self._schema, time, (names, images))

    def _position(self) -> bytes:
        recent = [list(entry) for entry in self._recent] if self._options.follow else []
        return pack([_POSITION_VERSION, self._last_kept, self._last_change, recent])

    def _restore(self, position: bytes | None) -> None:
        if position is None:
            return
        try:
            version, name, change, recent = unpack(position, "the position of the source")
            if version != _POSITION_VERSION:
                raise ValueError
            self._last_name, self._last_change = str(name), int(change)
            self._last_kept = self._last_name
            self._recent.extend((str(a), int(b), int(c)) for a, b, c in recent)
        except (TypeError, ValueError) as error:
            raise InputError("the position of the source cannot be read") from error


def _candidates(path: Path) -> list[Path]:
    """Return what may be images: a folder's files with a picture's suffix, a pattern's, or itself."""
    if path.is_dir():
        pictures = (p for p in path.iterdir() if guess_format(p.name) == "images")
        return [p for p in pictures if p.is_file()]
    if any(c in path.name for c in "*?[") and not path.exists():
        return [p for p in path.parent.glob(path.name) if p.is_file()]
    return [path] if os.path.lexists(path) else []
