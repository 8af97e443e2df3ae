"""What the receiver does with messages, whoever carried them: judge, store in one transaction, answer.

No sockets in here: `server.py` brings what came and takes the replies out, and so can a test.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from forebay.clock import Clock
from forebay.errors import ForebayError, WireError
from forebay.keys import SecretKey
from forebay.receive.caps import EpochGate, Limits
from forebay.receive.checkpoints import examine, tell
from forebay.receive.checks import Bodies, Damaged, MissingBodies, policy_accepted, read_batch
from forebay.receive.marks import common
from forebay.receive.positions import common_positions
from forebay.receive.sink import Incoming, Sink, Verdict, Work
from forebay.wire import messages as m
from forebay.wire.envelope import MAX_BATCH_BYTES

log = logging.getLogger("forebay.receive")

RETRY_MS = 1_000
EPOCH_RETRY_MS = 60_000  # more epochs than a day may have will not pass soon
POLICY_RETRY_MS = 600_000  # what a person must put right; a receiver that is started anew is asked at once
MAX_ALARMS = 10_000
MAX_RELAYED = 100_000  # sessions of relays at once


@dataclass(slots=True)
class Replies:
    """Answers to one peer, collected over a group."""

    acked: list[m.Number] = field(default_factory=list)
    later: list[m.Number] = field(default_factory=list)
    conflicts: list[m.Number] = field(default_factory=list)
    refused: dict[str, list[m.Number]] = field(default_factory=lambda: defaultdict(list))
    missing_ids: set[bytes] = field(default_factory=set)
    missing: list[m.Number] = field(default_factory=list)
    gaps: list[m.Number] = field(default_factory=list)
    held: list[m.Number] = field(default_factory=list)  # of epochs beyond a day's number
    other_policy: list[m.Number] = field(default_factory=list)
    first: list[m.Message] = field(default_factory=list)

    def messages(self) -> list[m.Message]:
        """Return the messages to be sent, in an order that lets the agent act on the first at once."""
        out = list(self.first)
        out += [m.NeedSchema(sorted(self.missing_ids), self.missing)] if self.missing else []
        out += [m.Ack(part) for part in _parts(self.acked)]
        out += [m.Conflict(part) for part in _parts(self.conflicts)]
        out += [m.Permanent(part, reason) for reason, all_ in self.refused.items() for part in _parts(all_)]
        out += [m.RetryLater(part, RETRY_MS) for part in _parts(self.later)]
        out += [m.RetryLater(part, EPOCH_RETRY_MS) for part in _parts(self.held)]
        out += [m.RetryLater(part, POLICY_RETRY_MS) for part in _parts(self.other_policy)]
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
    checkpoints: list[tuple[bytes, str, m.Checkpoint]] = field(default_factory=list)
    nbytes: int = (
        0  # of its batches as they are in memory: a hundred bytes of a message may be 200 MB of columns
    )

    def add_batch(self, peer: bytes, batch: Incoming) -> None:
        """Add a batch that came from `peer`."""
        self.work.batches.append(batch)
        self.batch_peers.append(peer)
        self.nbytes += len(batch.data) + (batch.block.nbytes if batch.block is not None else 0)

    def add_gaps(self, peer: bytes, gateway: str, gaps: Sequence[m.Gap]) -> None:
        """Add gaps that came from `peer`."""
        self.work.gaps += [(gateway, gap) for gap in gaps]
        self.gap_peers += [peer] * len(gaps)


@dataclass(slots=True)
class Heard:
    """What came from a gateway since the start."""

    last_ns: int
    agent: str = ""
    batches: int = 0


class Allowed(Protocol):
    """Who is enrolled."""

    def has(self, gateway: str) -> bool:
        """Return whether a gateway is enrolled now."""

    def signing_key(self, gateway: str) -> bytes | None:
        """Return the key that a gateway signs with."""

    def speaks_for(self, relay: str, gateway: str) -> bool:
        """Return whether a relay may hand on a gateway's data."""


