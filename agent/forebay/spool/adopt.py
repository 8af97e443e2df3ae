"""Taking salvaged batches into the books: what waits again, what is lost, which numbers will never arrive."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from forebay.spool.rows import HEAD, RUNNING, Head
from forebay.spool.txn import Txn

if TYPE_CHECKING:
    from forebay.spool.store import Store

log = logging.getLogger("forebay.spool")

DAMAGED = "damaged"
RECOUNT = "recount"  # a counter: 1 while the books of what waits may be older than what waits
ReadRange = Callable[[bytes, bytes], tuple[str, bytes] | None]
_SPENT = ("delivered", "evicted", "dead_lettered", "quarantined")


def adopt(
    store: Store, number: int, read_range: ReadRange | None = None, *, recount: bool = False
) -> tuple[set[str], int]:
    """Take a salvaged segment into use, in one transaction. Return the owners whose position came from its
    batches, and the readings lost.

    Whatever was accepted and neither waits nor ended anywhere is quarantined: with the books intact that is exactly
    what is lost. Numbers that neither wait nor were told as gaps are closed; to close one that the receiver has does
    no harm, to leave one open would stop the epoch for ever. `recount`: the books of what waits are an older copy.
    """
    found = [
        (Head(*row[:-1]), int(row[-1]))
        for row in store.older.query(number, f"SELECT {HEAD}, length(data) FROM batch ORDER BY id")
        if not store.is_gone(number, row[0])
    ]
    # A batch that was moved out before, or that the newest segment holds again, waits there.
    found = [(head, size) for head, size in found if not _waits_in_newest(store, head.id)]
    positions = _positions(store, number, found, read_range) if read_range is not None else {}
    expected = {key: sums for key, sums in store.waiting.items() if key[0] == number}
    with store.transaction() as txn:
        for key in expected:
            txn.waiting[key] = (0, 0, 0)
        if recount:
            _recount(store, txn, number)
            txn.counters[RECOUNT] = int(
                any(s[2] == "damaged" for n, s in store.segments.items() if n != number)
            )
        for head, size in found:
            store.wait(txn, number, head, size, 1)
        lost = _settle_ledger(store, txn, found)
        _close(store, txn, number, [head for head, _ in found], expected, lost)
        running = [head.id & RUNNING for head, _ in found]
        txn.segments[number] = (min(running, default=0), max(running, default=0), "sealed")
        for row in store.older.query(number, "SELECT * FROM dead_letter"):
            places = ", ".join("?" * len(row))
            store.db.execute(f"INSERT OR IGNORE INTO dead_letter VALUES ({places})", row)
        txn.progress.update({(owner, ""): position for owner, position in positions.items()})
    level = logging.ERROR if lost else logging.WARNING
    log.log(
        level,
        "damaged segment salvaged segment=%d batches=%d readings=%d lost_readings=%d",
        number,
        len(found),
        sum(head.readings for head, _ in found),
        sum(lost.values()),
    )
    return set(positions), sum(lost.values())


def _recount(store: Store, txn: Txn, number: int) -> None:
    """Count what waits in the other older segments: what was delivered since the copy would wait for ever."""
    others = [n for n, s in store.segments.items() if s[2] == "sealed" and n != number]
    for key in store.waiting:
        if key[0] in others:
            txn.waiting[key] = (0, 0, 0)
    for other in others:
        for row in store.older.heads(other, 0, 1 << 62):
            if not store.is_gone(other, row[0]):
                store.wait(txn, other, Head(*row[:-1]), int(row[-1]), 1)


def _waits_in_newest(store: Store, batch_id: int) -> bool:
    return store.db.execute("SELECT 1 FROM batch WHERE id = ?", (batch_id,)).fetchone() is not None


def _settle_ledger(store: Store, txn: Txn, found: list[tuple[Head, int]]) -> dict[str, int]:
    """Make the equations hold. Return the readings that are lost, by stream."""
    ledger = store.ledger
    totals: dict[str, int] = defaultdict(int)
    for head, _ in found:
        totals[head.stream] = max(totals[head.stream], head.total)
    lost = {}
    waiting = store.waiting | txn.waiting
    for stream in {key[0] for key in ledger} | set(totals):
        accepted = ledger[stream, "accepted", ""]
        if totals[stream] > accepted:  # the books are older than the batches
            more = totals[stream] - accepted
            txn.ledger[stream, "accepted", ""] += more
            txn.ledger[stream, "read", ""] += more
            accepted += more
        spent = sum(n for (name, kind, _), n in ledger.items() if name == stream and kind in _SPENT)
        waits = sum(sums[1] for key, sums in waiting.items() if key[1] == stream)
        missing = accepted - spent - waits
        if missing > 0:
            txn.ledger[stream, "quarantined", DAMAGED] += missing
            lost[stream] = missing
        elif missing < 0:  # acknowledged once, there again: it will be acknowledged again
            txn.ledger[stream, "delivered", ""] += missing
    return lost


def _close(
    store: Store,
    txn: Txn,
    number: int,
    heads: list[Head],
    expected: dict[tuple[int, str, str], tuple[int, int, int]],
    lost: dict[str, int],
) -> None:
    """Close the numbers that will not arrive, with the readings that they held."""
    have: dict[tuple[str, str], int] = defaultdict(int)
    for head in heads:
        have[head.stream, head.lane] += 1
    missing = {key[1:]: sums[0] - have[key[1:]] for key, sums in expected.items() if sums[0] > have[key[1:]]}
    open_numbers = {
        lane: _holes(store, number, lane, heads, sum(n for (_, other), n in missing.items() if other == lane))
        for lane in {key[1] for key in missing} | {head.lane for head in heads}
    }
    gaps: list[list[object]] = []
    for stream, readings in lost.items():
        lanes = [lane for name, lane in missing if name == stream]
        lane = next((x for x in lanes if open_numbers.get(x)), "")
        if lane:
            wanted = max(1, missing[stream, lane])
            taken, open_numbers[lane] = open_numbers[lane][:wanted], open_numbers[lane][wanted:]
        else:  # nobody knows which numbers they had: a new one stands for them
            lane = lanes[0] if lanes else "normal"
            taken = [(txn.counters[f"{lane}.epoch"], txn.counters[f"{lane}.next"])]
            txn.counters[f"{lane}.next"] += 1
        for place, (epoch, low, high) in enumerate(_ranges(taken)):
            gaps.append([epoch, low, high, stream, 0, readings if place == 0 else 0, 0, 0, DAMAGED])
    for numbers in open_numbers.values():
        gaps += [[epoch, low, high, "", 0, 0, 0, 0, DAMAGED] for epoch, low, high in _ranges(numbers)]
    store.add_gaps(gaps, txn)


def _holes(store: Store, number: int, lane: str, heads: list[Head], missing: int) -> list[tuple[int, int]]:
    """Return (epoch, seq) of this lane's current epoch that nobody holds, at least `missing` of them if there are."""
    epoch, following = store.counters[f"{lane}.epoch"], store.counters[f"{lane}.next"]
    known = {head.seq for head in heads if (head.lane, head.epoch) == (lane, epoch)}
    sql = "SELECT seq FROM batch WHERE lane = ? AND epoch = ?"
    known |= {row[0] for row in store.db.execute(sql, (lane, epoch))}
    for other, (_, _, state) in store.segments.items():
        if other != number and state == "sealed":
            sql = "SELECT id, seq FROM batch WHERE lane = ? AND epoch = ?"
            rows = store.older.query(other, sql, (lane, epoch))
            known |= {seq for batch_id, seq in rows if not store.is_gone(other, batch_id)}
    floor = min(known, default=following)
    for low, high in store.db.execute("SELECT seq_from, seq_to FROM gap WHERE epoch = ?", (epoch,)):
        known.update(range(max(low, floor), high + 1))
    holes = [seq for seq in range(floor, following) if seq not in known]
    while (
        len(holes) < missing and floor > 1
    ):  # acknowledged are mostly the oldest: the lost ones came right after
        floor -= 1
        if floor not in known:
            holes.insert(0, floor)
    return [(epoch, seq) for seq in holes]


def _ranges(numbers: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Join neighbours."""
    out: list[list[int]] = []
    for epoch, seq in sorted(numbers):
        if out and out[-1][0] == epoch and out[-1][2] + 1 == seq:
            out[-1][2] = seq
        else:
            out.append([epoch, seq, seq])
    return [(epoch, low, high) for epoch, low, high in out]


def _positions(
    store: Store, number: int, found: list[tuple[Head, int]], read_range: ReadRange
) -> dict[str, bytes]:
    """Return the newest position of each owner that a salvaged batch tells, newest batches first."""
    positions: dict[str, bytes] = {}
    for head, _ in sorted(found, key=lambda pair: pair[0].id & RUNNING, reverse=True):
        rows = store.older.query(number, "SELECT body FROM body WHERE id = ?", (head.context_id,))
        told = read_range(store.data_of(number, head.id), rows[0][0]) if rows else None
        if told is not None:
            positions.setdefault(*told)
    return positions
