"""Faults of files and disks under a spool: each accepted reading is delivered or told as lost, and counted once.

FOREBAY_FLIPS (40 by default, 300 in the slow part, 3000 in `make torture`), FOREBAY_FLIP_SEED.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from spool_model import (
    MIB,
    OWNER,
    Account,
    check,
    examine,
    fill,
    make_batch,
    make_commit,
)

from forebay.spool import Limits, Spool
from forebay.spool.reader import equations_hold

FLIPS = int(os.environ.get("FOREBAY_FLIPS", "0"))
SEED = int(os.environ.get("FOREBAY_FLIP_SEED", "1"))
UP_S = 5.0  # "up and accepting within 5 s", on a quiet machine; a loaded one gets more
SLACK = 4.0


def flip_many(tmp_path: Path, count: int) -> None:
    """Flip one bit a time, sampled over the whole of a killed agent's files and of a cleanly stopped one's."""
    bases = {killed: tmp_path / f"base-{killed}" for killed in (True, False)}
    accounts = {killed: fill(base, SEED, killed=killed) for killed, base in bases.items()}
    for seed in range(SEED, SEED + count):
        rng = random.Random(seed)
        killed = rng.random() < 0.6
        folder = tmp_path / f"flip-{seed}"
        shutil.copytree(bases[killed], folder)
        files = sorted(p for p in folder.glob("segment-*") if p.stat().st_size)
        path = rng.choices(files, [p.stat().st_size for p in files])[0]
        raw = bytearray(path.read_bytes())
        at = rng.randrange(len(raw))
        raw[at] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        try:
            outcome = examine(folder, accounts[killed])
            check(outcome, accounts[killed])
            assert outcome.open_s < UP_S * SLACK
        except BaseException as error:
            where = f"FOREBAY_FLIP_SEED={seed}: {path.name} at {at}, killed {killed}"
            raise AssertionError(f"{where}: {type(error).__name__} {error}") from error
        shutil.rmtree(folder)


def test_flipped_bits_lose_nothing_without_a_gap_and_double_nothing(tmp_path):
    flip_many(tmp_path, FLIPS or 12)


@pytest.mark.slow
def test_three_hundred_flipped_bits(tmp_path):
    flip_many(tmp_path, FLIPS or 150)


@pytest.mark.torture
def test_three_thousand_flipped_bits(tmp_path):
    flip_many(tmp_path, FLIPS or 3000)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("which", ["newest", "oldest", "log"])
def test_a_truncated_file_never_stops_the_agent(tmp_path, share, which):
    account = fill(tmp_path / "spool", 3)
    files = sorted((tmp_path / "spool").glob("segment-*.db"))
    log = files[-1].with_name(files[-1].name + "-wal")
    path = {"newest": files[-1], "oldest": files[0], "log": log}[which]
    os.truncate(path, int(path.stat().st_size * share))
    outcome = examine(tmp_path / "spool", account)  # asserts: nothing twice, nothing changed, books balance
    assert outcome.open_s < UP_S * SLACK
    if which == "oldest":
        check(outcome, account)
    elif which == "newest" and share < 0.01:
        assert outcome.delivered, "what the older segment holds"


def test_a_file_of_garbage_never_stops_the_agent(tmp_path):
    account = fill(tmp_path / "spool", 4)
    newest = max((tmp_path / "spool").glob("segment-*.db"))
    newest.write_bytes(random.Random(4).randbytes(newest.stat().st_size))
    outcome = examine(tmp_path / "spool", account)
    assert outcome.open_s < UP_S * SLACK
    assert outcome.delivered
    assert outcome.position is not None or outcome.positions_lost


def test_a_deleted_older_segment_becomes_a_gap(tmp_path):
    account = fill(tmp_path / "spool", 5)
    min((tmp_path / "spool").glob("segment-*.db")).unlink()
    outcome = examine(tmp_path / "spool", account)
    check(outcome, account)
    assert outcome.told > 0


# -- full and failing disks ----------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str):
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_holds_up_sources_and_delivery_frees_it(tmp_path):
    with small_disk(tmp_path / "disk", "3m") as disk:
        limits = Limits(64 * MIB, segment_bytes=256 * 1024, ballast_bytes=512 * 1024)
        spool = Spool.open(disk / "spool", sync="full", limits=limits, on_stored=lambda: None)
        spool.writer.start()
        rng = random.Random(9)
        sent = [make_batch(n, rng, 20_000) for n in range(250)]  # about 5 MB
        for place, batch in enumerate(sent):
            spool.writer.submit(make_commit([batch], place + 1))
        wait_for(lambda: spool.writer.condition.state in ("failing", "full"), 30)
        reader = spool.reader()
        got: set[int] = set()

        def deliver() -> bool:
            rows = [b for lane in ("urgent", "normal", "bulk") for b in reader.pending(lane, -1, 20)]
            got.update(int.from_bytes(b.data[:8], "big") for b in rows)
            spool.writer.answer(acked=[b.id for b in rows])
            return not spool.writer.outstanding(OWNER) and reader.is_empty()

        wait_for(deliver, 120, pause=0.1)
        assert got == set(range(250))
        ledger = reader.ledger()
        assert all(equations_hold(e) and e["delivered"] == e["accepted"] for e in ledger.values())
        reader.close()
        assert spool.close()


def wait_for(condition, seconds: float, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(pause)


WRITER = """
import random, sys
sys.path[:0] = {path!r}
from pathlib import Path
from spool_model import OWNER, make_batch, make_commit
from forebay.spool import Limits, Spool
import forebay.spool.writer as writer_module
writer_module.RETRY_S = (0.01,)
spool = Spool.open(Path({folder!r}), sync="full", limits=Limits(1 << 26, segment_bytes=40_000), on_stored=lambda: None)
spool.writer.start()
rng = random.Random(1)
for n in range({commits}):
    commit = make_commit([make_batch(n, rng, 2000)], n + 1)
    commit.done.append(lambda ok, n=n: ok and print("durable", n, flush=True))
    spool.writer.submit(commit)
    spool.writer.wait_below(OWNER, 1, 30)
