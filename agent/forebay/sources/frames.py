"""Child process that decodes a video: `python -m forebay.sources.frames PATH FIRST EVERY FPS`.

A decoder that hangs, leaks or crashes on a broken file takes this process with it, not the agent. Frames go
to standard output, each as a header of four little-endian int64 (frame number, ns from the start, width,
height) and width * height * 3 bytes BGR. The last header has frame number -1 and then: frames read, frames
that the container announces (0: unknown), 0. -2: the file cannot be opened.
"""

from __future__ import annotations

import os
import struct
import sys

from forebay.harden import no_core_dumps

HEADER = struct.Struct("<qqqq")


def main(path: str, first: int, every: int, fps: float) -> None:
    """Write the frames from number `first` on: one in `every`, or at most `fps` a second if it is not 0."""
    no_core_dumps()  # the limit of the agent is inherited, that it is not dumpable is not
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not fall among the frames
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(path)
    if not capture.isOpened():
        out.write(HEADER.pack(-2, 0, 0, 0))
        return
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate <= 1000 else 25.0
    announced = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    number, due = 0, 0.0
    while capture.grab():
        seconds = number / rate
        wanted = seconds >= due - 1e-9 if fps else number % every == 0
        if wanted and fps:
            due = max(due + 1 / fps, seconds)
        if wanted and number >= first:
            good, frame = capture.retrieve()
            if not good or frame is None or frame.ndim != 3 or frame.shape[2] != 3:
                break
            height, width = frame.shape[:2]
            out.write(HEADER.pack(number, int(seconds * 1e9), width, height))
            write_all(out.fileno(), memoryview(frame.tobytes()))
        number += 1
    out.write(HEADER.pack(-1, number, announced, 0))


def write_all(fd: int, data: memoryview) -> None:
    """Write all of it; a pipe takes a part at a time."""
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
