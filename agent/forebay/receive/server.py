"""The receiver's loop: one thread takes what has come, stores it in one transaction and answers.

A reply goes out only after every required sink has committed. All state that matters is in the sinks; a
restart forgets nothing but caches.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import zmq

from forebay.clock import Clock
from forebay.errors import ForebayError, WireError
from forebay.keys import SecretKey
from forebay.receive.checks import Bodies, Damaged, MissingBodies, policy_accepted, read_batch
from forebay.receive.sink import Incoming, Sink, Verdict, Work
from forebay.receive.zap import AllowList, ZapHandler
from forebay.wire import messages as m
from forebay.wire.curve import set_heartbeat, set_server
from forebay.wire.envelope import MAX_BATCH_BYTES

log = logging.getLogger("forebay.receive")

GROUP_MESSAGES = 256
GROUP_BYTES = 16 * 1024 * 1024
RETRY_MS = 1_000
MAX_ALARMS = 10_000
HOLD_MS = 600_000  # what a person must put right; a receiver that is started anew is asked at once


@dataclass(slots=True)
class Replies:
    """Answers to one peer, collected over a group."""

    acked: list[m.Number] = field(default_factory=list)
    later: list[m.Number] = field(default_factory=list)
    held: list[m.Number] = field(default_factory=list)
    conflicts: list[m.Number] = field(default_factory=list)
    refused: dict[str, list[m.Number]] = field(default_factory=lambda: defaultdict(list))
    missing_ids: set[bytes] = field(default_factory=set)
    missing: list[m.Number] = field(default_factory=list)
    gaps: list[m.Number] = field(default_factory=list)
    first: list[m.Message] = field(default_factory=list)

    def messages(self) -> list[m.Message]:
        """Return the messages to be sent, in an order that lets the agent act on the first at once."""
        out = list(self.first)
        out += [m.NeedSchema(sorted(self.missing_ids), self.missing)] if self.missing else []
        out += [m.Ack(part) for part in _parts(self.acked)]
        out += [m.Conflict(part) for part in _parts(self.conflicts)]
        out += [m.Permanent(part, reason) for reason, all_ in self.refused.items() for part in _parts(all_)]
        out += [m.RetryLater(part, RETRY_MS) for part in _parts(self.later)]
        out += [m.RetryLater(part, HOLD_MS) for part in _parts(self.held)]
        out += [m.GapsAck(part) for part in _parts(self.gaps)]
        return out


def _parts(numbers: list[m.Number]) -> list[list[m.Number]]:
    return [numbers[i : i + m.MAX_NUMBERS] for i in range(0, len(numbers), m.MAX_NUMBERS)]


@dataclass(slots=True)
class Group:
    """What is taken in one turn of the loop: one transaction's work, and whom to answer."""

    work: Work = field(default_factory=Work)
    replies: dict[bytes, Replies] = field(default_factory=lambda: defaultdict(Replies))
    batch_peers: list[bytes] = field(default_factory=list)
    gap_peers: list[bytes] = field(default_factory=list)

    def add_batch(self, peer: bytes, batch: Incoming) -> None:
        """Add a batch that came from `peer`."""
        self.work.batches.append(batch)
        self.batch_peers.append(peer)

    def add_gaps(self, peer: bytes, gateway: str, gaps: Sequence[m.Gap]) -> None:
        """Add gaps that came from `peer`."""
        self.work.gaps += [(gateway, gap) for gap in gaps]
        self.gap_peers += [peer] * len(gaps)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Settings of the listener."""

    center: str
    endpoint: str
    window: int = 64
    require_policy: tuple[str, ...] = ()


class Server:
    """Listens on one endpoint and stores into the sinks. `run` in the calling thread until `stop`."""

    def __init__(
        self,
        options: ServerOptions,
        key: SecretKey,
        allowed: AllowList,
        sinks: Sequence[Sink],
        clock: Clock,
        stopping: threading.Event | None = None,
    ) -> None:
        self._options, self._allowed, self._sinks, self._clock = options, allowed, sinks, clock
        self._stop = stopping or threading.Event()
        self._bodies = Bodies(self._load_body)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = ZapHandler(self._context, allowed)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.SNDTIMEO, 0)
        self._socket.setsockopt(zmq.RCVHWM, 2 * options.window)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BATCH_BYTES)
        self._socket.setsockopt(zmq.IPV6, int("[" in options.endpoint))
        set_heartbeat(self._socket)
        set_server(self._socket, key)
        try:
            self._socket.bind(options.endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(0)
            raise ForebayError(
                f"cannot listen: {error.strerror}",
                place=options.endpoint,
                hint="is another receiver running, and is the address this machine's?",
            ) from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.stored_batches = 0
        self.held_batches = 0
        self._alarmed: set[tuple[str, str]] = set()  # (gateway, policy hash) told of in the log

    def _load_body(self, key: bytes) -> bytes | None:
        return next((body for sink in self._sinks if (body := sink.body(key)) is not None), None)

    def stop(self) -> None:
        """Ask `run` to return soon. From any thread or a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Serve until `stop`."""
        poller = zmq.Poller()
        poller.register(self._zap.socket, zmq.POLLIN)
        poller.register(self._socket, zmq.POLLIN)
        try:
            while not self._stop.is_set():
                self._allowed.refresh(self._clock.monotonic_ns())
                ready = dict(poller.poll(100))
                if self._zap.socket in ready:
                    self._zap.answer()
                if self._socket in ready:
                    self._serve_group()
        finally:
            for sink in self._sinks:
                sink.close()
            self._context.destroy(200)

    # -- one group ------------------------------------------------------------------------------------------

    def _serve_group(self) -> None:
        """Take what has come, store it in one transaction, answer."""
        group, size = Group(), 0
        for _ in range(GROUP_MESSAGES):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            size += sum(len(f.buffer) for f in frames)
            self._take(frames, group)
            if size >= GROUP_BYTES:
                break
        if group.work.batches or group.work.gaps:
            self._store(group.work)
            self._answer_for(group)
        for peer, replies in group.replies.items():
            self._send(peer, replies.messages())

    def _answer_for(self, group: Group) -> None:
        for peer, batch in zip(group.batch_peers, group.work.batches, strict=True):
            _note(group.replies[peer], batch)
        for peer, (gateway, gap) in zip(group.gap_peers, group.work.gaps, strict=True):
            if all(sink.closed(gateway, gap) for sink in self._sinks):
                group.replies[peer].gaps.append((gap.epoch, gap.seq_from))

    def _take(self, frames: list[zmq.Frame], group: Group) -> None:
        peer = frames[0].bytes
        replies = group.replies[peer]
        gateway = str(frames[-1].get("User-Id"))  # set by ZAP from the enrolled key, not by the sender
        if not self._allowed.has(gateway):
            # Revoking a key does not cut a live session: each message is looked at.
            replies.first.append(m.Refused("this gateway is not enrolled any more"))
            return
        try:
            if len(frames) not in (2, 3):
                raise WireError(f"expected one or two frames, found {len(frames) - 1}")
            message = m.decode(frames[1].bytes)
            match message:
                case m.Hello():
                    replies.first.append(self._welcome(gateway, message))
                case m.Bodies(bodies):
                    for body in bodies:
                        self._bodies.add(body)
                case m.Batch() if len(frames) == 3:
                    self._take_batch(gateway, message, frames, group)
                case m.Gaps(gaps):
                    group.add_gaps(peer, gateway, gaps)
                case _:
                    raise WireError("expected an agent's message")
        except WireError as error:
            log.warning("a message that cannot be read gateway=%s reason=%s", gateway, error.message)
            replies.first.append(m.UpgradeNeeded([m.PROTOCOL]))

    def _welcome(self, gateway: str, hello: m.Hello) -> m.Message:
        if hello.gateway != gateway:
            log.error("a gateway gave another name than its key's key=%s", gateway)
            return m.Refused("the gateway id is not the one that this key is enrolled for")
        if hello.protocol != m.PROTOCOL:
            return m.UpgradeNeeded([m.PROTOCOL])
        marks = [sink.marks(gateway, list(hello.epochs)) for sink in self._sinks]
        lowest = {epoch: min(of[epoch] for of in marks) for epoch in hello.epochs}
        store = "+".join(sorted(sink.store_id for sink in self._sinks))
        log.info("gateway connected gateway=%s agent=%s", gateway, hello.agent)
        return m.Welcome(
            m.PROTOCOL, self._options.center, store, self._options.window, MAX_BATCH_BYTES, lowest
        )

    def _take_batch(self, gateway: str, head: m.Batch, frames: list[zmq.Frame], group: Group) -> None:
        number, reply = (head.epoch, head.seq), group.replies[frames[0].bytes]
        data, frame_bytes = frames[2].bytes, len(frames[1].buffer) + len(frames[2].buffer)
        try:
            batch = read_batch(head, data, frame_bytes, self._bodies)
        except MissingBodies as missing:
            reply.missing_ids.update(missing.ids)
            reply.missing.append(number)
        except Damaged as damaged:
            log.warning("a batch arrived damaged gateway=%s seq=%d: %s", gateway, head.seq, damaged)
            reply.later.append(number)
        except WireError as error:
            log.error("a batch cannot be read gateway=%s seq=%d: %s", gateway, head.seq, error.message)
            reply.refused[error.message[:200]].append(number)
        else:
            if batch.gateway != gateway:
                reply.refused["the batch is of another gateway"].append(number)
                return
            if not policy_accepted(batch.context, self._options.require_policy):
                self._hold(batch)
                reply.held.append(number)
                return
            group.add_batch(frames[0].bytes, batch)

    def _hold(self, batch: Incoming) -> None:
        """Leave a batch of another policy on its gateway: refusing it for good would empty a fleet's buffers."""
        self.held_batches += 1
        known = (batch.gateway, batch.context.policy_hash)
        if known not in self._alarmed and len(self._alarmed) < MAX_ALARMS:
            self._alarmed.add(known)
            log.error(
                "batches wait on their gateway: masked under a policy that `listen.require_policy` does not list"
                " gateway=%s policy=%s hash=%s",
                *(batch.gateway, batch.context.policy, batch.context.policy_hash),
            )

    def _store(self, work: Work) -> None:
        """Store into every sink; a batch's verdict is the worst of theirs."""
        work.received_at = self._clock.wall_ns()
        worst: list[Verdict | None] = [None] * len(work.batches)
        for sink in self._sinks:
            try:
                sink.store(work)
            except ForebayError as error:
                log.error("nothing is acknowledged, agents keep their data: %s", error)
                for batch in work.batches:
                    batch.verdict = Verdict.TOO_FAR
                return
            worst = [_worse(w, b.verdict) for w, b in zip(worst, work.batches, strict=True)]
        for batch, verdict in zip(work.batches, worst, strict=True):
            batch.verdict = verdict
        self.stored_batches += sum(v is Verdict.STORED for v in worst)

    def _send(self, peer: bytes, messages: list[m.Message]) -> None:
        for message in messages:
            try:
                self._socket.send_multipart([peer, m.encode(message)], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                # Gone or not reading: it will ask again, and what was stored is then a duplicate.
                log.debug("a reply could not be sent error=%s", error.strerror)
                return


_SEVERITY = [Verdict.DUPLICATE, Verdict.STORED, Verdict.TOO_FAR, Verdict.REFUSED, Verdict.CONFLICT]


def _worse(a: Verdict | None, b: Verdict | None) -> Verdict | None:
    if a is None or b is None:
        return a or b
    return max(a, b, key=_SEVERITY.index)


def _note(reply: Replies, batch: Incoming) -> None:
    number = (batch.epoch, batch.seq)
    match batch.verdict:
        case Verdict.STORED | Verdict.DUPLICATE:
            reply.acked.append(number)
        case Verdict.CONFLICT:
            log.error("another batch is stored under this number gateway=%s seq=%d", batch.gateway, batch.seq)
            reply.conflicts.append(number)
        case Verdict.REFUSED:
            reply.refused[batch.reason].append(number)
        case _:
            reply.later.append(number)
