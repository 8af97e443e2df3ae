"""Receipts: tags of acknowledged batches, kept until a signed checkpoint covers them."""

from __future__ import annotations

import sqlite3
from typing import Any

from forebay.errors import SpoolError
from forebay.spool.rows import marked
from forebay.spool.txn import Answers

MOST_RECEIPTS = 10_000  # they are copied into each new segment


def note(db: Any, answers: Answers) -> None:
    """Take what a transaction's answers say of receipts.

    There are no more than the bound: a center that confirms no checkpoint must not fill the disk.
    """
    for last in answers.receipts_covered:
        db.execute("DELETE FROM receipt WHERE id <= ?", (last,))
    if not answers.receipts:
        return
    highest = db.execute("SELECT coalesce(max(id), 0) FROM receipt").fetchone()[0]
    rows = [(highest + n, *receipt) for n, receipt in enumerate(answers.receipts, start=1)]
    db.executemany("INSERT INTO receipt VALUES (?, ?, ?, ?, ?)", marked("receipt", rows))
    db.execute("DELETE FROM receipt WHERE id <= ?", (highest + len(rows) - MOST_RECEIPTS,))


def waiting(db: Any, limit: int) -> list[tuple[int, int, int, bytes]]:
    """Return id, epoch, seq and tag of those that no checkpoint covers yet. Raises SpoolError."""
    try:
        return list(db.execute("SELECT id, epoch, seq, tag FROM receipt ORDER BY id LIMIT ?", (limit,)))
    except sqlite3.Error as error:
        raise SpoolError(f"cannot read ({error.sqlite_errorname})", retryable=True) from None
