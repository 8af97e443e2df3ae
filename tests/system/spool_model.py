"""A spool that is filled, hurt and opened again, and an account of it that shares no code with the product's books.

`Account` notes what was committed and acknowledged. `examine` opens a hurt spool as the agent does, delivers what is
in it to a receiver that is a dictionary, and returns where each reading went.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from forebay.blocks import Lane
from forebay.errors import SpoolError
from forebay.spool import Limits, Spool
from forebay.spool.claims import Claims
from forebay.spool.reader import equations_hold
from forebay.spool.recovery import write_copy
from forebay.spool.store import Answers, Store
from forebay.stages import Commit, Sealed
from forebay.wire.envelope import content_tag

MIB = 1024 * 1024
SCHEMA, CONTEXT = b"schema01", b"context1"
STREAMS = ("pump", "valve")
OWNER = "source/pump"
LANES = (Lane.NORMAL, Lane.NORMAL, Lane.URGENT, Lane.BULK)


def make_batch(number: int, rng: random.Random, size: int = 3000) -> Sealed:
    """Return a batch whose bytes begin with its number."""
    data = number.to_bytes(8, "big") + rng.randbytes(rng.randrange(20, 2 * size))
    stream = STREAMS[number % 2]
    readings = rng.randrange(1, 50)
    return Sealed(
        stream,
        rng.choice(LANES),
        data,
        content_tag(data),
        10,
        readings,
        number,
        number + 9,
        (SCHEMA, CONTEXT),
    )


def make_commit(batches: list[Sealed], position: int) -> Commit:
    ledger: Counter[tuple[str, str, str]] = Counter()
    for b in batches:
        ledger[b.stream, "read", ""] += b.readings
        ledger[b.stream, "accepted", ""] += b.readings
    bodies = {SCHEMA: b"the schema", CONTEXT: b"the context"}
    return Commit(OWNER, batches, bodies, ledger, b"%d" % position, {"0.window": b"state %d" % position})


@dataclass
class Account:
    """What the test itself knows: readings by the number that each batch's bytes begin with.

    `at_center`: epochs and numbers of the acknowledged ones; a center takes no gap for what it has.
    """

    accepted: dict[int, Sealed] = field(default_factory=dict)
    acked: set[int] = field(default_factory=set)
    at_center: set[tuple[int, int]] = field(default_factory=set)
    commit_of: dict[int, int] = field(default_factory=dict)
    commits: int = 0

    def readings(self, numbers) -> int:
        return sum(self.accepted[n].readings for n in numbers)


def fill(
    folder: Path,
    seed: int,
    *,
    commits: int = 60,
    acks: float = 0.3,
    limits: Limits | None = None,
    killed: bool = True,
    index: bool = False,
) -> Account:
    """Fill a spool and leave it as kill -9 leaves it, files and log of a writer that did not end;
    or as after a clean end. `index`: with the log's index, which a power cut does not leave as it was."""
    rng = random.Random(seed)
    account = Account()
    live = folder.with_name(folder.name + "-live")
    live.mkdir(parents=True)
    limits = limits or Limits(64 * MIB, segment_bytes=150_000)
    store = Store(live / "segment-000001.db", sync="full", claims=Claims(), limits=limits)
    number = 0
    for place in range(commits):
        batches = []
        for _ in range(rng.randrange(1, 4)):
            batches.append(make_batch(number, rng))
            number += 1
        answers = Answers()
        if rng.random() < acks:
            waiting = [v for lane in ("urgent", "normal", "bulk") for v in store.room._lane(lane)]
            for segment, head, _ in waiting[: rng.randrange(1, 4)]:
                answers.acked.append(head.id)
                account.at_center.add((head.epoch, head.seq))
                account.acked.add(int.from_bytes(store.data_of(segment, head.id)[:8], "big"))
        store.apply([make_commit(batches, place + 1)], answers)
        account.accepted |= {int.from_bytes(b.data[:8], "big"): b for b in batches}
        account.commits += 1
        account.commit_of |= {int.from_bytes(b.data[:8], "big"): account.commits for b in batches}
        if place == commits // 2:
            store.checkpoint_aside()
    if not killed:
        write_copy(store)
        store.close()
    shutil.copytree(live, folder, ignore=None if index else shutil.ignore_patterns("*-shm"))
    store.close()
    return account


@dataclass
class Outcome:
    """Where the readings went."""

    open_s: float
    open_cpu_s: float
    delivered: set[int]
    told: int  # readings in gap records that a center takes
    position: bytes | None
    positions_lost: bool
    ledger: dict
    gaps: list


NEW = 10_000_000


