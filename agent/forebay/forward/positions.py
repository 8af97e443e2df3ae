"""How far sources were read, as the center knows it: for a spool that is new or lost its books."""

from __future__ import annotations

import threading

from forebay.wire.messages import Position


class Positions:
    """Asked for with each hello while somebody wants them; the forwarder's thread brings the answer.

    Attributes
    ----------
    wanted : a source waits for its position, or will
    known : by owner (`source/pipeline`) epoch and number of the newest batch that says where its source stands, and
        what it says; None where batches are stored and none says. An owner that is missing was never heard of. None
        as a whole: the center is of an older release and cannot say
    """

    def __init__(self) -> None:
        self.wanted = False
        self.known: dict[str, Position | None] | None = None
        self._came = threading.Event()

    @property
    def is_due(self) -> bool:
        """Return whether the next hello should ask."""
        return self.wanted and not self._came.is_set()

    def answer(self, known: dict[str, Position | None] | None) -> None:
        """Take a center's answer. The first one counts: later ones know what this spool has sent since."""
        if not self._came.is_set():
            self.known = known
            self._came.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the answer; return whether it is there."""
        return self._came.wait(seconds)
