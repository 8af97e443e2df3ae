"""A write-ahead log, examined before SQLite opens it.

SQLite ends reading at the first frame whose checksum is wrong and drops all behind it without a word: right after a
torn write, but wrong after a flipped bit. A whole transaction behind a broken frame shows which it was: each is synced
before the next begins. A break within the last transaction is taken as SQLite takes it, as one that was not finished.

Layout (https://sqlite.org/fileformat2.html#walformat): a header of 32 bytes, then frames: page number, size of the
database after a commit (0 within a transaction), two salts, two checksums, page. Checksums run on from frame to frame.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}


@dataclass(slots=True)
class Wal:
    """What a log holds. `pages`: newest intact version of each page up to the last commit found, as offsets."""

    data: bytes = b""
    page_bytes: int = 0
    frames: int = 0
    broken: int = 0  # frames that are not what they were, before the last intact commit
    pages: dict[int, int] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)  # pages whose newest version is in a broken frame
    db_pages: int = 0  # size of the database after the last commit, 0 if there is none
    is_readable: bool = True  # False: there are frames, but the header is broken

    @property
    def is_damaged(self) -> bool:
        """Whether SQLite would drop what was committed."""
        return self.broken > 0 or not self.is_readable

    def page(self, number: int) -> bytes | None:
        """Return a page, None if the log does not have it."""
        at = self.pages.get(number)
        return None if at is None else self.data[at : at + self.page_bytes]


def _checksum(order: str, seed: tuple[int, int], data: bytes) -> tuple[int, int]:
    s0, s1 = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for x0, x1 in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + x0 + s1) & 0xFFFFFFFF
        s1 = (s1 + x1 + s0) & 0xFFFFFFFF
    return s0, s1


def examine(path: Path) -> Wal:
    """Read a log; nothing is written. A log that is absent or empty is a sound one without pages."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Wal()
    if len(data) < HEADER_BYTES:
        return Wal()  # created, nothing committed yet
    magic, _version, page_bytes, _sequence = struct.unpack(">4I", data[:16])
    order = _MAGIC.get(magic, "")
    sound = order and page_bytes >= 512 and page_bytes & (page_bytes - 1) == 0
    seed = struct.unpack(">2I", data[24:32])
    if not sound or _checksum(order, (0, 0), data[:24]) != seed:
        # A header torn by a power cut stands before frames that were never synced; after a flip, frames chain on.
        return Wal(data, is_readable=not _frames_follow(data))
    return _read_frames(data, order, page_bytes)


def _frames_follow(data: bytes) -> bool:
    """Return whether behind a broken header there is a frame that continues the one before it."""
    for order in ("<", ">"):
        for page_bytes in (4096, 1024, 2048, 8192, 16384, 32768, 65536):
            step = FRAME_HEADER_BYTES + page_bytes
            first = data[HEADER_BYTES : HEADER_BYTES + step]
            second = data[HEADER_BYTES + step : HEADER_BYTES + 2 * step]
            for frame, seed in ((first, data[24:32]), (second, first[16:24])):
                if len(frame) == step and _is_intact(order, struct.unpack(">2I", seed), frame):
                    return True
    return False


def _is_intact(order: str, seed: tuple[int, ...], frame: bytes) -> bool:
    return _frame_checksum(order, (seed[0], seed[1]), frame) == struct.unpack(">2I", frame[16:24])


def _frame_checksum(order: str, seed: tuple[int, int], frame: bytes) -> tuple[int, int]:
    return _checksum(order, _checksum(order, seed, frame[:8]), frame[FRAME_HEADER_BYTES:])


def _read_frames(data: bytes, order: str, page_bytes: int) -> Wal:
    step = FRAME_HEADER_BYTES + page_bytes
    salts = data[16:24]
    seeds = [struct.unpack(">2I", data[24:32])]
    found: list[tuple[int, bool]] = []  # (offset, intact) of the frames of this generation
    commits: list[int] = []
    misread = 0  # frames that are intact, but where SQLite would stop
    for at in range(HEADER_BYTES, len(data) - step + 1, step):
        frame = data[at : at + step]
        stored = struct.unpack(">2I", frame[16:24])
        sums = [_frame_checksum(order, seed, frame) for seed in seeds]
        intact = frame[8:16] == salts and stored in sums
        if (
            not intact
            and frame[8:16] != salts
            and (not found or found[-1][1])
            and _is_older(data, at, step, salts)
        ):
            break  # what an earlier generation left
        if intact and len(seeds) == 2 and stored == sums[1] != sums[0] and found:
            found[-1] = (found[-1][0], True)  # of the frame before only the checksum was broken
            misread += 1
        found.append((at, intact))
        # Behind a broken frame the chain goes on from what it says, or from what it should say.
        seeds = [stored] if intact else list(dict.fromkeys([stored, *sums[:1]]))
        if intact and struct.unpack(">I", frame[4:8])[0]:
            commits.append(len(found) - 1)
    wal = Wal(data, page_bytes, len(found), misread)
    for at, intact in found[: _last_durable(data, found, commits) + 1]:
        number, size = struct.unpack(">2I", data[at : at + 8])
        if intact:
            wal.pages[number] = at + FRAME_HEADER_BYTES
            wal.stale.discard(number)
            wal.db_pages = size or wal.db_pages
        else:
            wal.broken += 1
            wal.stale.add(number)
            wal.pages.pop(number, None)
    return wal


def _last_durable(data: bytes, found: list[tuple[int, bool]], commits: list[int]) -> int:
    """Return the last frame of the last transaction that is whole, or that others follow."""
    if not commits:
        return -1
    before = commits[-2] if len(commits) > 1 else -1
    broken = [i for i in range(before + 1, commits[-1]) if not found[i][1]]
    # A broken frame that said "commit" ended a transaction of its own, and a whole one follows it.
    was_commit = any(data[found[i][0] + 4 : found[i][0] + 8] != bytes(4) for i in broken)
    return before if broken and not was_commit else commits[-1]


def _is_older(data: bytes, at: int, step: int, salts: bytes) -> bool:
    """Return whether from here on nothing belongs to this generation."""
    return all(data[i + 8 : i + 16] != salts for i in range(at, len(data) - step + 1, step))
