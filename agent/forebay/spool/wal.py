"""A write-ahead log, examined before SQLite opens it.

SQLite ends reading at the first frame whose checksum is wrong and drops all behind it without a word: right after a
torn write, but wrong after a flipped bit. A whole transaction behind a broken frame shows which it was: each is synced
before the next begins. Behind the last one nothing stands, and a break in it might be either. But the checksums are
linear, so that damage to a single byte of a frame (flipped bits, mostly one) shows as such: a write torn by a power
cut looks like that once in billions. Where the place can be told, it is mended; among the upper bits of a word several
places are possible, and the page is lost, but it is known that the transaction was finished. What a process that was
killed leaves says more: SQLite keeps the number of frames that are committed in the index of the log (`-shm`), written
after the log is synced, and that file outlives the process, though perhaps not the machine. Without it, more damage
than one byte in the last transaction is taken as SQLite takes it, as one that was not finished.

Layout (https://sqlite.org/fileformat2.html#walformat): a header of 32 bytes, then frames: page number, size of the
database after a commit (0 within a transaction), two salts, two checksums, page. Checksums run on from frame to frame.
The index (https://sqlite.org/walformat.html) begins with two copies of 48 bytes in the machine's order: version, 0,
change, flags, frames, pages, checksums of the last frame, salts (as in the log), checksums of the 40 bytes before.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
INDEX_BYTES = 48
Words = NDArray[np.uint32]
_BITS = 0xFFFFFFFF
_AT_ONCE = 512  # frames in memory at a time while they are summed
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
MOST_MENDED = 16  # more broken frames than that are no flipped bits, and each costs a millisecond to try

# Behind a broken frame an error in one of these may as well be one of that frame's checksums, which the sums go on
# from: of a byte in one or both of them. Deeper than this it would have grown beyond a byte.
_UNSURE_WORDS = 16


class Frame(IntEnum):
    """How a frame is. `MENDED`: as it was meant, but SQLite would stop there. `FLIPPED`: written whole, lost since."""

    BROKEN = 0
    INTACT = 1
    MENDED = 2
    FLIPPED = 3


_WHOLE = (Frame.INTACT, Frame.MENDED)


@dataclass(slots=True)
class Wal:
    """What a log holds. `pages`: newest intact version of each page up to the last commit found, as offsets."""

    data: bytearray = field(default_factory=bytearray)
    page_bytes: int = 0
    frames: int = 0
    broken: int = 0  # frames that are not what they were, before the last intact commit; mended ones as well
    pages: dict[int, int] = field(default_factory=dict)
    stale: dict[int, int] = field(default_factory=dict)  # those whose newest version is in a broken frame
    db_pages: int = 0  # size of the database after the last commit, 0 if there is none
    ends_torn: bool = False  # behind the last commit found there are frames that are not what they were to be
    is_readable: bool = True  # False: there are frames, but the header is broken
    # Of a log whose last transaction is damaged: the log without it, and the offsets of its pages. `in_order`: their
    # numbers rise, as SQLite writes them, so that hardly one of these is what is damaged.
    before: Wal | None = None
    ending: list[int] = field(default_factory=list)
    in_order: bool = True

    @property
    def is_damaged(self) -> bool:
        """Whether SQLite would drop what was committed."""
        return self.broken > 0 or not self.is_readable

    def page(self, number: int) -> bytes | None:
        """Return a page, None if the log does not have it."""
        at = self.pages.get(number)
        return None if at is None else self.at(at)

    def at(self, place: int) -> bytes:
        """Return the page that begins at a place in the log."""
        return bytes(self.data[place : place + self.page_bytes])


def _checksum(order: str, seed: tuple[int, int], data: bytes | bytearray) -> tuple[int, int]:
    words = np.frombuffer(data, f"{order}u4")[np.newaxis]
    return _go_on(_powers(words.shape[1] // 2)[0], seed, _own_sums(words)[0])


@lru_cache(maxsize=8)
def _powers(pairs: int) -> tuple[tuple[int, ...], Words]:
    """Return what so many pairs of words make of the sums before them, and the weight of each word in the sums behind.

    A pair (x, y) turns the sums (a, b) into M (a, b) + (x, x + y) with M = ((1, 1), (1, 2)): whatever comes before or
    after, a word counts with the same weight. So a log is one matrix product, not a loop over its words.
    """
    weights = np.empty((2 * pairs, 2), dtype=np.uint32)
    p, q, r, s = 1, 0, 0, 1
    for pair in range(pairs - 1, -1, -1):
        weights[2 * pair] = ((p + q) & _BITS, (r + s) & _BITS)
        weights[2 * pair + 1] = (q, s)
        p, q, r, s = (p + q) & _BITS, (p + 2 * q) & _BITS, (r + s) & _BITS, (r + 2 * s) & _BITS
    return (p, q, r, s), weights


def _own_sums(words: Words) -> list[list[int]]:
    """Return the sums of each row of words, as if nothing came before."""
    weights = _powers(words.shape[1] // 2)[1]
    sums = [np.add.reduce(words * weights[:, place], axis=1, dtype=np.uint32) for place in (0, 1)]
    own: list[list[int]] = np.stack(sums, axis=1).tolist()
    return own


def _go_on(power: tuple[int, ...], seed: tuple[int, ...], own: Sequence[int]) -> tuple[int, int]:
    """Return the sums behind a row of words, from those before it and its own."""
    p, q, r, s = power
    return (p * seed[0] + q * seed[1] + own[0]) & _BITS, (r * seed[0] + s * seed[1] + own[1]) & _BITS


def _sums_of_frames(data: bytearray, order: str, page_bytes: int) -> list[list[int]]:
    """Return the own sums of each frame: of its first two words and its page."""
    step = FRAME_HEADER_BYTES + page_bytes
    count = (len(data) - HEADER_BYTES) // step
    frames = np.frombuffer(data, f"{order}u4", count * step // 4, HEADER_BYTES).reshape(count, step // 4)
    out: list[list[int]] = []
    for at in range(0, count, _AT_ONCE):
        part = frames[at : at + _AT_ONCE]
        out += _own_sums(np.concatenate((part[:, :2], part[:, 6:]), axis=1))
    return out


def examine(path: Path) -> Wal:
    """Read a log; nothing is written. A log that is absent or empty is a sound one without pages."""
    index = _read_index(path)  # first: a log that is being written has at least the frames that this counts
    try:
        data = bytearray(path.read_bytes())
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
    return _read_frames(data, order, page_bytes, _committed(index, data))


def _read_index(path: Path) -> bytes:
    """Return the head of a log's index, empty if there is none."""
    try:
        with path.with_name(path.name.removesuffix("-wal") + "-shm").open("rb") as file:
            return file.read(2 * INDEX_BYTES)
    except OSError:
        return b""


