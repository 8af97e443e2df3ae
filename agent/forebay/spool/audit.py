"""The audit log in the spool's own file: an entry moves in the transaction of the batches that it speaks of.

    audit_open    by context (pipeline, boot, policy): what the next entry will say; grows for up to a minute
    audit_entry   the chain: number, text, hash. Never changed
    audit_pruned  number and hash of the last entry of each part that was deleted to keep the log bounded
    audit_seen    the context in which each pipeline was last seen, so that a new one is always told

After a crash the transaction says what happened: what was not committed was masked in vain, is replayed, and is
counted then. What is open becomes entries when the spool is closed; what a crash left open does when it is opened
again, before anything else is written.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebay.audit import START, Entry, Head, chained
from forebay.errors import SpoolError
from forebay.spool.schema import connect
from forebay.stages import AuditNote

log = logging.getLogger("forebay.spool")

ENTRY_NS = 60_000_000_000  # an entry covers at most this
MAX_ENTRIES = 10_000  # about 5 MB, a week of one pipeline with hits in each minute
PRUNE_AT_ONCE = 1_000
_MAX_PRUNED = 1_000
_MAX_OPEN_HITS = 500  # different (stream, field, rule) in an entry; with more it is closed at once

_TABLES = (
    "CREATE TABLE IF NOT EXISTS audit_open (context TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS audit_entry (n INTEGER PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS audit_pruned (n INTEGER PRIMARY KEY, hash BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS audit_seen (owner TEXT PRIMARY KEY, context TEXT NOT NULL) WITHOUT ROWID",
)


_WIDTHS = {"audit_open": 2, "audit_entry": 3, "audit_pruned": 2, "audit_seen": 2}


def prepare(db: sqlite3.Connection) -> None:
    """Create the tables where they are missing."""
    for statement in _TABLES:
        db.execute(statement)


@dataclass(slots=True)
class _Open:
    """What an entry will say, as far as it is known."""

    facts: dict[str, Any]
    since: list[int]  # wall and monotonic ns
    until: list[int]
    batches: int = 0
    epochs: dict[str, list[int]] = field(default_factory=dict)  # lowest and highest number
    hits: dict[tuple[str, str, str], int] = field(default_factory=dict)

    @classmethod
    def parse(cls, context: str, text: str) -> _Open:
        """Read a row of audit_open. Raises ValueError, KeyError, TypeError, IndexError."""
        body = json.loads(text)
        hits = {(stream, name, rule): count for stream, name, rule, count in body["hits"]}
        batches = body["batches"]
        made = cls(
            json.loads(context), body["since"], body["until"], batches["count"], batches["epochs"], hits
        )
        (_, _), (_, _) = map(int, made.since), map(int, made.until)
        _ = made.facts["boot"], made.facts["owner"], made.batches + sum(hits.values())
        _ = sum(low + high for low, high in made.epochs.values())
        return made

    def body(self) -> dict[str, Any]:
        """Return it as it is written down."""
        return {
            "since": self.since,
            "until": self.until,
            "batches": {"count": self.batches, "epochs": self.epochs},
            "hits": [[*key, count] for key, count in sorted(self.hits.items())],
        }

    def merge(self, note: AuditNote, numbers: Sequence[tuple[int, int]]) -> None:
        """Add what a commit says."""
        self.until = [note.wall_ns, note.monotonic_ns]
        self.batches += len(numbers)
        for epoch, seq in numbers:
            low, high = self.epochs.get(str(epoch), (seq, seq))
            self.epochs[str(epoch)] = [min(low, seq), max(high, seq)]
        for key, count in note.hits.items():
            self.hits[key] = self.hits.get(key, 0) + count


class Log:
    """The log as the writer keeps it: what is open is in memory, and on disk as of the last transaction."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._contexts: dict[str, tuple[dict[str, str], str]] = {}
        self._seen: dict[str, str] = {}
        prepare(db)
        self._load()

    def forget(self) -> None:
        """Take over what is on disk: after a transaction that did not take place, or what others wrote."""
        self._is_loaded = False

    def _load(self) -> None:
        self._open, self._unreadable = _opened(self._db)
        self._seen = dict(self._db.execute("SELECT owner, context FROM audit_seen"))
        self._changed: set[str] = set()
        self._due_ns = 0
        self._is_loaded = True

    def add(self, note: AuditNote, owner: str, numbers: Sequence[tuple[int, int]]) -> None:
        """Add what a commit says, within its transaction; `write` ends it.

        Parameters
        ----------
        note : what masking did
        owner : `source/pipeline`
        numbers : (epoch, seq) of the commit's batches
        """
        if not self._is_loaded:
            self._load()
        context = self._context(note, owner)
        is_seen = self._seen.get(owner) == context
        if not is_seen or note.monotonic_ns >= self._due_ns:
            self._close_due(note)
        if not note.hits and is_seen and not self._unreadable and context not in self._open:
            return
        now = [note.wall_ns, note.monotonic_ns]
        entry = self._open.setdefault(context, _Open({**note.facts, "owner": owner}, now, now))
        entry.merge(note, numbers)
        if self._unreadable:
            damaged = ("", "", "audit:damaged")
            entry.hits[damaged] = entry.hits.get(damaged, 0) + len(self._unreadable)
            self._delete(self._unreadable)
            self._unreadable = []
        if len(entry.hits) > _MAX_OPEN_HITS:
            self._close(context)
        else:
            self._changed.add(context)
        if not is_seen:
            self._db.execute("INSERT OR REPLACE INTO audit_seen VALUES (?, ?)", (owner, context))
            self._seen[owner] = context

    def write(self) -> None:
        """Write down what has changed: once a transaction, however many commits it holds."""
        if self._is_loaded and self._changed:
            rows = [(name, _dump(self._open[name].body())) for name in self._changed]
            self._db.executemany("INSERT OR REPLACE INTO audit_open VALUES (?, ?)", rows)
            self._changed.clear()

    def has_open(self) -> bool:
        """Return whether something waits to become an entry."""
        if not self._is_loaded:
            self._load()
        return bool(self._open)

    def close_open(self) -> None:
        """Make entries of all that is open: nobody adds to it any more. Within a transaction of the caller.

        Counts that are damaged stay where they are: the next commit tells of them.
        """
        for name in sorted(self._open, key=lambda name: self._open[name].until):
            self._close(name)

    def _context(self, note: AuditNote, owner: str) -> str:
        facts, context = self._contexts.get(owner, ({}, ""))
        if facts != note.facts:
            context = json.dumps({**note.facts, "owner": owner}, sort_keys=True, ensure_ascii=False)
            self._contexts[owner] = (note.facts, context)
        return context

    def _close_due(self, note: AuditNote) -> None:
        for name, entry in list(self._open.items()):
            other_boot = entry.facts["boot"] != note.facts["boot"]
            if other_boot or note.monotonic_ns - int(entry.since[1]) >= ENTRY_NS:
                self._close(name)
        oldest = min((int(entry.since[1]) for entry in self._open.values()), default=note.monotonic_ns)
        self._due_ns = oldest + ENTRY_NS

    def _close(self, context: str) -> None:
        entry = self._open.pop(context)
        self._changed.discard(context)
        text = _dump({**entry.facts, **entry.body()})
        head = _head(self._db)
        n = head.n + 1
        self._db.execute("INSERT INTO audit_entry VALUES (?, ?, ?)", (n, text, chained(head.hash, n, text)))
        self._delete([context])
        _prune(self._db)

    def _delete(self, contexts: Sequence[str]) -> None:
        self._db.executemany("DELETE FROM audit_open WHERE context = ?", [(name,) for name in contexts])


