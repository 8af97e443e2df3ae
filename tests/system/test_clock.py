"""Wrong wall clocks of a running agent: nothing lost, doubled or reordered; the center knows the true times.

A small library, compiled by the test and loaded with LD_PRELOAD, shifts CLOCK_REALTIME of the agent's process.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from live import Live, wait_until
from plant import rows_of
from results import record

YEAR_S = 365 * 86_400
HERE = ".venv/bin/python -m pytest tests/system/test_clock.py"


class Shift:
    """The agent's wall clock."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.path = folder / "clock-offset"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "SHIM_OFFSET": str(self.path)}

    def set(self, seconds: float, *, synced: bool = True) -> None:
        """Jump."""
        partial = self.path.with_suffix(".new")
        partial.write_text(f"{int(seconds)} {int(synced)}\n")
        partial.replace(self.path)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    built = tmp_path_factory.mktemp("shim") / "clock_shim.so"
    source = Path(__file__).with_name("clock_shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, source], check=True)
    assert ctypes.CDLL(str(built)).clock_gettime
    return built


@pytest.fixture
def shift(plant, library) -> Shift:
    made = Shift(plant.folder, library)
    plant.environment |= made.environment
    return made


def marks_of_time(plant) -> list[tuple[str, int]]:
    """Return clock state and year of the batches, in the order of their numbers."""
    query = "SELECT clock, wall_time FROM batches WHERE stream = 'pump' ORDER BY epoch, seq"
    return [(state, time.gmtime(wall // 10**9).tm_year) for state, wall in rows_of(plant.sink, query)]


@pytest.mark.parametrize(("name", "years"), [("back", -10), ("forward", 10)])
def test_a_clock_that_jumps_ten_years_changes_no_order_and_loses_nothing(plant, shift, name, years):
    live = Live(plant, 3_000, 5)
    plant.start_receiver()
    plant.start_agent()
    live.write(1_000)
    live.wait_stored()
    shift.set(years * YEAR_S)
    live.write(1_000)
    live.wait_stored()
    shift.set(0)
    live.write(1_000)
    live.wait_stored()
    verdict = live.end()
    now = time.gmtime().tm_year
    seen = [year for _, year in marks_of_time(plant)]
    assert {now, now + years} <= {*seen, *(y + 1 for y in seen), *(y - 1 for y in seen)}
    record(
        f"clock-{name}",
        f"gateway's clock set {name} 10 years, then right",
        f"{HERE} -k {name}",
        1,
        verdict,
    )


def test_a_clock_that_starts_in_1970_and_is_then_set_is_corrected_at_the_center(plant, shift):
    live = Live(plant, 2_000, 5)
    text = (plant.folder / "agent.yaml").read_text()
    text = text.replace(
        "pipelines:\n",
        "  own: {type: system, every: 1s, metrics: [cpu]}\npipelines:\n  own: {source: own, linger: 50ms}\n",
    )
    (plant.folder / "agent.yaml").write_text(text)
    true_offset = -time.time() + 60  # 60 s after the epoch
    shift.set(true_offset, synced=False)
    plant.start_receiver()
    plant.start_agent()
    live.write(1_000)
    live.wait_stored()
    wait_until(lambda: bool(rows_of(plant.sink, "SELECT 1 FROM own")), lambda: plant.log()[-2000:])
    before = time.time_ns()
    shift.set(0, synced=True)  # NTP has answered
    live.write(1_000)
    live.wait_stored()
    after = time.time_ns()
    own = _wait_for_own(plant)
    verdict = live.end()
    assert {"unsynced", "synced"} <= {state for state, _ in marks_of_time(plant)}
    wrong = [(t, corrected) for t, corrected, state in own if state != "synced" and t < 10**18]
    assert wrong, own
    for stamped, corrected in wrong:
        assert time.gmtime(stamped // 10**9).tm_year == 1970  # the original is kept
        # The corrected time is when it was really measured; the shim counts whole seconds.
        assert before - 180 * 10**9 < corrected < after
        assert abs((corrected - stamped) + int(true_offset) * 10**9) < 3 * 10**9
    record(
        "clock-1970",
        "gateway boots in 1970, then NTP sets its clock",
        f"{HERE} -k 1970",
        1,
        verdict,
        note=f"{len(wrong)} readings of 1970 corrected in the view, originals kept",
    )


def _wait_for_own(plant) -> list[tuple[int, int, str]]:
    """Return time, corrected time and clock state of the system source's rows, once some were synced."""
    query = (
        "SELECT c.time, c.corrected_time, b.clock FROM own_corrected c"
        " JOIN batches b USING (gateway, epoch, seq) WHERE c.corrected_time IS NOT NULL"
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = rows_of(plant.sink, query)
        if any(state == "synced" for *_, state in rows):
            return rows
        time.sleep(0.05)
    raise AssertionError(rows_of(plant.sink, "SELECT boot, wall_time, monotonic, clock FROM boots"))