def _committed(index: bytes, data: bytearray) -> int:
    """Return how many frames of a log were committed by what its index says, 0 if it says nothing of this log."""
    head, order = index[:INDEX_BYTES], "<" if sys.byteorder == "little" else ">"
    if len(head) < INDEX_BYTES or head != index[INDEX_BYTES:] or head[32:40] != data[16:24]:
        return 0
    if _checksum(order, (0, 0), head[:40]) != struct.unpack(f"{order}2I", head[40:]):
        return 0
    return int.from_bytes(head[16:20], sys.byteorder)


def _frames_follow(data: bytearray) -> bool:
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


def _is_intact(order: str, seed: tuple[int, ...], frame: bytes | bytearray) -> bool:
    words = frame[:8] + frame[FRAME_HEADER_BYTES:]
    return _checksum(order, (seed[0], seed[1]), words) == struct.unpack(">2I", frame[16:24])


def _read_frames(data: bytearray, order: str, page_bytes: int, committed: int) -> Wal:
    step = FRAME_HEADER_BYTES + page_bytes
    salts = bytes(data[16:24])
    seeds = [struct.unpack(">2I", data[24:32])]
    found: list[tuple[int, Frame]] = []  # (offset, how it is) of the frames of this generation
    tries = MOST_MENDED
    sums: list[tuple[int, int]] = []
    doubt: list[tuple[int, int]] = []  # of the frame before
    last_word = step // 4 - 5  # it, or else the checksum, is what is broken: the next frame tells
    power = _powers((step - 16) // 8)[0]
    for place, own in enumerate(_sums_of_frames(data, order, page_bytes)):
        at = HEADER_BYTES + place * step
        frame = data[at : at + step]
        stored = struct.unpack(">2I", frame[16:24])
        sums = [_go_on(power, seed, own) for seed in seeds]
        state, words = Frame.BROKEN, []
        if stored in sums:  # the salts are in no checksum, but the chain begins with theirs
            state = Frame.INTACT if frame[8:16] == salts else Frame.MENDED
        elif frame[8:16] == salts and tries:
            tries -= 1
            words = _broken_words(sums[0], stored, frame, order)
            state = Frame.FLIPPED if words else Frame.BROKEN
            if found and found[-1][1] is Frame.BROKEN and any(word < _UNSURE_WORDS for word, _ in words):
                words = []
            elif len(words) == 1 and words[0][0] != last_word:
                _mend(data, at, order, *words[0])
                state = Frame.MENDED
        elif (
            len(found) >= committed
            and (not found or found[-1][1] in _WHOLE)
            and _is_older(data, at, step, salts)
        ):
            break  # what an earlier generation left
        if state in _WHOLE and len(seeds) == 2 and found:
            before, was = found[-1]
            if stored == sums[1] != sums[0]:
                found[-1] = (before, Frame.MENDED)  # only its checksum was broken
            elif was is Frame.FLIPPED and len(doubt) == 1:
                _mend(data, before, order, *doubt[0])
                found[-1] = (before, Frame.MENDED)
        doubt = words
        found.append((at, state))
        # Behind a broken frame the chain goes on from what it says, or from what it should say.
        seeds = [stored] if state in _WHOLE else list(dict.fromkeys([stored, *sums[:1]]))
    if (
        found
        and found[-1][1] not in _WHOLE
        and all(w == last_word for w, _ in doubt)
        and _half_right(sums[0], data, found[-1][0])
    ):
        found[-1] = (found[-1][0], Frame.MENDED)
    return _collect(data, page_bytes, found, committed)


def _collect(data: bytearray, page_bytes: int, found: list[tuple[int, Frame]], committed: int) -> Wal:
    """Return the log up to its last transaction that is whole, or was."""
    last = _last_durable(data, found)
    is_short = committed > len(found)
    if not is_short:
        last = max(last, committed - 1)
    is_torn = is_short or any(s not in _WHOLE for _, s in found[last + 1 :])
    wal = _view(data, page_bytes, found[: last + 1])
    wal.frames, wal.ends_torn = len(found), is_torn
    whole = [at for at, state in found[:last] if state in _WHOLE and any(data[at + 4 : at + 8])]
    ending = [(at, state) for at, state in found[: last + 1] if not whole or at > whole[-1]]
    if any(state not in _WHOLE for _, state in ending):
        wal.before = _view(data, page_bytes, found[: last + 1 - len(ending)])
        wal.ending = [at + FRAME_HEADER_BYTES for at, _ in ending]
        wal.in_order = all(data[a : a + 4] < data[b : b + 4] for (a, _), (b, _) in pairwise(ending))
    return wal


def _view(data: bytearray, page_bytes: int, found: list[tuple[int, Frame]]) -> Wal:
    """Return what a log holds up to the last of these frames."""
    wal = Wal(data, page_bytes, len(found))
    for at, state in found:
        number, size = struct.unpack(">2I", data[at : at + 8])
        wal.broken += state is not Frame.INTACT
        kept, other = (wal.pages, wal.stale) if state in _WHOLE else (wal.stale, wal.pages)
        kept[number] = at + FRAME_HEADER_BYTES
        other.pop(number, None)
        if state in _WHOLE:
            wal.db_pages = size or wal.db_pages
    return wal


def _half_right(sums: tuple[int, int], data: bytearray, at: int) -> bool:
    """Return whether of the last frame's two checksums one is right: then the other is what is wrong."""
    stored: tuple[int, int] = struct.unpack(">2I", data[at + 16 : at + 24])
    return (stored[0] == sums[0]) != (stored[1] == sums[1])


def _broken_words(
    sums: tuple[int, int], stored: tuple[int, int], frame: bytes | bytearray, order: str
) -> list[tuple[int, int]]:
    """Return which one word may be wrong in one byte, and its right value; nothing if more than that is wrong.

    A pair of words (x, y) turns the sums (a, b) into (a + x + b, b + y + a + x + b): taking pairs that are right back
    from the difference of the sums leaves (d, d) if x of the pair before was wrong by d, and (0, d) if it was y. Where
    d is a multiple of 2^23 there are several such places, as the sums repeat. Equal errors in two words look like one
    of another size between them (M^k + M^-k is a multiple of the unit matrix), but hardly of one byte. By chance one
    frame in billions does. Words count from the frame's first, without salts and checksums.
    """
    found = []
    a, b = (stored[0] - sums[0]) & 0xFFFFFFFF, (stored[1] - sums[1]) & 0xFFFFFFFF
    pairs = (len(frame) - 16) // 8
    for back in range(pairs):
        if b and a in (0, b):
            word = 2 * (pairs - 1 - back) + (a == 0)
            at = _offset(word)
            was = struct.unpack(f"{order}I", frame[at : at + 4])[0]
            value = (was + b) & 0xFFFFFFFF
            if sum(byte != 0 for byte in (was ^ value).to_bytes(4, "big")) == 1:
                found.append((word, value))
        a, b = (2 * a - b) & 0xFFFFFFFF, (b - a) & 0xFFFFFFFF
    return found


def _offset(word: int) -> int:
    return 4 * word if word < 2 else FRAME_HEADER_BYTES + 4 * (word - 2)


def _mend(data: bytearray, frame: int, order: str, word: int, value: int) -> None:
    struct.pack_into(f"{order}I", data, frame + _offset(word), value)


def _last_durable(data: bytearray, found: list[tuple[int, Frame]]) -> int:
    """Return the last frame of the last transaction that is whole, or that others follow."""
    commits = [i for i, (at, state) in enumerate(found) if state and any(data[at + 4 : at + 8])]
    if not commits:
        return -1
    before = commits[-2] if len(commits) > 1 else -1
    broken = [i for i in range(before + 1, commits[-1]) if not found[i][1]]
    # A broken frame that said "commit" ended a transaction of its own, and a whole one follows it.
    was_commit = any(data[found[i][0] + 4 : found[i][0] + 8] != bytes(4) for i in broken)
    return before if broken and not was_commit else commits[-1]


def _is_older(data: bytearray, at: int, step: int, salts: bytes) -> bool:
    """Return whether from here on nothing belongs to this generation."""
    return all(data[i + 8 : i + 16] != salts for i in range(at, len(data) - step + 1, step))
