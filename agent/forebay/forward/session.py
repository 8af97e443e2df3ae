"""One connection to one receiver: hello, sliding window, typed replies. Ends with LinkError.

A batch leaves the spool only after ACK. `send()` succeeding means nothing: of 1,000 successful sends 990 were
lost when the receiver restarted.
"""

from __future__ import annotations

import heapq
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import zmq

from forebay.blocks import Lane
from forebay.clock import Clock
from forebay.errors import LinkError, SpoolError, WireError
from forebay.forward.link import BatchRow, LinkOptions, SpoolDoor
from forebay.keys import PublicKey, SecretKey
from forebay.wire import messages as m
from forebay.wire.curve import set_client, set_heartbeat
from forebay.wire.envelope import content_tag

log = logging.getLogger("forebay.forward")

LANES = (str(Lane.URGENT), str(Lane.NORMAL), str(Lane.BULK))
READ_AT_ONCE = 16
PERMANENTS_TO_HOLD = 5  # one bad receiver release must not dead-letter a fleet
MS = 1_000_000
GAPS_AGAIN_NS = 5_000 * MS
_HANDSHAKE_FAILURES = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the receiver does not accept this gateway's key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the key handshake failed: the server key is probably another one",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the key handshake failed: one of the two keys is probably wrong",
}


@dataclass(slots=True)
class _Sent:
    """A batch on the wire."""

    id: int
    at_ns: int
    size: int


class Held(LinkError):
    """The receiver refuses for a reason that will not pass by itself: try seldom."""