spool.close()
"""


def run_under(tmp_path: Path, inject: str, commits: int = 40) -> tuple[Path, set[int]]:
    """Run a writer in a child whose system calls fail as told. Return the folder and what it was told is durable."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path / "spool"
    text = WRITER.format(
        path=[str(Path(__file__).parent), *filter(None, sys.path)], folder=str(folder), commits=commits
    )
    calls = inject.split(":")[0]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={inject}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", text], capture_output=True, timeout=120, check=False
    )
    told = {int(line.split()[1]) for line in done.stdout.decode().splitlines() if line.startswith("durable")}
    if b"PTRACE" in done.stderr or b"ptrace" in done.stderr:
        pytest.skip("this machine does not let us trace")
    return folder, told


def check_told(folder: Path, told: set[int], commits: int) -> None:
    """Assert that what was told durable is there once, and that the books agree."""
    rng = random.Random(1)
    account = Account()
    for n in range(commits):
        account.accepted[n] = make_batch(n, rng, 2000)
    account.commits = commits
    outcome = examine(folder, account)
    assert told <= outcome.delivered, f"told durable and not there: {sorted(told - outcome.delivered)}"
    assert outcome.delivered - told <= set(range(max(told, default=-1) + 2)), "more than the one under way"
    assert outcome.told == 0
    assert int(outcome.position or b"0") == len(outcome.delivered)


SHORT = ["fdatasync:error=EIO:when=9", "pwrite64:signal=KILL:when=77"]
SWEEP = [
    *(f"fdatasync:error=EIO:when={n}" for n in range(2, 26, 4)),
    *(f"pwrite64:error=EIO:when={n}" for n in range(5, 90, 21)),
    *(f"{call}:signal=KILL:when={n}" for call in ("fdatasync", "pwrite64") for n in (3, 17)),
    *(f"{call}:signal=KILL:when=2" for call in ("rename", "unlink", "ftruncate")),
]


@pytest.mark.parametrize("inject", SHORT)
def test_failing_system_calls_lose_nothing_that_was_told_durable(tmp_path, inject):
    check_told(*run_under(tmp_path, inject), 40)


@pytest.mark.slow
@pytest.mark.parametrize("inject", SWEEP)
def test_a_sweep_of_failing_system_calls(tmp_path, inject):
    check_told(*run_under(tmp_path, inject), 40)


@pytest.mark.torture
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC", "signal=KILL"])
def test_every_system_call_fails_once(tmp_path, call, fault):
    for n in range(1, 120):
        folder = tmp_path / str(n)
        folder.mkdir()
        check_told(*run_under(folder, f"{call}:{fault}:when={n}"), 40)
