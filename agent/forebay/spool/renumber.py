"""A center that knows other numbers than this spool: which side is the older, and what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.spool.control import EPOCH_RANDOM_BITS, MOST_GENERATIONS, new_epoch, open_epoch
from forebay.spool.rows import LANES
from forebay.spool.txn import Answers, Txn

if TYPE_CHECKING:
    from forebay.spool.store import Store


def renumber(store: Store, answers: Answers, txn: Txn) -> None:
    """Do within a transaction what the center's answers ask for.

    Its mark is ahead, or a number is taken: this spool is an older copy, or a clone, of the one that wrote
    them. New batches go into a new epoch; what waits under old numbers keeps them (the center drops what
    it has), unless its number is taken. Its marks are behind: it was restored, and is told of the hole. It has
    epochs of a spool that was lost: what is stored from now on orders behind them.
    """
    counters = txn.counters
    for epoch in answers.behind:
        generation = epoch >> EPOCH_RANDOM_BITS
        for lane in LANES:
            if counters[f"{lane}.epoch"] >> EPOCH_RANDOM_BITS <= generation < MOST_GENERATIONS:
                counters[f"{lane}.epoch"] = new_epoch(generation + 1)
                counters[f"{lane}.next"] = 1
    for epoch, center_mark in answers.regressed:
        for lane in LANES:
            low = counters[f"{lane}.next"]
            if counters[f"{lane}.epoch"] == epoch and center_mark >= low:
                open_epoch(counters, lane)
                _close_numbers(store, (epoch, low, center_mark), "regressed", txn)
    for batch_id in answers.conflicts:
        found = store.locate(batch_id)
        if found is None:
            continue
        segment, head, size = found
        if counters[f"{head.lane}.epoch"] == head.epoch:
            open_epoch(counters, head.lane)
        data = store.data_of(segment, batch_id)
        store.remove(segment, head, size, txn)
        seq = counters[f"{head.lane}.next"]
        counters[f"{head.lane}.next"] = seq + 1
        store.insert(head._replace(epoch=counters[f"{head.lane}.epoch"], seq=seq), data, txn)
    for hole in answers.holes:
        _close_numbers(store, hole, "center_regressed", txn)


def _close_numbers(store: Store, numbers: tuple[int, int, int], cause: str, txn: Txn) -> None:
    store.add_gaps([(*numbers, "", 0, 0, 0, 0, cause)], txn)
