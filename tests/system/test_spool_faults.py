"""Faults of files and disks under a spool: each accepted reading is delivered or told as lost, and counted once.

FOREBAY_FLIPS (40 by default, 300 in the slow part, 3000 in `make torture`), FOREBAY_FLIP_SEED.
FOREBAY_SWEEP: of more calls of a kind than that (60) a seeded sample fails, else each.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from results import record
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
from tracing import busiest, traceable

from forebay.spool import Limits, Spool
from forebay.spool.reader import equations_hold
from forebay.spool.schema import TABLES

FLIPS = int(os.environ.get("FOREBAY_FLIPS", "0"))
SEED = int(os.environ.get("FOREBAY_FLIP_SEED", "1"))
MOST_PLACES = int(os.environ.get("FOREBAY_SWEEP", "60"))
UP_S = 5.0  # "up and accepting within 5 s", on a quiet machine; a loaded one gets more
SLACK = 4.0
HERE = ".venv/bin/python -m pytest tests/system/test_spool_faults.py"


def flip_many(tmp_path: Path, count: int, first: int = SEED) -> float:
    """Flip one bit a time, sampled over the whole of a killed agent's files and of a cleanly stopped one's.

    Return the longest time (s) until the spool accepted again.
    """
    longest = 0.0
    bases = {killed: tmp_path / f"base-{killed}" for killed in (True, False)}
    accounts = {killed: fill(base, SEED, killed=killed) for killed, base in bases.items()}
    for seed in range(first, first + count):
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
            longest = max(longest, outcome.open_s)
        except BaseException as error:
            where = f"FOREBAY_FLIP_SEED={seed}: {path.name} at {at}, killed {killed}"
            raise AssertionError(f"{where}: {type(error).__name__} {error}") from error
        shutil.rmtree(folder)
    return longest


def test_flipped_bits_lose_nothing_without_a_gap_and_double_nothing(tmp_path):
    flip_many(tmp_path, FLIPS or 12)


def test_books_of_what_waits_that_are_lost_are_counted_anew(tmp_path):
    """Of the log's page with them, bit 113 hits one that is not mended; an older copy knows batches that are gone."""
    flip_many(tmp_path, 1, 113)


def test_a_batch_that_a_damaged_key_hides_is_found_and_delivered(tmp_path):
    """Bit 634 changes a key in the middle of a tree: no search finds the batch behind it, and SQLite says nothing."""
    flip_many(tmp_path, 1, 634)


def test_a_segment_is_kept_while_an_undone_delivery_waits_in_it(tmp_path):
    """Bit 785 damages the last transaction, which had acknowledged a batch of an older segment."""
    flip_many(tmp_path, 1, 785)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_which_a_column_is_renamed_is_salvaged(tmp_path, table):
    """One bit of its name in the schema: SQLite says `no such column`, which is no reason to give up."""
    account = fill(tmp_path / "spool", 1, commits=12, killed=False)
    newest = max((tmp_path / "spool").glob("segment-*.db"))
    raw = bytearray(newest.read_bytes())
    copies = list(re.finditer(rb"CREATE TABLE %s \([^,]*,\s+(\w)" % table.encode(), raw))
    assert copies
    for found in copies:  # one that was moved to another page is left behind where it was
        raw[found.start(1)] ^= 1
    newest.write_bytes(raw)
    check(examine(tmp_path / "spool", account), account)


@pytest.mark.slow
def test_three_hundred_flipped_bits(tmp_path):
    flip_many(tmp_path, FLIPS or 150)


@pytest.mark.torture
def test_three_thousand_flipped_bits(tmp_path):
    longest = flip_many(tmp_path, FLIPS or 3000)
    record(
        "flip",
        "one bit flipped anywhere in the spool's files or log, of a killed agent or a stopped one",
        f"FOREBAY_FLIPS={FLIPS or 3000} FOREBAY_FLIP_SEED={SEED} {HERE} -m torture -k flipped",
        FLIPS or 3000,
        recovery_s=longest,
        note="delivered + told as lost = accepted, by the test's own count; recovery: until the next commit is durable",
    )


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


