"""Pictures around events: the last few of each camera are kept in memory, and go out when something happens.

They are unmasked while they are here, so they are never part of a step's saved state; what goes out is masked
like every picture. Each picture goes out once, whatever happens around it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

from forebay.blocks import Block
from forebay.pictures import Frame

MAX_BYTES = 64 * 1024 * 1024  # of all pictures kept; the cameras that were quiet longest lose theirs first


@dataclass(slots=True)
class Still:
    """A picture: encoded bytes, or decoded where a video source has not encoded it, and the event it belongs to."""

    camera: Any
    time: int
    frame: int | None
    data: bytes
    pixels: Frame | None
    event: str = ""
    sent: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return len(self.data) + (0 if self.pixels is None else self.pixels.nbytes)


@dataclass(slots=True)
class _Kept:
    last: deque[Still] = field(default_factory=deque)
    following: int = 0  # pictures still to send after the last event
    event: str = ""


class Stills:
    """The pictures of one step.

    Parameters
    ----------
    before, after : pictures around that of an event
    max_cameras : cameras whose pictures are kept
    """

    def __init__(self, before: int, after: int, max_cameras: int) -> None:
        self._before, self._after, self._max = before, after, max_cameras
        self._cameras: OrderedDict[Any, _Kept] = OrderedDict()
        self._out: list[Still] = []

    def add(
        self, camera: Any, time: int, frame: int | None, block: Block, row: int, events: list[str]
    ) -> None:
        """Take a picture and what happened in it."""
        still = _still(camera, time, frame, block, row)
        if still is None:
            return
        kept = self._cameras.pop(camera, None) or _Kept()
        self._cameras[camera] = kept
        if events:
            kept.event, kept.following = events[0], self._after + 1
            for earlier in kept.last:
                self._send(earlier, kept.event)
        if kept.following:
            kept.following -= 1
            self._send(still, kept.event)
        kept.last.append(still)
        while len(kept.last) > self._before:
            kept.last.popleft()
        self._bound()

    def _send(self, still: Still, event: str) -> None:
        if not still.sent:
            still.sent, still.event = True, event
            self._out.append(still)

    def _bound(self) -> None:
        while len(self._cameras) > self._max:
            self._cameras.popitem(last=False)
        held = sum(s.nbytes for k in self._cameras.values() for s in k.last)
        for kept in self._cameras.values():
            while held > MAX_BYTES and kept.last:
                held -= kept.last.popleft().nbytes

    def take(self) -> list[Still]:
        """Return the pictures that are to go out, oldest first."""
        out, self._out = self._out, []
        return out


def _still(camera: Any, time: int, frame: int | None, block: Block, row: int) -> Still | None:
    index = next((i for i, f in enumerate(block.schema.fields) if f.media == "image"), -1)
    if index < 0:
        return None
    column = block.columns[index]
    if column.quality is not None and column.is_null()[row]:
        return None
    data = column.cell_bytes(row)
    pixels = column.frames[row] if column.frames is not None and not data else None
    return Still(camera, time, frame, data, pixels)
