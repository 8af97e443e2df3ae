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


def add(db: sqlite3.Connection, note: AuditNote, owner: str, numbers: Sequence[tuple[int, int]]) -> None:
    """Add what a commit says, within its transaction.

    Parameters
    ----------
    db : in a transaction
    note : what masking did
    owner : `source/pipeline`
    numbers : (epoch, seq) of the commit's batches
    """
    context = json.dumps({**note.facts, "owner": owner}, sort_keys=True, ensure_ascii=False)
    open_, lost = _opened(db)
    for name in [name for name, body in open_.items() if _is_due(body, json.loads(name), note)]:
        _close(db, name, open_.pop(name))
    seen = _seen(db, owner) == context
    if not note.hits and seen and not lost and context not in open_:
        return
    body = open_.get(context) or _new(note)
    _merge(body, note, numbers)
    if lost:
        body["hits"].append(["", "", "audit:damaged", lost])
    if len(body["hits"]) > _MAX_OPEN_HITS:
        _close(db, context, body)
    else:
        db.execute("INSERT OR REPLACE INTO audit_open VALUES (?, ?)", (context, _dump(body)))
    if not seen:
        db.execute("INSERT OR REPLACE INTO audit_seen VALUES (?, ?)", (owner, context))


def has_open(db: sqlite3.Connection) -> bool:
    """Return whether something waits to become an entry."""
    return db.execute("SELECT 1 FROM audit_open LIMIT 1").fetchone() is not None


def close_open(db: sqlite3.Connection) -> None:
    """Make entries of all that is open: nobody adds to it any more. Within a transaction of the caller.

    Counts that are damaged stay where they are: the next commit tells of them.
    """
    rows = db.execute("SELECT context, body FROM audit_open").fetchall()
    known = [(name, body) for name, text in rows if (body := _read(name, text)) is not None]
    for name, body in sorted(known, key=lambda one: one[1]["until"]):
        _close(db, name, body)


def _opened(db: sqlite3.Connection) -> tuple[dict[str, dict[str, Any]], int]:
    """Return what is open, by context, and how much of it cannot be read and was given up."""
    out: dict[str, dict[str, Any]] = {}
    lost = 0
    for name, text in db.execute("SELECT context, body FROM audit_open").fetchall():
        body = _read(name, text)
        if body is not None:
            out[name] = body
            continue
        # a flipped bit must not stop the spool: the loss is logged and becomes part of the chain
        log.error("counts of the audit log are damaged on disk; up to a minute of them is lost")
        db.execute("DELETE FROM audit_open WHERE context = ?", (name,))
        lost += 1
    return out, lost


def _read(context: str, text: str) -> dict[str, Any] | None:
    """Return an open body; None for one that is damaged."""
    try:
        facts, body = json.loads(context), json.loads(text)
        _ = facts["boot"], facts["owner"], body["batches"]["count"], body["hits"]
        _ = [[int(n) for n in body[end]] for end in ("since", "until")], body["since"][1]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return dict(body)


def carry(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy the log into a new segment, which goes on with the chain. Both in transactions of the caller."""
    prepare(target)
    for name, width in _WIDTHS.items():
        marks = ", ".join("?" * width)
        rows = source.execute(f"SELECT * FROM {name}")  # a name of our own
        target.executemany(f"INSERT OR REPLACE INTO {name} VALUES ({marks})", rows)


def _seen(db: sqlite3.Connection, owner: str) -> str:
    row = db.execute("SELECT context FROM audit_seen WHERE owner = ?", (owner,)).fetchone()
    return row[0] if row else ""


def _new(note: AuditNote) -> dict[str, Any]:
    now = [note.wall_ns, note.monotonic_ns]
    return {"since": now, "until": now, "batches": {"count": 0, "epochs": {}}, "hits": []}


def _merge(body: dict[str, Any], note: AuditNote, numbers: Sequence[tuple[int, int]]) -> None:
    body["until"] = [note.wall_ns, note.monotonic_ns]
    body["batches"]["count"] += len(numbers)
    epochs = body["batches"]["epochs"]
    for epoch, seq in numbers:
        low, high = epochs.get(str(epoch), (seq, seq))
        epochs[str(epoch)] = [min(low, seq), max(high, seq)]
    hits = {(stream, name, rule): count for stream, name, rule, count in body["hits"]}
    for key, count in note.hits.items():
        hits[key] = hits.get(key, 0) + count
    body["hits"] = [[*key, count] for key, count in sorted(hits.items())]


def _is_due(body: dict[str, Any], facts: dict[str, str], note: AuditNote) -> bool:
    other_boot = facts["boot"] != note.facts["boot"]
    return other_boot or note.monotonic_ns - int(body["since"][1]) >= ENTRY_NS


def _close(db: sqlite3.Connection, context: str, body: dict[str, Any]) -> None:
    text = _dump({**json.loads(context), **body})
    head = _head(db)
    n = head.n + 1
    db.execute("INSERT INTO audit_entry VALUES (?, ?, ?)", (n, text, chained(head.hash, n, text)))
    db.execute("DELETE FROM audit_open WHERE context = ?", (context,))
    _prune(db)


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
            yield _dump({**json.loads(context), **json.loads(body)})

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
