"""The forwarder: keeps a session to one of several receivers alive and sends what the spool holds."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import zmq

from forebay.clock import Clock
from forebay.errors import LinkError
from forebay.forward.budget import Budget, BudgetPlan, Rung
from forebay.forward.link import Held, LinkOptions, SpoolDoor, Unanswered
from forebay.forward.memory import LinkMemory
from forebay.forward.notary import Checkpoints, Notary
from forebay.forward.positions import Positions
from forebay.forward.reach import reachable, refuses
from forebay.forward.session import Extras, Session
from forebay.forward.socket import ZmqLink
from forebay.keys import PublicKey, SecretKey
from forebay.wire import messages as m

__all__ = [
    "Budget",
    "BudgetPlan",
    "Forwarder",
    "LinkMemory",
    "LinkOptions",
    "LinkState",
    "Notary",
    "Positions",
    "Rung",
    "SpoolDoor",
    "refuses",
]

log = logging.getLogger("forebay.forward")

NS = 1_000_000_000
HELD_NS = 60 * NS  # between tries when the refusal will not pass by itself
SPREAD = 4  # times `retry_min`: over this long a fleet comes back whose receiver was restarted
MOST_PATIENCE = 6  # doublings of the wait for an acknowledgement
PREFERRED_AGAIN_NS = 600 * NS  # how often a session with a later receiver asks whether an earlier one is back


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
        *,
        memory: LinkMemory | None = None,
        budget: Budget | None = None,
        notary: Checkpoints | None = None,
        positions: Positions | None = None,
    ) -> None:
        self._endpoints, self._keys, self._options = list(endpoints), keys, options
        self._door, self._clock, self._make_hello = door, clock, make_hello
        self._rng = rng or random.SystemRandom()
        self._stop = threading.Event()
        self._memory = memory or LinkMemory()
        self._budget = budget or Budget(BudgetPlan(), self._memory, clock)
        self._notary, self._positions = notary, positions
        self._store = options.store or self._memory.store
        self._patience = 0
        self._go_back = False
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
            self._budget.close()
            self._door.close()

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        failures = refusals = at = 0
        try:
            while not self._stop.is_set():
                endpoint = self._endpoints[at % len(self._endpoints)]
                delivered, self._go_back = self._door.delivered, False
                try:
                    self._connect_and_run(context, endpoint)
                    at = 0 if self._go_back else at
                except Exception as trouble:  # noqa: BLE001 - sending must go on whatever happens
                    error = trouble if isinstance(trouble, LinkError) else _unforeseen(trouble, endpoint)
                    failures = 1 if self._door.delivered > delivered else failures + 1
                    refusals = refusals + 1 if isinstance(error, Held) else 0
                    at += 1
                    was_up = self.link.state == "up"
                    self._report(endpoint, error)
                    pause_ns = self._spread_ns() if was_up else self._pause_ns(failures, refusals)
                    self._stop.wait(pause_ns / 1e9)
        finally:
            context.destroy(0)

    def _connect_and_run(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        if not self.link.endpoint:
            self.link = LinkState("down", endpoint, "no answer yet", self._store)
        options, hello = self._patient(), self._make_hello(self._store)
        link = ZmqLink(context, endpoint, self._keys, options, self._door)
        extras = Extras(self._budget, self._notary, self._rng, self._positions)
        session = Session(link, options, self._door, self._clock, hello, extras)
        delivered = self._door.delivered
        try:
            if session.open(self._stop.is_set) and session.welcome is not None:
                self._bind(session.welcome.store)
                self.link = LinkState("up", endpoint, store=self._store)
                log.info("link is up endpoint=%s center=%s", endpoint, session.welcome.center)
                if self._notary is not None:
                    self._notary.resend()
                ended = self._until(session, endpoint)
                session.run(lambda: ended() or (self._must_ask() and not hello.asks))
        except Unanswered:
            self._patience = 1 if self._door.delivered > delivered else min(self._patience + 1, MOST_PATIENCE)
            raise
        finally:
            session.close()

    def _must_ask(self) -> bool:
        """Return whether a hello must be said that asks how far sources were read."""
        return self._positions is not None and self._positions.is_due

    def _patient(self) -> LinkOptions:
        """Return the options of the next session: after silence fewer bytes at once, and a longer wait.

        What a slow link cannot carry within the wait would else be sent again and again, for ever.
        """
        options = self._options
        return replace(
            options,
            ack_timeout_ns=options.ack_timeout_ns << self._patience,
            window_bytes=max(options.window_bytes >> (2 * self._patience), 1),
        )

    def _bind(self, store: str) -> None:
        """Keep which store this agent's data is in: it sends to no other from now on."""
        self._store = store
        if store != self._memory.store:
            self._memory.store = store
            self._memory.save()

    def _until(self, session: Session, endpoint: str) -> Callable[[], bool]:
        """Return when a session should end: the agent stops, or an earlier receiver of the list is back."""
        earlier = self._endpoints[: self._endpoints.index(endpoint)]
        if not earlier:
            return self._stop.is_set
        due = self._clock.monotonic_ns() + PREFERRED_AGAIN_NS

        def ended() -> bool:
            nonlocal due
            if self._stop.is_set():
                return True
            if self._clock.monotonic_ns() >= due and session.idle:
                due = self._clock.monotonic_ns() + PREFERRED_AGAIN_NS
                self._go_back = any(reachable(e) for e in earlier)
                return self._go_back
            return False

        return ended

    def _report(self, endpoint: str, error: LinkError) -> None:
        state = "held" if isinstance(error, Held) else "down"
        if (state, error.message) != (self.link.state, self.link.reason):
            level = logging.ERROR if state == "held" else logging.WARNING
            log.log(level, "link is %s, data waits in the spool: %s", state, error)
        self.link = LinkState(state, endpoint, error.message, self._store)

    def _spread_ns(self) -> int:
        """Return the pause after a session that was up: if the receiver was restarted, all others lost theirs, too."""
        most = min(self._options.backoff_max_ns, SPREAD * self._options.backoff_min_ns)
        return int(most * self._rng.random())

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