def _opened(db: Any) -> tuple[dict[str, _Open], list[str]]:
    """Return what is open, by context, and the contexts of which it cannot be read."""
    out: dict[str, _Open] = {}
    unreadable: list[str] = []
    for name, text in db.execute("SELECT context, body FROM audit_open"):
        try:
            out[name] = _Open.parse(name, text)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            # a flipped bit must not stop the spool: the loss is logged and becomes part of the chain
            log.error("counts of the audit log are damaged on disk; up to a minute of them is lost")
            unreadable.append(name)
    return out, unreadable


def carry(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy the log into a new segment, which goes on with the chain. Both in transactions of the caller."""
    prepare(target)
    for name, width in _WIDTHS.items():
        marks = ", ".join("?" * width)
        rows = source.execute(f"SELECT * FROM {name}")  # a name of our own
        target.executemany(f"INSERT OR REPLACE INTO {name} VALUES ({marks})", rows)


def _prune(db: sqlite3.Connection) -> None:
    first, last = db.execute("SELECT min(n), max(n) FROM audit_entry").fetchone()
    if last - first < MAX_ENTRIES:
        return
    keep_from = first + PRUNE_AT_ONCE
    db.execute("INSERT INTO audit_pruned SELECT n, hash FROM audit_entry WHERE n = ?", (keep_from - 1,))
    db.execute("DELETE FROM audit_entry WHERE n < ?", (keep_from,))
    db.execute(
        "DELETE FROM audit_pruned WHERE n NOT IN (SELECT n FROM audit_pruned ORDER BY n DESC LIMIT ?)",
        (_MAX_PRUNED,),
    )


def _head(db: sqlite3.Connection) -> Head:
    row = db.execute("SELECT n, hash FROM audit_entry ORDER BY n DESC LIMIT 1").fetchone()
    if row is None:
        row = db.execute("SELECT n, hash FROM audit_pruned ORDER BY n DESC LIMIT 1").fetchone()
    return Head(*row) if row else Head(0, START)


def _dump(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class AuditReader:
    """Reads the audit log of one segment; the agent may run meanwhile.

    Raises
    ------
    SpoolError
        The file is none of a spool, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def head(self) -> Head:
        """Return where the chain stands."""
        with closing(self._connect()) as db:
            return _head(db) if self._exists(db) else Head(0, START)

    def pruned(self) -> list[Head]:
        """Return the heads of the parts that were deleted, oldest first."""
        return [Head(*row) for row in self._rows("SELECT n, hash FROM audit_pruned ORDER BY n")]

    def entries(self) -> Iterator[Entry]:
        """Yield the entries of the chain, oldest first."""
        yield from (Entry(*row) for row in self._rows("SELECT n, body, hash FROM audit_entry ORDER BY n"))

    def open_texts(self) -> Iterator[str]:
        """Yield what will be an entry within a minute or at the stop, in the form of entries."""
        for context, body in self._rows("SELECT context, body FROM audit_open"):
            try:
                yield _dump({**json.loads(context), **json.loads(body)})
            except (ValueError, TypeError):
                yield ""  # damaged: whoever adds up counts it

    def is_used(self) -> bool:
        """Return whether some pipeline's masking was told of, and nothing of it is open: then there are entries."""
        with closing(self._connect()) as db:
            try:
                seen, left = db.execute(
                    "SELECT EXISTS (SELECT 1 FROM audit_seen), EXISTS (SELECT 1 FROM audit_open)"
                ).fetchone()
            except sqlite3.Error:
                return False  # a spool that was never masked for
            return bool(seen and not left)

    def _connect(self) -> Any:
        try:
            return connect(self.path, read_only=True)
        except sqlite3.Error as error:
            raise SpoolError(f"cannot open it: {error.sqlite_errorname}", place=str(self.path)) from None

    def _exists(self, db: sqlite3.Connection) -> bool:
        return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit_entry'").fetchone() is not None

    def _rows(self, statement: str) -> Iterator[Any]:
        with closing(self._connect()) as db:
            try:
                if self._exists(db):
                    yield from db.execute(statement)
            except sqlite3.Error as error:
                raise SpoolError(f"cannot read it: {error.sqlite_errorname}", place=str(self.path)) from None