class Desk:
    """Takes messages into groups and settles a group in one transaction a sink. One thread only."""

    def __init__(
        self,
        center: str,
        window: int,
        allowed: Allowed,
        sinks: Sequence[Sink],
        clock: Clock,
        limits: Limits | None = None,
        key: SecretKey | None = None,
        require_policy: Sequence[str] = (),
    ) -> None:
        self._key = key  # opens what was locked for the center
        self._center, self._window = center, window
        self._allowed, self._sinks, self._clock = allowed, sinks, clock
        self._bodies = Bodies(self._load_body)
        self._epochs = EpochGate(limits or Limits())
        self.stored_batches = self.held_batches = 0
        self.heard: dict[str, Heard] = {}  # by gateway; only enrolled ones, so it is bounded
        self._required = tuple(require_policy)
        self._origins: OrderedDict[tuple[bytes, str], str] = (
            OrderedDict()
        )  # sessions of relays: whom they speak for
        self._alarmed: set[tuple[str, str]] = set()  # (gateway, policy hash) told of in the log

    def _load_body(self, key: bytes) -> bytes | None:
        return next((body for sink in self._sinks if (body := sink.body(key)) is not None), None)

    def take(self, peer: bytes, user: str, frames: Sequence[Callable[[], bytes]], group: Group) -> None:
        """Take one message; `user` is whose key it came under. `frames` are read when needed, and only then."""
        replies = group.replies[peer]
        gateway = self._origins.get((peer, user), user)
        if not self._allowed.has(user) or (gateway != user and not self._allowed.speaks_for(user, gateway)):
            # Revoking a key does not cut a live session: each message is looked at.
            replies.first.append(m.Refused("this gateway is not enrolled any more"))
            return
        self.heard.setdefault(gateway, Heard(0)).last_ns = self._clock.monotonic_ns()
        try:
            if len(frames) not in (1, 2):
                raise WireError(f"expected one or two frames, found {len(frames)}")
            head = frames[0]()
            message = m.decode(head)
            match message:
                case m.Hello():
                    gateway = self._origin(peer, user, message.gateway)
                    replies.first.append(self._welcome(gateway, message))
                case m.Bodies(bodies):
                    for body in bodies:
                        self._bodies.add(body)
                case m.Batch() if len(frames) == 2:
                    self._take_batch(peer, gateway, message, (len(head), frames[1]()), group)
                case m.Gaps(gaps):
                    group.add_gaps(peer, gateway, gaps)
                case m.Checkpoint():
                    group.checkpoints.append((peer, gateway, message))
                case _:
                    raise WireError("expected an agent's message")
        except WireError as error:
            log.warning("a message that cannot be read gateway=%s reason=%s", gateway, error.message)
            replies.first.append(m.UpgradeNeeded([m.PROTOCOL]))
        except ForebayError as error:
            log.error("a sink cannot be asked now gateway=%s: %s", gateway, error)
            if isinstance(message, m.Batch):
                replies.later.append((message.epoch, message.seq))
            # Nothing else is answered: the agent comes again, later each time.

    def _origin(self, peer: bytes, user: str, named: str) -> str:
        """Return whose data a session brings: the key's owner's, or of a gateway that this relay may speak for."""
        self._origins.pop((peer, user), None)
        if named == user or not self._allowed.speaks_for(user, named):
            return user
        self._origins[peer, user] = named
        if (
            len(self._origins) > MAX_RELAYED
        ):  # the oldest session; its relay is refused once and says hello again
            self._origins.popitem(last=False)
        self.heard.setdefault(named, Heard(0)).last_ns = self._clock.monotonic_ns()
        return named

    def settle(self, group: Group) -> None:
        """Store what a group holds and complete its replies."""
        if group.work.batches or group.work.gaps:
            stored = self._store(group.work)
            self._answer_for(group, stored=stored)
        for peer, gateway, message in group.checkpoints:
            self._take_checkpoint(gateway, message, group.replies[peer])

    def _answer_for(self, group: Group, *, stored: bool) -> None:
        for peer, batch in zip(group.batch_peers, group.work.batches, strict=True):
            _note(group.replies[peer], batch)
        for peer, (gateway, gap) in zip(group.gap_peers, group.work.gaps, strict=True):
            if stored and all(sink.closed(gateway, gap) for sink in self._sinks):
                group.replies[peer].gaps.append((gap.epoch, gap.seq_from))

    def _welcome(self, gateway: str, hello: m.Hello) -> m.Message:
        if hello.gateway != gateway:
            log.error("a gateway gave another name than its key's key=%s", gateway)
            return m.Refused("the gateway id is not the one that this key is enrolled for")
        if hello.protocol != m.PROTOCOL:
            return m.UpgradeNeeded([m.PROTOCOL])
        of_sinks = [sink.marks(gateway, list(hello.epochs)) for sink in self._sinks]
        marks = {epoch: common(of[epoch] for of in of_sinks) for epoch in hello.epochs}
        store = "+".join(sorted(sink.store_id for sink in self._sinks))
        log.info("gateway connected gateway=%s agent=%s", gateway, hello.agent)
        self.heard[gateway].agent = hello.agent
        return m.Welcome(
            m.PROTOCOL,
            self._center,
            store,
            self._window,
            MAX_BATCH_BYTES,
            {epoch: of.mark for epoch, of in marks.items()},
            {epoch: of.above for epoch, of in marks.items()},
            common_positions(sink.positions(gateway) for sink in self._sinks) if hello.asks else None,
        )

    def _take_batch(
        self, peer: bytes, gateway: str, head: m.Batch, frames: tuple[int, bytes], group: Group
    ) -> None:
        number, reply = (head.epoch, head.seq), group.replies[peer]
        head_bytes, data = frames
        if not self._admits(gateway, head.epoch):
            reply.held.append(number)
            return
        try:
            batch = read_batch(head, data, head_bytes + len(data), self._bodies, self._key)
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
            if not policy_accepted(batch.context, self._required):
                self._hold(batch)
                reply.other_policy.append(number)
                return
            group.add_batch(peer, batch)

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

    def _admits(self, gateway: str, epoch: int) -> bool:
        if not self._epochs.knows(gateway):
            self._epochs.learn(gateway, set().union(*(sink.epochs(gateway) for sink in self._sinks)))
        admitted = self._epochs.admits(gateway, epoch, self._clock.monotonic_ns())
        if not admitted:
            log.error("a gateway begins more epochs than a day may have: it must wait gateway=%s", gateway)
        return admitted

    def _store(self, work: Work) -> bool:
        """Store into every sink; a batch's verdict is the worst of theirs. False if one could not."""
        work.received_at = self._clock.wall_ns()
        worst: list[Verdict | None] = [None] * len(work.batches)
        for sink in self._sinks:
            try:
                sink.store(work)
            except ForebayError as error:
                log.error("nothing is acknowledged, agents keep their data: %s", error)
                for batch in work.batches:
                    batch.verdict = Verdict.TOO_FAR
                return False
            worst = [_worse(w, b.verdict) for w, b in zip(worst, work.batches, strict=True)]
        for batch, verdict in zip(work.batches, worst, strict=True):
            batch.verdict = verdict
            if verdict is Verdict.STORED and batch.gateway in self.heard:
                self.heard[batch.gateway].batches += 1
        self.stored_batches += sum(v is Verdict.STORED for v in worst)
        return True

    def _take_checkpoint(self, gateway: str, message: m.Checkpoint, replies: Replies) -> None:
        """Compare a checkpoint with each sink, keep it there with what was found, and answer."""
        key = self._allowed.signing_key(gateway)
        now = self._clock.wall_ns()
        try:
            found = [examine(gateway, key, message, sink) for sink in self._sinks]
            for sink, kept in zip(self._sinks, found, strict=True):
                sink.keep_checkpoint(kept, now)
        except ForebayError as error:
            log.error("a checkpoint is not acknowledged, the agent sends it again: %s", error)
            return
        for kept in found:
            tell(kept)
        worst = next((kept for kept in found if kept.verdict != "ok"), found[0])
        replies.first.append(m.CheckpointAck(worst.digest, worst.verdict.value))


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