class Session:
    """Use once: `open`, `run` until it raises LinkError or returns because of `stop`, `close`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        keys: tuple[SecretKey, PublicKey],
        options: LinkOptions,
        door: SpoolDoor,
        clock: Clock,
        hello: m.Hello,
    ) -> None:
        self.endpoint = endpoint
        self._options, self._door, self._clock, self._hello = options, door, clock, hello
        self.window = options.window
        self.welcome: m.Welcome | None = None
        self._in_flight: dict[m.Number, _Sent] = {}
        self._bytes_in_flight = 0
        self._cursor = dict.fromkeys(LANES, -1)
        self._later: list[tuple[int, int]] = []  # heap of (due ns, batch id)
        self._bodies_sent: set[bytes] = set()
        self._gaps_sent: dict[m.Number, int] = {}
        self._gaps_due_ns = 0
        self._permanent: list[tuple[int, str]] = []
        self._last_answer_ns = clock.monotonic_ns()
        self._blocked = False  # libzmq's queue is full
        self._socket = self._connect(context, keys)
        self._monitor = self._socket.get_monitor_socket(
            int(sum(_HANDSHAKE_FAILURES)) | int(zmq.EVENT_DISCONNECTED)
        )
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(door.wake_fd, zmq.POLLIN)

    def _connect(
        self, context: zmq.Context[zmq.Socket[bytes]], keys: tuple[SecretKey, PublicKey]
    ) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 2 * self._options.window + 16)
        socket.setsockopt(zmq.SNDTIMEO, 0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, m.MAX_CONTROL_BYTES)
        set_heartbeat(socket)
        set_client(socket, *keys)
        socket.connect(self.endpoint)
        return socket

    def close(self) -> None:
        """Drop the connection; everything unanswered will be sent again by the next session."""
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        unanswered = [sent.id for sent in self._in_flight.values()]
        self._door.claims.release([*unanswered, *(batch_id for batch_id, _ in self._permanent)])

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
            self._fill()
            self._bury_poison()
            self._check_deadline()
            self._poll(20 if self._blocked else self._poll_ms())

    def _poll_ms(self) -> int:
        now = self._clock.monotonic_ns()
        due = [now + 500 * MS]
        if self._in_flight:
            due.append(self._last_answer_ns + self._options.ack_timeout_ns)
        if self._later:
            due.append(self._later[0][0])
        return max(0, (min(due) - now) // MS + 1)

    def _poll(self, timeout_ms: int) -> None:
        ready = dict(self._poller.poll(timeout_ms))
        if self._door.wake_fd in ready:
            self._door.take_wake()
        if self._monitor in ready:
            self._look_at_monitor()
        while int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._take(self._socket.recv_multipart(zmq.NOBLOCK))

    def _look_at_monitor(self) -> None:
        # Frame 0 is event (16 bits) and value (32 bits), frame 1 the endpoint: zmq_socket_monitor(3). pyzmq's
        # own reader would do, but its module imports asyncio: 0.1 s and 10 MB.
        event = int.from_bytes(self._monitor.recv_multipart(zmq.NOBLOCK)[0][:2], sys.byteorder)
        # A client that was refused never tries again by itself, and one that was cut off would wait for
        # the acknowledgement to time out: both end the session.
        reason = _HANDSHAKE_FAILURES.get(zmq.Event(event))
        if reason is not None:
            raise Held(reason, place=self.endpoint, hint="enrol with: forebay keys enroll GATEWAY_ID PUBFILE")
        raise LinkError("the connection was closed", place=self.endpoint)

    def _check_deadline(self) -> None:
        waited = self._clock.monotonic_ns() - self._last_answer_ns
        if self._in_flight and waited > self._options.ack_timeout_ns:
            raise LinkError(f"no acknowledgement for {waited / 1e9:.1f} s", place=self.endpoint)

    # -- sending --------------------------------------------------------------------------------------------

    def _try_send(self, frames: list[bytes]) -> bool:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _fill(self) -> None:
        """Send what fits the window: what is due again first, then by lane."""
        self._blocked = False
        self._send_gaps()
        now = self._clock.monotonic_ns()
        while self._later and self._later[0][0] <= now and self._has_room():
            batch = self._door.reader.batch(heapq.heappop(self._later)[1])
            if batch is not None and not self._send(batch):
                heapq.heappush(self._later, (now, batch.id))
                return
        for lane in LANES:
            while self._has_room():
                batches = self._read(lane)
                if not batches:
                    break
                for batch in batches:
                    if not self._has_room() or not self._send(batch):
                        return
                    self._cursor[lane] = batch.id

    def _has_room(self) -> bool:
        return len(self._in_flight) < self.window and self._bytes_in_flight < self._options.window_bytes

    def _read(self, lane: str) -> Sequence[BatchRow]:
        limit = min(READ_AT_ONCE, self.window - len(self._in_flight))
        try:
            return self._door.reader.pending(lane, self._cursor[lane], limit)
        except SpoolError as error:
            log.warning("spool cannot be read now: %s", error)
            return []

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
        self._in_flight[number] = _Sent(batch.id, self._clock.monotonic_ns(), len(batch.data))
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

    def _send_gaps(self) -> None:
        now = self._clock.monotonic_ns()
        if now > self._gaps_due_ns:  # one that could not be recorded yet is told again
            self._gaps_sent.clear()
            self._gaps_due_ns = now + GAPS_AGAIN_NS
        gaps = [g for g in self._door.reader.gaps(64) if (g.epoch, g.seq_from) not in self._gaps_sent]
        if gaps and self._try_send([m.encode(m.Gaps([m.Gap(*g[1:]) for g in gaps]))]):
            self._gaps_sent.update({(g.epoch, g.seq_from): g.id for g in gaps})

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
                self._door.answer(acked=[sent.id for sent in self._settle(numbers)])
                self._door.delivered += len(numbers)
                self._bury(self._permanent)
            case m.RetryLater(numbers, delay_ms):
                self._send_again(numbers, self._last_answer_ns + delay_ms * MS)
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
                "the receiver keeps its data in another store than before",
                place=self.endpoint,
                hint="receivers that share gateways must share the store",
            )
        self._compare(welcome.marks)
        self.welcome = welcome
        self.window = min(self._options.window, welcome.window)

    def _compare(self, marks: dict[int, int]) -> None:
        """Look whether spool and center are of one history: a restored card or a restored center is not."""
        for epoch, (_lane, next_seq) in self._hello.epochs.items():
            mark = marks.get(epoch, 0)
            if mark >= next_seq:
                log.error(
                    "the center has numbers that this spool has not given yet: a new epoch begins mark=%d",
                    mark,
                )
                self._door.answer(regressed=[(epoch, mark)])
                raise LinkError("the spool is older than what the center has", place=self.endpoint)
            for low, high in self._door.reader.lost_by_center(epoch, next_seq, mark):
                log.error("the center has lost batches that it acknowledged from=%d to=%d", low, high)
                self._door.answer(holes=[(epoch, low, high)])

    def _settle(self, numbers: Iterable[m.Number]) -> list[_Sent]:
        """Take answered batches out of the window. An answer to something never sent is ignored.

        They stay claimed: the writer releases what it deletes, `_send_again` what will be sent again.
        """
        settled = [sent for n in numbers if (sent := self._in_flight.pop(n, None)) is not None]
        self._bytes_in_flight -= sum(sent.size for sent in settled)
        return settled

    def _send_again(self, numbers: Iterable[m.Number], due_ns: int) -> None:
        settled = self._settle(numbers)
        self._door.claims.release([sent.id for sent in settled])
        for sent in settled:
            heapq.heappush(self._later, (due_ns, sent.id))

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