@dataclass
class Card:
    """A file with an ext4 on it, mounted as a card is whose errors make it read-only."""

    image: Path
    folder: Path

    def mount(self) -> None:
        options = ["-o", "loop,errors=remount-ro"]
        done = subprocess.run(["mount", *options, str(self.image), str(self.folder)], check=False)
        if done.returncode:
            pytest.skip("this machine does not let us mount a file")

    def fail(self) -> None:
        """Tell the kernel of an error on it: from now on it is read-only, files that are open for writing too."""
        device = os.stat(self.folder).st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        trigger = Path(f"/sys/fs/ext4/{name}/trigger_fs_error")
        if not trigger.exists():
            pytest.skip("this kernel cannot be told of an error on a disk")
        trigger.write_text("1")
        with pytest.raises(OSError, match="Read-only"):
            (self.folder / "probe").touch()

    def mend(self) -> None:
        """Mount a repaired copy at the same place: while a file of the old one is open it stays as it is."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
        self.image = Path(shutil.copy(self.image, self.image.with_name("repaired")))
        done = subprocess.run(["e2fsck", "-fy", str(self.image)], capture_output=True, check=False)
        assert done.returncode in (0, 1), done.stdout
        self.mount()


@contextmanager
def card(tmp_path: Path) -> Iterator[Card]:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    made = Card(tmp_path / "image", tmp_path / "card")
    made.folder.mkdir()
    made.image.write_bytes(bytes(16 * MIB))
    subprocess.run(["mkfs.ext4", "-q", str(made.image)], check=True)
    made.mount()
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", str(made.folder)], check=False)


def test_a_disk_that_turns_read_only_holds_up_sources_until_it_is_mended(tmp_path):
    with card(tmp_path) as disk:
        spool = Spool.open(disk.folder / "spool", sync="full", limits=Limits(8 * MIB), on_stored=lambda: None)
        spool.writer.start()
        rng, told = random.Random(3), []
        commits = [make_commit([make_batch(n, rng)], n + 1) for n in range(30)]
        for n, commit in enumerate(commits):
            commit.done.append(lambda durable, n=n: told.append((n, durable)))
        for commit in commits[:20]:
            spool.writer.submit(commit)
        assert spool.writer.wait_below(OWNER, 1, 60)
        reader = spool.reader()
        disk.fail()
        for commit in commits[20:]:
            spool.writer.submit(commit)
        wait_for(lambda: spool.writer.condition.state == "failing", 60)
        assert told == [(n, True) for n in range(20)]
        assert len(list(reader.all_batches())) == 20, "what is there can still be read"
        disk.mend()
        begun = time.monotonic()
        wait_for(lambda: len(told) == len(commits), 60)  # the last is told after it has left the queue
        took = time.monotonic() - begun
        assert told == [(n, True) for n in range(30)]
        reader.close()
        assert spool.close()
        again = Spool.open(disk.folder / "spool", sync="full", limits=Limits(8 * MIB), on_stored=lambda: None)
        reader = again.reader()
        found = sorted(int.from_bytes(b.data[:8], "big") for b in reader.all_batches())
        assert found == list(range(30))
        assert all(equations_hold(entry) for entry in reader.ledger().values())
        reader.close()
        again.close()
        record(
            "read-only",
            "the spool's disk turned read-only by the kernel (ext4), then a repaired copy mounted in its place",
            f"{HERE} -k turns_read_only",
            1,
            recovery_s=took,
            note="30 commits, 10 of them meanwhile: those waited, what was there could be read; then all were durable",
        )


def wait_for(condition, seconds: float, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(pause)


# -- system calls that fail ----------------------------------------------------------------------------------

COMMITS = 16
WRITER = """
import random, sys
sys.path[:0] = {path!r}
from pathlib import Path
from spool_model import OWNER, make_batch, make_commit
from forebay.spool import Limits, Spool, recovery, writer
writer.RETRY_S = recovery.OPEN_AGAIN_S = (0.01, 0.01)
limits = Limits(1 << 26, segment_bytes=20_000, ballast_bytes=65_536)
spool = Spool.open(Path({folder!r}), sync="full", limits=limits, on_stored=lambda: None)
spool.writer.start()
rng = random.Random(1)
for n in range({commits}):
    commit = make_commit([make_batch(n, rng, 2000)], n + 1)
    commit.done.append(lambda ok, n=n: ok and print("durable", n, flush=True))
    spool.writer.submit(commit)
    assert spool.writer.wait_below(OWNER, 1, 30), spool.writer.condition
