"""The agent is up and accepting within 5 s whatever the spool's files look like: long logs, and salvage that hangs."""

from __future__ import annotations

import random
import shutil
import sys
import time

from results import record
from spool_model import MIB, Account, check, examine, fill, judge, make_batch, make_commit

from forebay.spool import Limits, Spool, recovery
from forebay.spool.claims import Claims
from forebay.spool.store import Answers, Store
from forebay.spool.writer import FORCED_WAL_BYTES

HERE = ".venv/bin/python -m pytest tests/system/test_damaged_log.py"
UP_S = 5.0
SLACK = 4.0  # of a machine that is busy; the CPU time gets none


def test_the_longest_log_broken_in_many_places_is_no_reason_to_be_late(tmp_path):
    """The writer lets no log grow beyond this: from there on it folds it in itself."""
    live, limits, rng = tmp_path / "live", Limits(512 * MIB), random.Random(1)
    live.mkdir()
    store = Store(live / "segment-000001.db", sync="normal", claims=Claims(), limits=limits)
    log, account = live / "segment-000001.db-wal", Account()
    while not log.exists() or log.stat().st_size < FORCED_WAL_BYTES:
        batches = [make_batch(len(account.accepted) + place, rng, 30_000) for place in range(8)]
        account.commits += 1
        account.accepted |= {int.from_bytes(b.data[:8], "big"): b for b in batches}
        store.apply([make_commit(batches, account.commits)], Answers())
    shutil.copytree(live, tmp_path / "spool")
    store.close()
    log = tmp_path / "spool" / log.name
    raw = bytearray(log.read_bytes())
    for _ in range(200):
        raw[rng.randrange(len(raw))] ^= rng.randrange(1, 256)
    log.write_bytes(raw)
    outcome = examine(tmp_path / "spool", account, limits)
    record(
        "long-log",
        f"200 bytes changed all over a log of {FORCED_WAL_BYTES // MIB} MiB, the longest there is",
        f"{HERE} -k longest_log",
        1,
        recovery_s=outcome.open_s,
        note=f"delivered + told as lost = accepted: {judge(outcome, account)}; {outcome.open_cpu_s:.1f} CPU-s;"
        " recovery: until the next commit is durable, salvage goes on beside it",
    )
    assert outcome.open_cpu_s < UP_S
    assert outcome.open_s < UP_S * SLACK


def test_salvage_that_hangs_is_ended_and_the_segment_kept_for_the_next_start(tmp_path, monkeypatch):
    account = fill(tmp_path / "spool", 6)
    log = max((tmp_path / "spool").glob("segment-*.db")).with_suffix(".db-wal")
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 1
    log.write_bytes(raw)
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "SALVAGE_S", 0.5)
        hang = [sys.executable, "-c", "import time; time.sleep(600)"]
        patch.setattr(recovery.child, "command", lambda *_: hang)
        begun = time.monotonic()
        spool = Spool.open(tmp_path / "spool", sync="full", limits=Limits(64 * MIB), on_stored=lambda: None)
        assert time.monotonic() - begun < UP_S * SLACK
        deadline = time.monotonic() + 60
        while spool.recovery.poll(spool.store):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert [s[2] for s in spool.store.segments.values()].count("damaged") == 1
        assert spool.close()
    assert list((tmp_path / "spool").glob("damaged-*.db"))
    check(examine(tmp_path / "spool", account), account)
