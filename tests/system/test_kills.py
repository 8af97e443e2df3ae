"""kill -9 of agent and receiver, at random, through the command line: nothing lost, nothing twice.

The long runs are marked slow; the environment makes them longer still:
FOREBAY_KILLS (50 each), FOREBAY_KILL_ROWS (40000, of five readings), FOREBAY_KILL_SEED.
"""

from __future__ import annotations

import os
import time

import pytest
from kills import (
    FIELDS,
    Kills,
    Report,
    Torture,
    VoidRun,
    check_ledger,
    check_sink,
    sink_rows,
    source_rows,
    write_csv,
)
from plant import Plant, kill

KILLS = int(os.environ.get("FOREBAY_KILLS", "50"))
ROWS = int(os.environ.get("FOREBAY_KILL_ROWS", "40000"))
SEED = int(os.environ.get("FOREBAY_KILL_SEED", str(time.time_ns() % 1_000_000)))  # printed with the outcome

VOID_RUNS = 5

PLAIN = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump: {source: pump, linger: 20ms}
"""

STATEFUL = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump:
    source: pump
    linger: 20ms
    steps:
      - deadband: {fields: [temperature, pressure], absolute: 0.12, max_silence: 2s}
      - hampel: {field: temperature, window: 7, action: mark}
      - window: {fields: [temperature, pressure], size: 37, stats: [mean, min, max, count, last], keep: true}
      - deadband: {field: state, absolute: 0}
"""


def torture(plant: Plant, config: str, rows: int, kills: int, timeout: float) -> list[tuple]:
    """Run under kills; return the source's rows."""
    sent = source_rows(rows, SEED)
    write_csv(plant.folder / "pump.csv", sent)
    plant.configure(config, window=1)  # stop and wait: the run lasts long enough to be killed in
    outcome = kill_until_valid(plant, rows, kills, timeout)
    print(f"seed {SEED}: {outcome}")
    plant.cli("spool", "verify", "spool")
    return sent


def kill_until_valid(plant: Plant, rows: int, kills: int, timeout: float) -> Report:
    """Run until all kills fell into the run; three runs that were over too early are a failure."""
    for attempt in range(VOID_RUNS):
        try:
            return Torture(plant, "pump", rows, Kills(kills, kills, SEED + attempt)).run(timeout)
        except VoidRun as void:
            print(f"seed {SEED + attempt}: {void}")
            plant.reset()
    raise AssertionError(f"{VOID_RUNS} runs were over before their kills were spent")


def undisturbed(tmp_path, config: str) -> Plant:
    """Run the same source without a kill in a plant of its own."""
    plant = Plant(tmp_path / "quiet")
    write_csv(plant.folder / "pump.csv", source_rows(ROWS_OF[config], SEED))
    plant.configure(config)
    try:
        plant.start_receiver()
        plant.once()
        plant.stop_receiver()
    finally:
        plant.close()
    return plant


ROWS_OF: dict[str, int] = {}
WINDOW_FIELDS = [
    f"{f}_{s}" for f in ("temperature", "pressure") for s in ("mean", "min", "max", "count", "last")
]


def check_plain(plant: Plant, sent: list[tuple]) -> None:
    check_sink(plant, "pump", sent, FIELDS)
    entry = check_ledger(plant, "pump")
    assert entry["read"] == entry["accepted"] == sum(c is not None for row in sent for c in row[1:])


def check_stateful(plant: Plant, quiet: Plant) -> None:
    expected = sink_rows(quiet, "pump", FIELDS)
    assert 0 < len(expected) <= ROWS_OF[STATEFUL]
    check_sink(plant, "pump", expected, FIELDS)
    windows = sink_rows(quiet, "pump_window", WINDOW_FIELDS)
    assert windows
    assert sink_rows(plant, "pump_window", WINDOW_FIELDS) == windows
    for stream in ("pump", "pump_window"):
        mine, theirs = check_ledger(plant, stream), check_ledger(quiet, stream)
        assert mine == theirs


def test_rows_survive_kills_of_agent_and_receiver(plant):
    sent = torture(plant, PLAIN, 8_000, 2, 90)
    check_plain(plant, sent)


def test_step_state_and_position_commit_together(plant, tmp_path):
    ROWS_OF[STATEFUL] = 12_000
    torture(plant, STATEFUL, 12_000, 5, 90)
    check_stateful(plant, undisturbed(tmp_path, STATEFUL))


@pytest.mark.slow
def test_rows_survive_fifty_kills_of_each(plant):
    sent = torture(plant, PLAIN, ROWS, KILLS, 60 + 10 * KILLS)
    check_plain(plant, sent)


@pytest.mark.slow
def test_step_states_survive_fifty_kills_of_each(plant, tmp_path):
    ROWS_OF[STATEFUL] = ROWS
    torture(plant, STATEFUL, ROWS, KILLS, 60 + 10 * KILLS)
    check_stateful(plant, undisturbed(tmp_path, STATEFUL))


def test_sigterm_ends_a_run_in_time_and_the_next_one_completes_it(plant):
    sent = source_rows(20_000, SEED)
    write_csv(plant.folder / "pump.csv", sent)
    plant.configure(PLAIN, window=1)
    plant.start_receiver()
    child = plant.start_agent()
    deadline = time.monotonic() + 60
    while not sink_rows(plant, "pump", ("id",)) and time.monotonic() < deadline:
        time.sleep(0.002)
    begun = time.monotonic()
    child.terminate()
    try:
        assert child.wait(30) == 0, plant.log()[-2000:]
    finally:
        kill(child)
    assert time.monotonic() - begun < 30
    first = plant.status()
    assert first["balanced"]
    assert first["running"] is False
    plant.once()
    check_plain(plant, sent)


@pytest.mark.slow
def test_sigterm_of_the_receiver_loses_nothing(plant):
    sent = source_rows(20_000, SEED)
    write_csv(plant.folder / "pump.csv", sent)
    plant.configure(PLAIN, window=1)
    plant.start_receiver()
    child = plant.start_agent("--once")
    for _ in range(3):
        plant.stop_receiver()
        plant.start_receiver()
    try:
        assert child.wait(60) == 0, plant.log()[-2000:]
    finally:
        kill(child)
    check_plain(plant, sent)
