"""What a spool of 1 GiB costs: how long its verification takes, and what is written to the disk for a stored byte.

FOREBAY_COST_MIB (1024 in the long run, 24 in the short one).
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import time
from pathlib import Path

import pytest
from plant import FOREBAY
from results import record
from spool_model import MIB, OWNER, make_batch, make_commit

from forebay.spool import Limits, Spool

SIZE = int(os.environ.get("FOREBAY_COST_MIB", "1024"))
BATCH = 32 * 1024  # half to all of it: what 1,000 rows of several fields take
HERE = ".venv/bin/python -m pytest tests/system/test_spool_cost.py"


def written_bytes() -> int:
    """Return what this process has had written to disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def fill(folder: Path, size: int) -> tuple[int, int]:
    """Fill a spool through its writer; return the bytes stored and the bytes written."""
    spool = Spool.open(folder, sync="full", limits=Limits(4 * size), on_stored=lambda: None)
    spool.writer.start()
    rng, stored, number = random.Random(1), 0, 0
    begun = written_bytes()
    while stored < size:
        batch = make_batch(number, rng, BATCH)
        spool.writer.submit(make_commit([batch], number + 1))
        assert spool.writer.wait_below(OWNER, 4, 120)
        number, stored = number + 1, stored + len(batch.data)
    assert spool.close()
    return stored, written_bytes() - begun


def verify(folder: Path) -> tuple[float, float]:
    """Run `forebay spool verify`; return seconds of the clock and of the processor."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [FOREBAY, "spool", "verify", str(folder)], check=True, stdout=subprocess.DEVNULL, timeout=600
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - begun, spent


@pytest.mark.slow
def test_a_stored_byte_costs_at_most_four_written_ones_and_verifying_finds_nothing(tmp_path):
    stored, written = fill(tmp_path / "spool", 24 * MIB)
    verify(tmp_path / "spool")
    assert written <= 4 * stored


@pytest.mark.torture
def test_a_spool_of_a_gibibyte_is_verified(tmp_path):
    stored, written = fill(tmp_path / "spool", SIZE * MIB)
    took, spent = verify(tmp_path / "spool")
    assert written <= 4 * stored
    record(
        "verify",
        f"none: `forebay spool verify` of {SIZE} MiB, and what filling it wrote",
        f"FOREBAY_COST_MIB={SIZE} {HERE} -m torture",
        1,
        note=f"verified in {took:.1f} s ({spent:.1f} CPU-s); {written / stored:.2f} bytes written for each"
        " one stored, in commits of 16 to 64 KB",
        lost=None,
        doubled=None,
    )
