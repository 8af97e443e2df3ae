"""The books of a segment whose log's last transaction is damaged.

What stood before that transaction is intact, in older frames or in the file. Of the transaction itself every row that
can be read is believed, since each has a mark of its own. What is missing then is told from what is there: a key of
before that is not found has an unknown value; one that is found is right.

- Readings accepted: the ledger says twice how many each stream has had (read is the sum of where it went), each batch
  says it, and the running numbers say whether a batch is missing. Where all that is gone for a stream, a gap of cause
  `damaged_uncounted` says so: how many of this one transaction were lost nobody knows.
- What left the spool in it (delivered, evicted, ...) is taken as not having happened: those batches wait again and are
  sent again. The center knows which it has.
- Positions: where one is lost, all are, as an older one would have rows read again that were delivered.
"""

from __future__ import annotations

from typing import Any

from forebay.spool import control as control_part
from forebay.spool.control import INTO, Control, open_epoch
from forebay.spool.pages import Pages
from forebay.spool.rows import CONTROL, LANES, RUNNING
from forebay.spool.salvage import is_batch

UNCOUNTED = "damaged_uncounted"
SPENT = ("delivered", "evicted", "dead_lettered", "quarantined")
_KEPT = ("counter", "ledger", "progress")  # no transaction takes a row of these away
_HARMLESS = ("gap", "gone")  # to tell or send what is known at the center does no harm
FAR = 1 << 32  # beyond any running number that is not known


def mend(pages: Pages, found: Control) -> tuple[Control, bool] | None:
    """Return the books as of the last transaction as far as they can be told, and whether positions are lost.

    None if more than that transaction is damaged. `found`: what can be read of them.
    """
    before = control_part.from_before(pages)
    if before is None:
        return None
    base = before[1]
    if not pages.in_order:  # a page may be taken for another: only rows of the transaction itself are sure
        found = Control(broken=set(CONTROL), lost=set(CONTROL) - set(_KEPT))
        rows = list(pages.ending(rowid=False))
        for table in CONTROL:
            found.take(table, (row for row in rows if control_part.is_of(table, row)))
    missing = {
        t: base.tables[t].keys() - found.tables[t].keys() if t in found.broken else set() for t in _KEPT
    }
    unsure = {
        t for t in CONTROL if missing.get(t) or t in found.lost or (t in found.broken and t in _HARMLESS)
    }
    books = Control({t: base.tables[t] | rows if t in unsure else rows for t, rows in found.tables.items()})
    counters = books.counters()
    _advance(counters, {name for (name,) in missing["counter"]})
    _undo_spending(books, base)
    if missing["ledger"] or "ledger" in found.lost:
        streams = {key[0] for key in missing["ledger"] if key[1] == "accepted"}
        streams = {stream for stream in streams if not _follows(books, stream, missing["ledger"])}
        if not missing["ledger"]:
            streams = {""}  # of one that began just then
        if streams and not _is_whole(pages, base, books, missing["counter"]):
            _tell(books, counters, streams)
    if missing["progress"] or "progress" in found.lost:
        books.tables["progress"] = {}
    control_part.set_rows(books, "counter", counters.items())
    control_part.balance(books)
    return books, not books.tables["progress"] and bool(base.tables["progress"])


def _is_whole(pages: Pages, base: Control, books: Control, missing: set[tuple[Any, ...]]) -> bool:
    """Return whether every batch of the transaction is there; each tells what its stream has had with it."""
    if ("running",) in missing:
        return False
    there = {row[0] & RUNNING for row in pages.ending() if is_batch(row)}
    return there.issuperset(range(base.counters()["running"] + 1, books.counters()["running"] + 1))


def _follows(books: Control, stream: str, missing: set[tuple[Any, ...]]) -> bool:
    """Return whether what a stream has had follows from what was read of it, and if so write it down."""
    wanted = {kind for name, kind, _ in missing if name == stream}
    if wanted & {"read", *INTO} != {"accepted"}:
        return False
    ledger = books.ledger()
    others = sum(n for (name, kind, _), n in ledger.items() if name == stream and kind in INTO)
    others -= ledger[stream, "accepted", ""]
    key = stream, "accepted", ""
    books.tables["ledger"][key] = (*key, ledger[stream, "read", ""] - others)
    return True


def _undo_spending(books: Control, base: Control) -> None:
    tables, older = books.tables, books.tables["segment"].keys()
    ledger = {key: row for key, row in tables["ledger"].items() if key[1] not in SPENT}
    tables["ledger"] = ledger | {k: row for k, row in base.tables["ledger"].items() if k[1] in SPENT}
    tables["gone"] = {key: row for key, row in base.tables["gone"].items() if key[:1] in older}
    # At once, not only when salvage has ended: a segment of which nothing waits by its books is deleted.
    waiting = {key: row for key, row in tables["waiting"].items() if key[:1] not in older}
    tables["waiting"] = waiting | {k: row for k, row in base.tables["waiting"].items() if k[:1] in older}


def _advance(counters: dict[str, int], missing: set[object]) -> None:
    """Go beyond what the lost counters may have come to."""
    counters["txn"] += "txn" in missing
    counters["running"] += FAR * ("running" in missing)
    for lane in LANES:
        if {f"{lane}.epoch", f"{lane}.next"} & missing:
            open_epoch(counters, str(lane))


def _tell(books: Control, counters: dict[str, int], streams: set[str]) -> None:
    """Write a gap for each stream, with a new number, as nobody knows those of the lost batches."""
    gaps = books.tables["gap"]
    counters["gap"] = max([counters["gap"], *(number for (number,) in gaps)])
    for stream in sorted(streams):
        counters["gap"] += 1
        number = counters["normal.epoch"], counters["normal.next"]
        counters["normal.next"] += 1
        gaps[(counters["gap"],)] = (counters["gap"], *number, number[1], stream, 0, 0, 0, 0, UNCOUNTED)
