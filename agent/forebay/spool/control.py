"""The control part of a spool in memory: numbers, ledger, positions, gaps, and what waits where.

It is read whole when a segment is opened, changed by the transactions, copied whole into each new segment, and, when
a segment is damaged, put together from the rows that are intact.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from forebay.spool.pages import Pages
from forebay.spool.rows import CONTROL, LANES, LedgerKey, WaitingKey, mark, marked

EPOCH_RANDOM_BITS = 32
MOST_GENERATIONS = 2**31 - 2  # an epoch is below 2^63
NEW_SPOOL = (
    "new_spool"  # a counter: 1 in a spool that was made where there was none, and may stand in for a lost one
)
INTO = ("accepted", "filtered", "guarded", "rejected")  # what becomes of readings that were read
_KEYS = {
    "counter": 1,
    "ledger": 3,
    "waiting": 3,
    "progress": 2,
    "segment": 1,
    "gone": 2,
    "gap": 1,
    "receipt": 1,
}


class BooksDamaged(sqlite3.DatabaseError):
    """Rows of the control part are not what they were."""


@dataclass(slots=True)
class Control:
    """Rows of the control tables by key.

    `broken`: tables of which something is lost, or may be; `lost`: those of which a row or page could not be read.
    """

    tables: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = field(
        default_factory=lambda: {name: {} for name in CONTROL}
    )
    broken: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether nothing of it is lost."""
        return not self.broken

    @property
    def txn(self) -> int:
        """Number of the last transaction in it, -1 if that is not known."""
        row = self.tables["counter"].get(("txn",))
        return -1 if row is None else int(row[1])

    def take(self, table: str, rows: Iterable[Any]) -> None:
        """Add rows with their marks; those whose mark is wrong are left out."""
        width, keys = len(CONTROL[table]), _KEYS[table]
        for row in rows:
            if is_of(table, row):
                self.tables[table][tuple(row[:keys])] = tuple(row[:width])
            else:
                self.broken.add(table)
                self.lost.add(table)

    def write(self, db: Any) -> None:
        """Insert all of it into the empty tables of a new segment."""
        for table, rows in self.tables.items():
            places = ",".join("?" * (len(CONTROL[table]) + 1))
            db.executemany(f"INSERT INTO {table} VALUES ({places})", marked(table, rows.values()))

    # -- as the store keeps it ------------------------------------------------------------------------------

    def counters(self) -> dict[str, int]:
        """Return the counters by name."""
        return {str(row[0]): int(row[1]) for row in self.tables["counter"].values()}

    def ledger(self) -> Counter[LedgerKey]:
        """Return readings by stream, kind and reason."""
        return Counter({(r[0], r[1], r[2]): r[3] for r in self.tables["ledger"].values()})

    def waiting(self) -> dict[WaitingKey, tuple[int, int, int]]:
        """Return batches, readings and bytes that wait, by segment, stream and lane."""
        return {(r[0], r[1], r[2]): (r[3], r[4], r[5]) for r in self.tables["waiting"].values()}


def is_of(table: str, row: Sequence[Any]) -> bool:
    """Return whether a row with its mark is one of this table, as it was written."""
    width = len(CONTROL[table])
    return len(row) == width + 1 and bool(row[width] == mark(table, row[:width]))


def balance(control: Control) -> None:
    """Let what was read be the sum of where it went: the rows may be of two transactions."""
    ledger, read = control.ledger(), Counter[LedgerKey]()
    for (stream, kind, _), readings in ledger.items():
        if kind in INTO:
            read[stream, "read", ""] += readings
    control.tables["ledger"] |= {key: (*key, readings) for key, readings in read.items()}


def from_db(db: Any) -> Control:
    """Read the control part of an open segment."""
    control = Control()
    for table, columns in CONTROL.items():
        control.take(table, db.execute(f"SELECT {', '.join(columns)}, mark FROM {table}"))
    return _checked(control)


def from_pages(pages: Pages) -> Control:
    """Read it from a file that SQLite may not be able to read."""
    control = Control()
    for table in CONTROL:
        broken, lost = pages.broken, pages.lost
        control.take(table, pages.rows(table))
        if pages.broken > broken:
            control.broken.add(table)
        if pages.lost > lost:
            control.lost.add(table)
    return _checked(control)


def from_before(pages: Pages) -> tuple[Pages, Control] | None:
    """Read it as it was before a last transaction that is damaged; None if none is, or if that is not whole either."""
    before = pages.before()
    control = from_pages(before) if before is not None else None
    return None if before is None or control is None or not control.complete else (before, control)


def merge(newer: Control, older: Control) -> Control:
    """Return `newer` with what is lost of it taken from `older`; its broken tables stay named as broken."""
    tables = {
        name: (older.tables[name] | rows if name in newer.broken else rows)
        for name, rows in newer.tables.items()
    }
    return Control(tables, set(newer.broken))


def _checked(control: Control) -> Control:
    if not set(fresh_counters(1)) <= set(control.counters()):
        control.broken.add("counter")
    return control


def pack(control: Control) -> bytes:
    """Return a copy for a file beside the segments."""
    body: bytes = msgpack.packb({name: list(rows.values()) for name, rows in control.tables.items()})
    return hashlib.blake2b(body, digest_size=32).digest() + body


def unpack(data: bytes) -> Control | None:
    """Read such a copy, None if it is damaged."""
    if hashlib.blake2b(data[32:], digest_size=32).digest() != data[:32]:
        return None
    control = Control()
    for name, rows in msgpack.unpackb(data[32:]).items():
        if name in CONTROL:
            set_rows(control, name, [tuple(row) for row in rows])
    return _checked(control)


def fresh_counters(generation: int) -> dict[str, int]:
    """Return the counters of a new spool.

    The segment's number leads the epoch, so that (epoch, seq) orders what one spool wrote; the random part tells
    clones and new cards apart.
    """
    counters = {"txn": 0, "running": 0, "uptime_ns": 0, "gap": 0}
    for lane in LANES:
        counters[f"{lane}.epoch"] = new_epoch(generation)
        counters[f"{lane}.next"] = 1
    return counters


def new_epoch(generation: int) -> int:
    """Return an epoch that orders behind those of earlier generations."""
    return (generation << EPOCH_RANDOM_BITS) | secrets.randbits(EPOCH_RANDOM_BITS)


def open_epoch(counters: dict[str, int], lane: str) -> None:
    """Give a lane a new epoch, which orders behind the one before."""
    counters[f"{lane}.epoch"] = new_epoch((counters[f"{lane}.epoch"] >> EPOCH_RANDOM_BITS) + 1)
    counters[f"{lane}.next"] = 1


def set_rows(control: Control, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Replace all rows of a table."""
    control.tables[table] = {row[: _KEYS[table]]: row for row in rows}
