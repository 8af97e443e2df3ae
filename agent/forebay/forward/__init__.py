"""The forwarder: keeps a session to one of several receivers alive and sends what the spool holds."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zmq

from forebay.clock import Clock
from forebay.errors import LinkError
from forebay.forward.link import LinkOptions, SpoolDoor
from forebay.forward.session import Held, Session
from forebay.keys import PublicKey, SecretKey
from forebay.wire import messages as m

__all__ = ["Forwarder", "LinkOptions", "LinkState", "SpoolDoor"]

log = logging.getLogger("forebay.forward")

HELD_NS = 60_000_000_000  # between tries when the refusal will not pass by itself


@dataclass(frozen=True, slots=True)
class LinkState:
    """`up`, `down` or `held`, to whom, and why."""

    state: str
    endpoint: str = ""
    reason: str = ""
    store: str = ""


class Forwarder:
    """One thread, one connection at a time; endpoints are tried in turn with jittered backoff."""

    def __init__(
        self,
        endpoints: Sequence[str],
        keys: tuple[SecretKey, PublicKey],
        options: LinkOptions,
        door: SpoolDoor,
        clock: Clock,
        make_hello: Callable[[str], m.Hello],
        rng: random.Random | None = None,
    ) -> None:
        self._endpoints, self._keys, self._options = list(endpoints), keys, options
        self._door, self._clock, self._make_hello = door, clock, make_hello
        self._rng = rng or random.SystemRandom()
        self._stop = threading.Event()
        self._store = ""
        self.link = LinkState("down", reason="not tried yet")
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread. What is unanswered stays in the spool."""
        self._stop.set()
        self._door.wake()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._door.close()

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        failures = refusals = 0
        try:
            while not self._stop.is_set():
                endpoint = self._endpoints[failures % len(self._endpoints)]
                delivered = self._door.delivered
                try:
                    self._connect_and_run(context, endpoint)
                except Exception as trouble:  # noqa: BLE001 - sending must go on whatever happens
                    error = trouble if isinstance(trouble, LinkError) else _unforeseen(trouble, endpoint)
                    failures = 1 if self._door.delivered > delivered else failures + 1
                    refusals = refusals + 1 if isinstance(error, Held) else 0
                    self._report(endpoint, error)
                    self._stop.wait(self._pause_ns(failures, refusals) / 1e9)
        finally:
            context.destroy(0)

    def _connect_and_run(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        if not self.link.endpoint:
            self.link = LinkState("down", endpoint, "no answer yet", self._store)
        hello = self._make_hello(self._store)
        session = Session(context, endpoint, self._keys, self._options, self._door, self._clock, hello)
        try:
            if session.open(self._stop.is_set) and session.welcome is not None:
                self._store = session.welcome.store
                self.link = LinkState("up", endpoint, store=self._store)
                log.info("link is up endpoint=%s center=%s", endpoint, session.welcome.center)
                session.run(self._stop.is_set)
        finally:
            session.close()

    def _report(self, endpoint: str, error: LinkError) -> None:
        state = "held" if isinstance(error, Held) else "down"
        if (state, error.message) != (self.link.state, self.link.reason):
            level = logging.ERROR if state == "held" else logging.WARNING
            log.log(level, "link is %s, data waits in the spool: %s", state, error)
        self.link = LinkState(state, endpoint, error.message, self._store)

    def _pause_ns(self, failures: int, refusals: int) -> int:
        """Return a pause that doubles with each failure; jitter keeps a fleet from coming back at once.

        A receiver that ends in the middle of a handshake looks like one that refuses the key: only refusals
        without anything else between them are believed.
        """
        if refusals > 3 * len(self._endpoints):
            return int(HELD_NS * self._rng.uniform(0.5, 1.0))
        most = min(self._options.backoff_max_ns, self._options.backoff_min_ns << min(failures - 1, 16))
        return int(most * self._rng.uniform(0.5, 1.0))


def _unforeseen(error: Exception, endpoint: str) -> LinkError:
    """Turn a fault of ours into one of the link: what is in the spool must go out all the same."""
    log.exception("the forwarder failed in a way nobody foresaw; it connects anew")
    return LinkError(f"unexpected {type(error).__name__}", place=endpoint)
