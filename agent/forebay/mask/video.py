"""Mask a whole video file: look at every frame, hold what was found both ways, write the video anew.

Two passes over the file, so that memory does not grow with the pictures: the first keeps only boxes, the second
covers and encodes. What is written holds pictures alone: no sound, no subtitles, no place, no title.

Invariants
----------
- The target appears only when every frame was looked at and written: a video that cannot be decoded to its end,
  a detector that fails, or a second pass that sees another number of frames leaves nothing.
- Only masked frames reach the disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from forebay.errors import InputError
from forebay.mask.files import Report
from forebay.mask.hold import hold_both_ways
from forebay.mask.images import Covered, Found, ImageMasker
from forebay.videos import Video, Writer, codec_of, has_audio

Progress = Callable[[int, int], None]
"""Called with steps done and in all (0: unknown); a frame is two steps."""
Tell = Callable[[int, Covered], None]
"""Called with the number of a frame, from 0, and each region covered in it."""


def mask_video(
    source: Path, target: Path, masker: ImageMasker, hold_ns: int, report: Report, *,
    stream: str = "", name: str = "", progress: Progress | None = None, tell: Tell | None = None,
) -> None:  # fmt: skip
    """Mask a video file into another of the same picture size and rate.

    Raises
    ------
    InputError
        It cannot be read to its end, or the target's format cannot be written.
    MaskError
        A detector is missing or gave no usable answer. Whatever a detector raises goes through.
    """
    codec_of(target, "")  # said before an hour of looking, not after
    video = Video(source)
    advance = progress or (lambda _done, _all: None)
    found: list[Found] = []
    hits: Counter[str] = Counter()
    shape: tuple[int, ...] = ()
    for number, frame in enumerate(video, start=1):
        found.append(masker.look(frame, stream))
        hits.update(masker.seen_by())
        shape = frame.shape
        advance(number, 2 * max(video.announced, number))
    times = [video.time_ns(n) for n in range(len(found))]
    held = hold_both_ways(times, shape, found, hold_ns) if hold_ns else [{} for _ in found]
    with Writer(target, video, shape) as writer:
        for number, frame in enumerate(video):
            if number >= len(found):
                raise InputError("the video changed while it was masked", place=str(source))
            told = partial(tell, number) if tell else None
            covered = masker.cover(frame, found[number], hits, stream, held[number], told)
            writer.write(np.asarray(covered, dtype=np.uint8))
            advance(len(found) + number + 1, 2 * len(found))
        if number + 1 != len(found):
            raise InputError("the video changed while it was masked", place=str(source))
    for kind in found[0]:
        report.frames_with[kind] += sum(bool(len(f[kind])) for f in found)
    report.hits.update(hits)
    report.videos += 1
    report.frames += len(found)
    report.bytes_in += source.stat().st_size
    report.bytes_out += target.stat().st_size
    if has_audio(source):
        report.audio_dropped.append(name or source.name)