def examine(folder: Path, account: Account, limits: Limits | None = None) -> Outcome:
    """Open a hurt spool, commit to it at once, deliver everything, and check what must hold whatever was hurt."""
    begun, cpu = time.monotonic(), time.process_time()
    limits = limits or Limits(64 * MIB, segment_bytes=150_000)
    spool = Spool.open(folder, sync="full", limits=limits, on_stored=lambda: None)
    position = spool.store.progress(OWNER).get("")
    spool.writer.start()
    fresh = make_batch(NEW, random.Random(NEW))
    spool.writer.submit(make_commit([fresh], account.commits + 1))
    assert spool.writer.wait_below(OWNER, 1, 20), spool.writer.condition
    open_s, open_cpu_s = time.monotonic() - begun, time.process_time() - cpu
    delivered: dict[int, bytes] = {}
    reader = spool.reader()
    deadline = (
        time.monotonic() + 300
    )  # salvage is a process of its own: on a loaded machine its start alone takes long
    seen_numbers = {}
    while not idle(spool, reader):
        assert time.monotonic() < deadline, (
            spool.store.segments,
            spool.store.waiting,
            spool.writer.condition,
        )
        acked, dead = [], []
        for lane in ("urgent", "normal", "bulk"):
            try:
                rows = reader.pending(lane, -1, 1000)
            except SpoolError:  # the forwarder goes on as well
                rows = []
            for b in rows:
                if content_tag(b.data) != b.tag:
                    dead.append((b.id, "quarantined", "damaged"))
                    continue
                number = int.from_bytes(b.data[:8], "big")
                assert delivered.setdefault(number, b.data) == b.data
                assert seen_numbers.setdefault((b.epoch, b.seq), number) == number, "one number, two batches"
                acked.append(b.id)
        if acked or dead:
            spool.writer.answer(acked=acked, dead=dead)
        else:
            with contextlib.suppress(SpoolError):  # as the forwarder does when it is idle
                reader.look_for_hidden()
        time.sleep(0.02)
    ledger, gaps = reader.ledger(), reader.gaps(100_000)
    reader.close()
    lost = spool.recovery.positions_lost
    assert spool.close()
    assert delivered.pop(NEW) == fresh.data
    for number, data in delivered.items():
        assert data == account.accepted[number].data
    for entry in ledger.values():
        assert equations_hold(entry), entry
        assert entry["pending"] == 0
    told = sum(g.readings for g in gaps if not closed(g, account.at_center))
    return Outcome(open_s, open_cpu_s, set(delivered), told, position, lost, ledger, gaps)


def closed(gap, at_center: set[tuple[int, int]]) -> bool:
    """Return whether a center has all of a gap's numbers."""
    return all((gap.epoch, seq) in at_center for seq in range(gap.seq_from, gap.seq_to + 1))


def idle(spool: Spool, reader) -> bool:
    """Return whether nothing waits and nothing is being examined."""
    busy = any(s[2] == "damaged" for s in list(spool.store.segments.values()))
    return not busy and not spool.store.waiting


def check(outcome: Outcome, account: Account) -> None:
    """Assert that every accepted reading was delivered before or now, or is told as lost, exactly.

    Damage in the last transaction of a log looks as if it had never ended: then it did not, the source's position
    included, and the source sends its rows again.
    """
    there = int(outcome.position) if outcome.position is not None else account.commits
    assert there >= account.commits - 1, "more than the last transaction is undone"
    known = {n for n in account.accepted if account.commit_of[n] <= there}
    arrived = account.acked | outcome.delivered
    lost = account.readings(known - arrived)
    assert outcome.told == lost, f"told {outcome.told} lost {lost}: {outcome.gaps}"
    accepted = sum(e["accepted"] for e in outcome.ledger.values())
    assert accepted - make_batch(NEW, random.Random(NEW)).readings == account.readings(known)
    assert outcome.positions_lost or outcome.position is not None


def judge(outcome: Outcome, account: Account) -> str:
    """Return how the readings told as lost compare with those that are, by the test's own count.

    `exact`; or `uncounted`, where a gap says of a stream that more may be lost than is told; more than that never is.
    """
    lost, told = Counter[str](), Counter[str]()
    for number in account.accepted.keys() - account.acked - outcome.delivered:
        lost[account.accepted[number].stream] += account.accepted[number].readings
    for gap in outcome.gaps:
        told[gap.stream] += 0 if closed(gap, account.at_center) else gap.readings
    uncounted = {gap.stream for gap in outcome.gaps if gap.cause == "damaged_uncounted"}
    for stream in STREAMS:
        is_covered = stream in uncounted and told[stream] <= lost[stream]
        assert told[stream] == lost[stream] or is_covered, f"{stream}: {told} told, {lost} lost"
    return "uncounted" if uncounted else "exact"
