"""Power cuts under the spool's writer: what was durable is there, what was not is there whole or not at all.

FOREBAY_POWER_CUTS (200 in the slow part, 2000 in `make torture`), FOREBAY_POWER_SEED.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from powercut import PowerCut, PowerLost
from results import record
from spool_model import OWNER, make_batch, make_commit

from forebay.spool import Limits, schema, segment_path
from forebay.spool.claims import Claims
from forebay.spool.reader import Reader, equations_hold
from forebay.spool.recovery import Recovery
from forebay.spool.rows import RANK_BOUNDS
from forebay.spool.store import Answers, Store

SEED = int(os.environ.get("FOREBAY_POWER_SEED", "1"))
CUTS = int(os.environ.get("FOREBAY_POWER_CUTS", "0"))
HERE = ".venv/bin/python -m pytest tests/system/test_power_cuts.py"
LIMITS = Limits(2_000_000, "drop_oldest", segment_bytes=60_000)


class Run:
    """One spool that is written until the power goes."""

    def __init__(self, folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.cut = PowerCut(seed)
        self.durable = 0  # commits that returned
        self.fell = False  # whether the power went before the end
        self.begun = 0
        self.batches: dict[int, tuple[int, int]] = {}  # number: (commit, readings)
        self.acked: set[int] = set()  # durable
        self.acking: set[int] = set()  # in the transaction under way
        self.number = 0

        def connect(path: Path, *, sync: str = "full", read_only: bool = False, wal: bool = True):
            made = self.cut.connect(path)
            schema.configure(made, sync=sync, wal=wal)
            return made

        monkeypatch.setattr(schema, "connect", connect)
        monkeypatch.setattr(schema, "sync_folder", lambda _: None)
        folder.mkdir()
        self.store = Store(folder / "segment-000001.db", sync="full", claims=Claims(), limits=LIMITS)
        monkeypatch.setattr(self.store, "checkpoint_aside", lambda: None)
        self.cut.at = self.cut.ops + self.rng.randrange(1, 500)

    def write(self) -> None:
        try:
            while self.begun < 60:
                self._step()
        except PowerLost:
            self.fell = True
        self.cut.crash()
        self.store.older.close()

    def _step(self) -> None:
        made = [make_batch(self.number + i, self.rng, 1500) for i in range(self.rng.randrange(1, 4))]
        self.number += len(made)
        self.begun += 1
        for batch in made:
            self.batches[int.from_bytes(batch.data[:8], "big")] = (self.begun, batch.readings)
        answers = Answers()
        if self.rng.random() < 0.5:
            for lane in RANK_BOUNDS:
                for segment, head, _ in list(self.store.room._lane(lane))[: self.rng.randrange(3)]:
                    answers.acked.append(head.id)
                    self.acking.add(int.from_bytes(self.store.data_of(segment, head.id)[:8], "big"))
        if self.rng.random() < 0.1:
            self.store.checkpoint("TRUNCATE")
        self.store.apply([make_commit(made, self.begun)], answers)
        self.durable = self.begun
        self.acked |= self.acking
        self.acking = set()


def check(run: Run) -> None:
    """Open the spool as the agent does and count."""
    recovery = Recovery(run.folder, "full", Claims(), LIMITS)
    store = recovery.open()
    try:
        assert not any(s[2] == "damaged" for s in store.segments.values()), "a power cut is not damage"
        there = int(store.progress(OWNER).get("", b"0"))
        assert there in (run.durable, run.begun), (there, run.durable, run.begun)
        expected = {n: r for n, (commit, r) in run.batches.items() if commit <= there}
        reader = Reader(segment_path(run.folder))
        found = {int.from_bytes(b.data[:8], "big"): b.readings for b in reader.all_batches()}
        assert not reader.damaged()
        gaps = sum(g.readings for g in reader.gaps(10_000))
        ledger = reader.ledger()
        assert all(equations_hold(e) for e in ledger.values())
        recount = reader.recount()
        reader.close()
        assert {s: e["pending"] for s, e in ledger.items() if e["pending"]} == recount
        assert found.items() <= expected.items()
        assert sum(e["accepted"] for e in ledger.values()) == sum(expected.values())
        evicted = sum(sum(e["evicted"].values()) for e in ledger.values())
        assert evicted == gaps
        delivered = sum(e["delivered"] for e in ledger.values())
        acked = sum(run.batches[n][1] for n in run.acked)
        acking = sum(run.batches[n][1] for n in run.acking)
        # Acknowledgements ride on the commit: with it they are there or not.
        assert delivered in ((acked,) if there == run.durable != run.begun else (acked, acked + acking))
        assert not found.keys() & run.acked
        assert sum(found.values()) == sum(expected.values()) - delivered - evicted
        _check_numbers(run.folder)
        store.apply([make_commit([make_batch(10**9, run.rng)], there + 1)], Answers())
        assert store.progress(OWNER)[""] == b"%d" % (there + 1)
    finally:
        store.close()
        recovery.close()


def _check_numbers(folder: Path) -> None:
    db = sqlite3.connect(segment_path(folder))
    rows = db.execute("SELECT epoch, seq FROM batch").fetchall()
    db.close()
    assert len(rows) == len(set(rows)), "one number, two batches"


def cut_many(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut the power once in each of many runs; return how often it fell into the run."""
    fell = 0
    for seed in range(SEED, SEED + count):
        with monkeypatch.context() as patch:
            run = Run(tmp_path / f"spool-{seed}", seed, patch)
            run.write()
        try:
            check(run)
        except BaseException as error:
            raise AssertionError(f"FOREBAY_POWER_SEED={seed}: {type(error).__name__} {error}") from error
        shutil.rmtree(run.folder)
        fell += run.fell
    return fell


def test_a_spool_survives_power_cuts(tmp_path, monkeypatch):
    assert cut_many(tmp_path, CUTS or 30, monkeypatch) > 10


@pytest.mark.slow
def test_a_spool_survives_two_hundred_power_cuts(tmp_path, monkeypatch):
    cut_many(tmp_path, CUTS or 200, monkeypatch)


@pytest.mark.torture
def test_a_spool_survives_two_thousand_power_cuts(tmp_path, monkeypatch):
    fell = cut_many(tmp_path, CUTS or 2000, monkeypatch)
    record(
        "spool-power",
        "power cut of the agent: unsynced writes of the spool dropped, reordered, torn",
        f"FOREBAY_POWER_CUTS={CUTS or 2000} FOREBAY_POWER_SEED={SEED} {HERE} -m torture",
        fell,
        note="each commit was there whole, with its position, or not at all; what was durable was there",
    )
