"""The audit log of masking: a chain of entries that say which rule was applied how often, never to what.

An entry covers up to a minute of one pipeline under one policy and ends with the run. Its hash is SHA-256 over the
hash of the entry before it, its number and its text:

    hash(n) = SHA-256("forebay audit v1" || hash(n - 1) || n as 8 bytes, big-endian || text)

so that an entry that was changed, taken out or put in shows, and so does everything after it. That the newest
entries were cut off shows only against an anchor kept elsewhere: number and hash of an entry that was once the
newest (`forebay audit head`, or a checkpoint that the gateway signed).

The text is a JSON object: `gateway`, `agent`, `boot`, `owner` (source/pipeline), `policy`, `policy_hash`,
`key_id`, `since` and `until` ([wall ns, monotonic ns]), `batches` (how many, with their first and last number in
each epoch) and `hits` (stream, field, rule, count).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from forebay.clock import Clock
from forebay.stages import AuditNote, Tally

START = bytes(32)
"""Hash before the first entry."""

_DOMAIN = b"forebay audit v1"


class Entry(NamedTuple):
    """An entry as stored."""

    n: int
    text: str
    hash: bytes


class Head(NamedTuple):
    """Number and hash of an entry: where a chain stood."""

    n: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.n}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read what `str` wrote. Raises ValueError."""
        number, _, code = text.strip().partition(":")
        digest = bytes.fromhex(code)
        if not number.isdigit() or len(digest) != len(START):
            raise ValueError("expected NUMBER:HASH as `forebay audit head` prints it")
        return cls(int(number), digest)


def chained(before: bytes, n: int, text: str) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(_DOMAIN + before + n.to_bytes(8, "big") + text.encode()).digest()


@dataclass(slots=True)
class Verdict:
    """What verifying a chain found. `problems` is empty for a good one."""

    entries: int = 0
    first: int = 0
    head: Head = field(default_factory=lambda: Head(0, START))
    problems: list[str] = field(default_factory=list)
    anchor: str = "none given"


def verify(
    entries: Iterable[Entry],
    pruned: Sequence[Head] = (),
    anchor: Head | None = None,
    *,
    is_used: bool = False,
) -> Verdict:
    """Follow a chain from its oldest kept entry to its newest.

    Parameters
    ----------
    entries : in order
    pruned : heads of older parts that were deleted to keep the log bounded, oldest first
    anchor : where the chain once stood, from outside
    is_used : something was masked and its entry closed, so that an empty chain is none
    """
    before = pruned[-1] if pruned else Head(0, START)
    verdict = Verdict(head=before)
    passed = {head.n: head.hash for head in pruned}
    for entry in entries:
        verdict.first = verdict.first or entry.n
        if not isinstance(entry.text, str) or not isinstance(entry.hash, bytes):
            verdict.problems.append(f"entry {entry.n} is no text with a hash")
            entry = Entry(entry.n, "", b"")  # what follows is compared with nothing, and shows as well
        elif entry.n != before.n + 1:
            first, last = before.n + 1, entry.n - 1
            verdict.problems.append(
                f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
            )
        elif chained(before.hash, entry.n, entry.text) != entry.hash:
            verdict.problems.append(f"entry {entry.n} or the hash before it was changed")
        before = Head(entry.n, entry.hash)
        passed[entry.n] = entry.hash
        verdict.entries += 1
    verdict.head = before
    if is_used and before.n == 0:
        verdict.problems.append("there are no entries, though the spool was masked for: they were taken out")
    if anchor is not None:
        verdict.anchor = _compare(anchor, before, passed, verdict.problems)
    return verdict


def _compare(anchor: Head, head: Head, passed: dict[int, bytes], problems: list[str]) -> str:
    if anchor.n == 0:
        return "the empty chain"
    if anchor.n > head.n:
        problems.append(f"the newest entries are gone: the anchor is {anchor.n}, the log ends with {head.n}")
        return "beyond the end"
    if anchor.n not in passed:
        return f"entry {anchor.n} was deleted by rotation: take a newer anchor"
    if passed[anchor.n] != anchor.hash:
        problems.append(f"entry {anchor.n} is not the one of the anchor: the chain was written anew")
        return "differs"
    return f"holds at entry {anchor.n}"


class Auditor:
    """Makes the notes of one pipeline: called by its worker for each commit.

    Parameters
    ----------
    facts : gateway, agent, boot, policy, policy_hash, key_id: who masks, and under what
    tallies : functions that return and forget the hits since the last call (masker, guard)
    """

    def __init__(self, facts: dict[str, str], tallies: Sequence[Callable[[], Tally]], clock: Clock) -> None:
        self._facts, self._tallies, self._clock = facts, tallies, clock

    def note(self) -> AuditNote:
        """Return what was masked since the last call."""
        hits: Tally = Counter()
        for take in self._tallies:
            hits.update(take())
        return AuditNote(self._facts, hits, self._clock.wall_ns(), self._clock.monotonic_ns())


@dataclass(slots=True)
class Summary:
    """Entries of a time range, added up."""

    entries: int = 0
    unreadable: int = 0
    batches: int = 0
    first_wall_ns: int = 0
    last_wall_ns: int = 0
    policies: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # name, hash, key id: entries
    gateways: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)
    hits: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # stream, field, rule


def summarise(texts: Iterable[str], since_ns: int = 0, until_ns: int = 2**63 - 1) -> Summary:
    """Add up the entries whose time overlaps [since_ns, until_ns), by the gateway's wall clock.

    Entries that somebody changed may be anything: what is none is counted and left out, for `verify` to tell of.
    """
    out = Summary()
    for text in texts:
        try:
            body = json.loads(text)
            first, last = int(body["since"][0]), int(body["until"][0])
            batches = int(body["batches"]["count"])
            policy = str(body["policy"]), str(body["policy_hash"]), str(body["key_id"])
            gateway, agent = str(body["gateway"]), str(body["agent"])
            hits = [(str(stream), str(name), str(rule), int(n)) for stream, name, rule, n in body["hits"]]
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            out.unreadable += 1
            continue
        if last < since_ns or first >= until_ns:
            continue
        out.entries += 1
        out.batches += batches
        out.first_wall_ns = min(first, out.first_wall_ns or first)
        out.last_wall_ns = max(last, out.last_wall_ns)
        out.policies[policy] += 1
        out.gateways.add(gateway)
        out.agents.add(agent)
        for stream, name, rule, count in hits:
            out.hits[stream, name, rule] += count
    return out
