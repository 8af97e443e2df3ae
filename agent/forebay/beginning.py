"""Where a source begins whose position the spool does not know: the center is asked before it starts.

A spool that is new may stand in for one that was lost, with its card or its file; one that was damaged may have lost
its positions; one that is met in another place or boot may be an older copy. To read again what the center has would
store it twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal, Protocol

from forebay.errors import ConfigError, ForebayError
from forebay.spool import Spool
from forebay.stages import Commit

log = logging.getLogger("forebay.source")

ASKED = "asked"  # beside a source's position: the question was settled, whether or not there was a position
# A gateway that was never connected is taken as a new one after that, and at once where nobody listens: it must work
# without a link.
ASK_S = 5.0
MOVED_ASK_S = 30.0  # a spool that may be an older copy waits longer: its files keep their rows meanwhile
_LOOK_S = 0.2

OnUnknown = Literal["hold", "beginning", "end"]


class Asked(Protocol):
    """Answer of a center: `forward.Positions`."""

    wanted: bool
    known: dict[str, tuple[int, int, bytes] | None] | None

    def wait(self, seconds: float) -> bool:
        """Wait for the answer; return whether it is there."""


class Link(Protocol):
    """The link as configured: `forwarding.Linkage`."""

    @property
    def positions(self) -> Asked:
        """Return where the answer comes."""

    @property
    def is_configured(self) -> bool:
        """Return whether there is anybody to ask."""

    @property
    def is_refused(self) -> bool:
        """Return whether nobody listens where the receivers should be."""

    @property
    def was_bound(self) -> bool:
        """Return whether this agent has met a center before."""


class Beginning:
    """Finds one source's position. Called once, in the source's thread, before it runs.

    Parameters
    ----------
    owner : `source/pipeline`
    on_unknown : what to do where neither spool nor center knows
    at_end : returns a position behind everything that is there now
    link : returns the link in use, which a reload may change
    """

    def __init__(
        self,
        owner: str,
        spool: Spool,
        link: Callable[[], Link],
        on_unknown: OnUnknown,
        at_end: Callable[[], bytes | None],
    ) -> None:
        self._owner, self._spool, self._link = owner, spool, link
        self._on_unknown, self._at_end = on_unknown, at_end
        self._damaged = spool.recovery.positions_lost
        self._own = spool.store.progress(owner).get("")
        self._epochs = {epoch: following for epoch, (_, following) in spool.store.epochs().items()}
        link().positions.wanted = True  # the first hello already asks

    @staticmethod
    def is_needed(spool: Spool, progress: dict[str, bytes]) -> bool:
        """Return whether a source with this progress may have been read farther than its spool knows."""
        if "" in progress:
            return spool.is_moved
        doubt = spool.recovery.positions_lost or spool.recovery.is_new
        return doubt and ASKED not in progress

    def __call__(self, stopping: threading.Event) -> bytes | None:
        """Return the position; waits for the center, or until `stopping`.

        Raises
        ------
        ConfigError
            Nobody knows it, and the configuration does not say what to do then.
        """
        if self._own is not None:
            return self._ahead(stopping)
        position = self._salvaged(stopping) or self._told(stopping)
        if not stopping.is_set():
            self._spool.writer.submit(Commit(self._owner, position=position, state={ASKED: b"1"}))
        return position

    def _ahead(self, stopping: threading.Event) -> bytes | None:
        """Return the center's position if it is of a batch that this spool has not given yet, else the spool's."""
        if not self._link().is_configured or not self._wait(stopping, patient=False):
            return self._own
        known = (self._link().positions.known or {}).get(self._owner)
        if known is None or known[1] < self._epochs.get(known[0], known[1] + 1):
            return self._own
        log.error(
            "the center has more of this source than its spool has given: the spool is an older copy, the source goes"
            " on where the center is owner=%s",
            self._owner,
        )
        self._spool.writer.submit(Commit(self._owner, position=known[2]))
        return known[2]

    def _salvaged(self, stopping: threading.Event) -> bytes | None:
        """Return what the intact batches of a damaged spool say, once all of them were looked at."""
        while self._damaged and not stopping.is_set():
            store = self._spool.store
            if not any(state == "damaged" for _, _, state in list(store.segments.values())):
                return store.progress(self._owner).get("")
            stopping.wait(_LOOK_S)
        return None

    def _told(self, stopping: threading.Event) -> bytes | None:
        if not self._link().is_configured:
            return self._unknown() if self._damaged else None
        if not self._wait(stopping, patient=self._damaged or self._link().was_bound):
            return None
        known = self._link().positions.known
        if known is not None and self._owner in known:
            position = known[self._owner]
            if position is None:
                return self._unknown()
            log.warning(
                "the source goes on where the center says that it was read to: its spool is new or lost its books"
                " owner=%s",
                self._owner,
            )
            return position[2]
        if self._damaged:
            return self._unknown()
        if known is None:
            log.warning(
                "the center is of an older release and cannot say how far it was read owner=%s", self._owner
            )
        return None

    def _wait(self, stopping: threading.Event, *, patient: bool) -> bool:
        """Wait for the answer, for ever if `patient`. Return False when stopping, or when it took too long."""
        begun, told = time.monotonic(), False
        while not stopping.is_set():
            asked = self._link().positions
            asked.wanted = True
            if asked.wait(_LOOK_S):
                return True
            hopeless = not told and not patient and self._own is None and self._link().is_refused
            if told or (
                not hopeless and time.monotonic() - begun < (ASK_S if self._own is None else MOVED_ASK_S)
            ):
                continue
            if not patient:
                log.warning(
                    "no center has answered: the source begins where the spool says, %s owner=%s",
                    "at its beginning: this is taken as a new gateway" if self._own is None else "as it is",
                    self._owner,
                )
                return False
            log.error(
                "the source waits for the center: the spool does not know how far it was read owner=%s",
                self._owner,
            )
            told = True
        return False

    def _unknown(self) -> bytes | None:
        if self._on_unknown == "hold":
            raise ConfigError(
                "neither the spool nor the center knows how far this source was read",
                place=f"sources.{self._owner.partition('/')[0]}",
                hint="look at the center's newest rows, then set `start: beginning` (rows may come twice) or"
                " `start: end` (rows may be missing) for this source",
            )
        log.warning("nobody knows how far it was read: owner=%s start=%s", self._owner, self._on_unknown)
        if self._on_unknown == "beginning":
            return None
        try:
            return self._at_end()
        except OSError as error:
            raise ForebayError(f"cannot find its end: {error.strerror}", place=self._owner) from None