assert spool.close()
"""
CALLS = ("fdatasync", "pwrite64", "fsync", "ftruncate", "rename", "unlink")


@dataclass
class Traced:
    """What became of a writer whose system calls failed. `code`: of the process, negative if a signal ended it."""

    folder: Path
    told: set[int]
    code: int
    errors: str


def run_under(tmp_path: Path, *options: str) -> Traced:
    """Run a writer in a child under strace."""
    folder = tmp_path / "spool"
    path = [str(Path(__file__).parent), *filter(None, sys.path)]
    text = WRITER.format(path=path, folder=str(folder), commits=COMMITS)
    command = ["strace", "-f", "-qq", *options, sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    lines = done.stdout.decode().splitlines()
    told = {int(line.split()[1]) for line in lines if line.startswith("durable")}
    return Traced(folder, told, done.returncode, done.stderr.decode()[-3000:])


def fail(tmp_path: Path, call: str, fault: str, when: int) -> Traced:
    """Run a writer whose threads fail at their n-th call of a kind."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={when}"]
    return run_under(tmp_path, "-o", "/dev/null", *inject)


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> dict[str, int]:
    """Return how many calls of each kind the busiest thread makes when nothing fails: strace counts by thread."""
    if not traceable():
        pytest.skip("strace is missing or may not trace")
    folder = tmp_path_factory.mktemp("dry")
    trace = folder / "trace"
    done = run_under(folder, "-o", str(trace), "-e", f"trace={','.join(CALLS)}")
    assert done.code == 0, done.errors
    assert done.told == set(range(COMMITS))
    return busiest(trace, CALLS)


def check_traced(traced: Traced, fault: str) -> None:
    """Assert that what was told durable is there once, that the books agree, and that no error stopped the writer."""
    rng = random.Random(1)
    account = Account({n: make_batch(n, rng, 2000) for n in range(COMMITS)}, commits=COMMITS)
    if "error" in fault:
        assert traced.code == 0, traced.errors
        assert traced.told == set(range(COMMITS))
    else:
        assert traced.code == -9, traced.errors
    outcome = examine(traced.folder, account)
    assert traced.told <= outcome.delivered, f"told and not there: {sorted(traced.told - outcome.delivered)}"
    under_way = set(range(max(traced.told, default=-1) + 2))
    assert outcome.delivered - traced.told <= under_way, "more than the one under way"
    assert outcome.told == 0
    assert int(outcome.position or b"0") == len(outcome.delivered)


FAULTS = ("error=EIO", "error=ENOSPC", "signal=KILL")


def sweep(tmp_path: Path, call: str, fault: str, numbers: Iterable[int]) -> int:
    """Fail each of these calls in a run of its own; return how many there were."""
    tried = list(numbers)
    for when in tried:
        folder = tmp_path / f"{call}-{fault}-{when}"
        folder.mkdir()
        try:
            check_traced(fail(folder, call, fault, when), fault)
        except AssertionError as error:
            raise AssertionError(f"{call}:{fault}:when={when}: {error}") from error
        shutil.rmtree(folder)
    return len(tried)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_failing_system_call_loses_nothing_and_the_writer_goes_on(tmp_path, calls, call, fault):
    sweep(tmp_path, call, fault, [calls[call] // 2])


def _name(fault: str) -> str:
    return fault.partition("=")[2]


def keep(call: str, fault: str, count: int, which: str, of: str = "") -> None:
    """Keep what a sweep has found: nothing, or it would not have come here."""
    goes_on = (
        "the writer went on by itself, all were durable" if "error" in fault else "the writer died each time"
    )
    record(
        f"syscall-{_name(fault).lower()}-{call}",
        f"{_name(fault)} at the n-th `{call}` of a thread of the spool{of}",
        f"{'FOREBAY_SWEEP=' + str(MOST_PLACES) + ' ' if of else ''}{HERE} -m {which}",
        count,
        note=f"{COMMITS} commits each; {goes_on}",
    )


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_sweep_of_failing_system_calls(tmp_path, calls, call, fault):
    most = calls[call]
    places = sorted({1, 2, most // 3, most // 2, most} & set(range(1, most + 1)))
    keep(
        call, fault, sweep(tmp_path, call, fault, places), f"slow -k 'a_sweep and {call} and {_name(fault)}'"
    )


@pytest.mark.torture
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_every_system_call_fails_once(tmp_path, calls, call, fault):
    numbers = range(1, calls[call] + 1)
    if len(numbers) > MOST_PLACES:
        numbers = sorted(random.Random(SEED).sample(numbers, MOST_PLACES))
    count = sweep(tmp_path, call, fault, numbers)
    of = ", for every n" if count == calls[call] else f", for {count} of {calls[call]} n (FOREBAY_SWEEP)"
    keep(call, fault, count, f"torture -k 'every_system_call and {call} and {_name(fault)}'", of)
