"""One connection to one receiver: hello, sliding window, typed replies. Ends with LinkError.

A batch leaves the spool only after ACK. `send()` succeeding means nothing: of 1,000 successful sends 990 were
lost when the receiver restarted.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from forebay.clock import Clock
from forebay.errors import LinkError, SpoolError, WireError
from forebay.forward.budget import HEARTBEAT_BYTES, MESSAGE_BYTES, Budget, BudgetPlan, Pace
from forebay.forward.link import BatchRow, Held, Link, LinkOptions, SpoolDoor, Unanswered
from forebay.forward.memory import LinkMemory
from forebay.forward.notary import Checkpoints
from forebay.forward.outgoing import Outgoing
from forebay.forward.positions import Positions
from forebay.wire import messages as m
from forebay.wire.envelope import content_tag

log = logging.getLogger("forebay.forward")

PERMANENTS_TO_HOLD = 5  # one bad receiver release must not dead-letter a fleet
MS = 1_000_000
GAPS_AGAIN_NS = 5_000 * MS
# A session begins with this much on the wire and doubles it with each window that is acknowledged, as TCP does: a
# receiver that was restarted under a fleet must not get every gateway's whole window in its first second.
START_BYTES = 1024 * 1024
LATER_SPREAD = (
    0.5  # of the delay that RETRY_LATER asks for: what was put off together must not come back together
)


@dataclass(slots=True)
class _Sent:
    """A batch on the wire."""

    id: int
    lane: str
    size: int
    receipt: tuple[int, int, bytes]  # epoch, seq, tag


@dataclass(frozen=True, slots=True)
class Extras:
    """What outlives a session beside the spool."""

    budget: Budget
    notary: Checkpoints | None = None
    rng: random.Random | None = None
    positions: Positions | None = None


class Session:
    """Use once: `open`, `run` until it raises LinkError or returns because of `stop`, `close`."""

    def __init__(
        self,
        link: Link,
        options: LinkOptions,
        door: SpoolDoor,
        clock: Clock,
        hello: m.Hello,
        extras: Extras | None = None,
    ) -> None:
        self.endpoint, self._link = link.endpoint, link
        self._options, self._door, self._clock, self._hello = options, door, clock, hello
        extras = extras or Extras(Budget(BudgetPlan(), LinkMemory(), clock))
        self._budget, self._notary, self._positions = extras.budget, extras.notary, extras.positions
        self.window = options.window
        self._allowed_bytes = self._start_bytes()
        self.welcome: m.Welcome | None = None
        self._in_flight: dict[m.Number, _Sent] = {}
        self._bytes_in_flight = 0
        self._rng = extras.rng or random.SystemRandom()
        self._out = Outgoing(door, options, clock, self._budget, self._rng)
        self._pace = Pace(options.rate, clock)
        self._paced_until_ns = 0
        self._bodies_sent: set[bytes] = set()
        self._gaps_sent: dict[m.Number, int] = {}
        self._gaps_due_ns = 0
        self._permanent: list[tuple[int, str]] = []
        self._last_answer_ns = self._beaten_ns = clock.monotonic_ns()
        self._blocked = False  # the link's queue is full

    def close(self) -> None:
        """Drop the connection; everything unanswered will be sent again by the next session."""
        self._link.close()
        unanswered = [sent.id for sent in self._in_flight.values()]
        self._door.claims.release([*unanswered, *(batch_id for batch_id, _ in self._permanent)])

    @property
    def idle(self) -> bool:
        """Return whether nothing is unanswered."""
        return not self._in_flight

    # -- phases ---------------------------------------------------------------------------------------------

    def open(self, stopping: Callable[[], bool]) -> bool:
        """Say hello and wait for the welcome. Return False when stopping. Raises LinkError."""
        deadline = self._clock.monotonic_ns() + self._options.connect_timeout_ns
        greeted = False
        while not stopping():
            left = deadline - self._clock.monotonic_ns()
            if left <= 0:
                raise LinkError(
                    "no answer to the hello", place=self.endpoint, hint="is the receiver running?"
                )
            if not greeted:
                greeted = self._try_send([m.encode(self._hello)])
            self._poll(min(left // MS + 1, 20 if not greeted else 200))
            if self.welcome is not None:
                return True
        return False

    def run(self, stopping: Callable[[], bool]) -> None:
        """Send and take answers until `stopping`. Raises LinkError."""
        self._last_answer_ns = self._clock.monotonic_ns()
        while not stopping():
            self.turn()

    def turn(self) -> None:
        """Send what may be sent, wait for something to happen, take what has come. Raises LinkError."""
        self._fill()
        self._bury_poison()
        self._check_deadline()
        self._count_heartbeats()
        self._poll(20 if self._blocked else self._poll_ms())

    def _poll_ms(self) -> int:
        now = self._clock.monotonic_ns()
        due = [now + 500 * MS]
        if self._in_flight:
            due.append(self._last_answer_ns + self._options.ack_timeout_ns)
        if (again := self._out.due_ns()) is not None:
            due.append(again)
        if self._paced_until_ns > now:
            due.append(self._paced_until_ns)
        return max(0, (min(due) - now) // MS + 1)

    def _poll(self, timeout_ms: int) -> None:
        for frames in self._link.receive(timeout_ms):
            self._budget.spend(sum(map(len, frames)) + MESSAGE_BYTES)
            self._take(frames)

    def _count_heartbeats(self) -> None:
        """Count what an idle connection costs: it is on the bill as well."""
        beats = (self._clock.monotonic_ns() - self._beaten_ns) // self._options.heartbeat_ns
        if beats and self._budget.limited:
            self._budget.spend(beats * HEARTBEAT_BYTES)
        self._beaten_ns += beats * self._options.heartbeat_ns

    def _check_deadline(self) -> None:
        waited = self._clock.monotonic_ns() - self._last_answer_ns
        if self._in_flight and waited > self._options.ack_timeout_ns:
            raise Unanswered(f"no acknowledgement for {waited / 1e9:.1f} s", place=self.endpoint)

    # -- sending --------------------------------------------------------------------------------------------

    def _try_send(self, frames: list[bytes]) -> bool:
        size = sum(map(len, frames)) + MESSAGE_BYTES
        if not self._link.send(frames):
            return False
        self._pace.take(size)
        self._budget.spend(size)
        return True

    def _fill(self) -> None:
        """Send what fits the window, the rate and the budget."""
        self._blocked, self._paced_until_ns = False, 0
        self._send_gaps()
        self._send_checkpoint()
        self._out.refresh()
        while self._has_room():
            batch = self._out.peek()
            if batch is None:
                return
            wait_ns = self._pace.wait_ns(len(batch.data) + MESSAGE_BYTES)
            if wait_ns:
                self._paced_until_ns = self._clock.monotonic_ns() + wait_ns
                return
            if not self._send(batch):
                return
            self._out.pop()

    def _has_room(self) -> bool:
        return len(self._in_flight) < self.window and self._bytes_in_flight < self._allowed_bytes

    def _send(self, batch: BatchRow) -> bool:
        """Send one batch. Return False when libzmq's queue is full."""
        if content_tag(batch.data) != batch.tag:
            # integrity_check says ok after a bit flip inside a blob: only the tag shows it.
            log.error("a batch is damaged on disk and set aside stream=%s seq=%d", batch.stream, batch.seq)
            self._door.answer(dead=[(batch.id, "quarantined", "damaged")])
            return True
        if self.welcome is not None and len(batch.data) > self.welcome.max_bytes:
            # A larger frame would end the connection without a word, again and again.
            log.error("a batch is larger than the receiver takes and is set aside stream=%s", batch.stream)
            self._door.answer(dead=[(batch.id, "dead_lettered", "too_large")])
            return True
        if not self._send_bodies((batch.schema_id, batch.context_id)):
            return False
        if not self._door.claims.claim(batch.id, self._door.reader.exists):
            return True  # evicted since it was read
        head = m.encode(m.Batch(batch.lane, batch.epoch, batch.seq, batch.tag))
        if not self._try_send([head, batch.data]):
            self._door.claims.release((batch.id,))
            self._blocked = True
            return False
        if not self._in_flight:
            self._last_answer_ns = self._clock.monotonic_ns()
        number = (batch.epoch, batch.seq)
        self._in_flight[number] = _Sent(batch.id, batch.lane, len(batch.data), (*number, batch.tag))
        self._bytes_in_flight += len(batch.data)
        return True

    def _send_bodies(self, ids: Iterable[bytes]) -> bool:
        new = [key for key in ids if key not in self._bodies_sent]
        if not new:
            return True
        bodies = self._door.reader.bodies(new)
        if not self._try_send([m.encode(m.Bodies(list(bodies.values())))]):
            self._blocked = True
            return False
        self._bodies_sent.update(new)
        return True

    def _send_checkpoint(self) -> None:
        if self._notary is None or self.welcome is None or self.welcome.above is None:
            return
        message = self._notary.look(self._door)
        if message is not None and self._try_send([m.encode(message)]):
            self._notary.sent()

    def _send_gaps(self) -> None:
        now = self._clock.monotonic_ns()
        if now > self._gaps_due_ns:  # one that could not be recorded yet is told again
            self._gaps_sent.clear()
            self._gaps_due_ns = now + GAPS_AGAIN_NS
            if self.idle:
                self._look_for_hidden()
        gaps = [g for g in self._door.reader.gaps(64) if (g.epoch, g.seq_from) not in self._gaps_sent]
        if gaps and self._try_send([m.encode(m.Gaps([m.Gap(*g[1:]) for g in gaps]))]):
            self._gaps_sent.update({(g.epoch, g.seq_from): g.id for g in gaps})

    def _look_for_hidden(self) -> None:
        try:
            self._door.reader.look_for_hidden()
        except SpoolError as error:
            log.warning("spool cannot be read now: %s", error)

    # -- answers --------------------------------------------------------------------------------------------

    def _take(self, frames: list[bytes]) -> None:
        try:
            message = m.decode(frames[0])
        except WireError as error:
            raise LinkError(
                f"the receiver sent something else: {error.message}", place=self.endpoint
            ) from None
        self._last_answer_ns = self._clock.monotonic_ns()
        match message:
            case m.Welcome():
                self._accept(message)
            case m.Ack(numbers):
                settled = self._settle(numbers)
                self._widen(settled)
                # The receipts go with them: one transaction deletes the batches and keeps their tags.
                receipts = [sent.receipt for sent in settled] if self._notary is not None else []
                self._door.answer(acked=[sent.id for sent in settled], receipts=receipts)
                self._door.delivered += len(numbers)
                self._bury(self._permanent)
            case m.RetryLater(numbers, delay_ms):
                self._allowed_bytes = max(self._allowed_bytes // 2, self._start_bytes())
                spread = 1 + LATER_SPREAD * self._rng.random()
                self._send_again(numbers, self._last_answer_ns + int(delay_ms * spread) * MS)
            case m.NeedSchema(ids, numbers):
                self._bodies_sent.difference_update(ids)
                self._send_again(numbers, self._last_answer_ns)
            case m.Permanent(numbers, reason):
                self._permanent += [(sent.id, reason) for sent in self._settle(numbers)]
                self._hold_if_all_refused(reason)
            case m.Conflict(numbers):
                log.error(
                    "other data is stored there under the same numbers: is this spool a copy or a clone?"
                    " The batches get new numbers count=%d",
                    len(numbers),
                )
                self._door.answer(conflicts=[sent.id for sent in self._settle(numbers)])
                raise LinkError("numbers are given anew", place=self.endpoint)
            case m.GapsAck(numbers):
                confirmed = [self._gaps_sent.pop(n) for n in numbers if n in self._gaps_sent]
                self._door.answer(gaps_confirmed=confirmed)
            case m.CheckpointAck(digest, verdict):
                if self._notary is not None:
                    self._notary.answered(digest, verdict, self._door)
            case m.Refused(reason):
                raise Held(f"the receiver refuses this gateway: {reason}", place=self.endpoint)
            case m.UpgradeNeeded(protocols):
                raise Held(
                    f"the receiver speaks protocol {protocols}, this agent {m.PROTOCOL}", place=self.endpoint
                )
            case _:
                raise LinkError("the receiver sent an agent's message", place=self.endpoint)

    def _accept(self, welcome: m.Welcome) -> None:
        if self._hello.store and welcome.store != self._hello.store:
            raise Held(
                f"the receiver keeps its data in store {welcome.store}, this agent's is in {self._hello.store}",
                place=self.endpoint,
                hint="receivers that share gateways must share the store; if it has moved for good, set"
                f" `forward.store: {welcome.store}`",
            )
        if self._hello.asks and self._positions is not None:
            # Before any source goes on: what it reads then is to stand behind what the lost spool has sent.
            strange = {p[0] for p in (welcome.positions or {}).values() if p is not None} - set(
                self._hello.epochs
            )
            if strange:
                self._door.answer(behind=sorted(strange))
            self._positions.answer(welcome.positions)
        self._compare(welcome.marks, welcome.above or {})
        self.welcome = welcome
        self.window = min(self._options.window, welcome.window)

    def _compare(self, marks: dict[int, int], above: dict[int, list[m.Number]]) -> None:
        """Look whether spool and center are of one history: a restored card or a restored center is not."""
        for epoch, (_lane, next_seq) in self._hello.epochs.items():
            mark, ranges = marks.get(epoch, 0), above.get(epoch, [])
            highest = max([mark, *(high for _, high in ranges)])
            if highest >= next_seq:
                log.error(
                    "the center has numbers that this spool has not given yet: a new epoch begins mark=%d",
                    highest,
                )
                self._door.answer(regressed=[(epoch, highest)])
                raise LinkError("the spool is older than what the center has", place=self.endpoint)
            for lost in self._door.reader.lost_by_center(epoch, next_seq, mark):
                for low, high in _without(lost, ranges):
                    log.error("the center has lost batches that it acknowledged from=%d to=%d", low, high)
                    self._door.answer(holes=[(epoch, low, high)])

    def _settle(self, numbers: Iterable[m.Number]) -> list[_Sent]:
        """Take answered batches out of the window. An answer to something never sent is ignored.

        They stay claimed: the writer releases what it deletes, `_send_again` what will be sent again.
        """
        settled = [sent for n in numbers if (sent := self._in_flight.pop(n, None)) is not None]
        self._bytes_in_flight -= sum(sent.size for sent in settled)
        return settled

    def _widen(self, acknowledged: Sequence[_Sent]) -> None:
        """Let more onto the wire: as much again as was acknowledged."""
        more = sum(sent.size for sent in acknowledged)
        self._allowed_bytes = min(self._options.window_bytes, self._allowed_bytes + more)

    def _start_bytes(self) -> int:
        return min(START_BYTES, self._options.window_bytes)

    def _send_again(self, numbers: Iterable[m.Number], due_ns: int) -> None:
        settled = self._settle(numbers)
        self._door.claims.release([sent.id for sent in settled])
        self._out.later([(sent.lane, sent.id) for sent in settled], due_ns)

    def _hold_if_all_refused(self, reason: str) -> None:
        if len(self._permanent) >= PERMANENTS_TO_HOLD:
            raise Held(
                f"{len(self._permanent)} batches in a row refused for good ({reason}); none is thrown away",
                place=self.endpoint,
                hint="look at the receiver's log: one bad release must not empty a fleet's buffers",
            )

    def _bury_poison(self) -> None:
        if self._permanent and not self._in_flight:
            self._bury(self._permanent)

    def _bury(self, refused: list[tuple[int, str]]) -> None:
        if refused:
            self._door.answer(dead=[(batch_id, "dead_lettered", reason) for batch_id, reason in refused])
            refused.clear()


def _without(whole: m.Number, parts: Iterable[m.Number]) -> Iterator[m.Number]:
    """Yield what is left of a range without some others."""
    low, high = whole
    for a, b in sorted(parts):
        if low < a and low <= high:
            yield low, min(high, a - 1)
        low = max(low, b + 1)
    if low <= high:
        yield low, high
