"""kill -9 hundreds of times at random, of agent and receiver; judged without product code.

FOREBAY_TORTURE_KILLS (250 of each), FOREBAY_TORTURE_ROWS, FOREBAY_KILL_SEED.
"""

from __future__ import annotations

import os

import planted
import pytest
from invariants import Verdict, judge
from kills import Kills, Torture, source_rows, write_csv
from live import COLUMNS
from plant import Plant
from results import record

SEED = int(os.environ.get("FOREBAY_KILL_SEED", "20262"))
KILLS = int(os.environ.get("FOREBAY_TORTURE_KILLS", "250"))
ROWS = int(os.environ.get("FOREBAY_TORTURE_ROWS", str(400 * KILLS)))
HERE = ".venv/bin/python -m pytest tests/system/test_kill_torture.py"
CONFIG = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump: {source: pump, linger: 20ms}
"""


def judged(plant: Plant, sent: list[tuple]) -> Verdict:
    rows = [(number, time_ns, *rest) for time_ns, number, *rest in sent]
    verdict = judge(plant.sink, "pump", rows, COLUMNS)
    assert verdict.ok, (str(verdict), plant.log()[-2000:])
    return verdict


@pytest.mark.torture
def test_five_hundred_kills_at_random_lose_and_double_nothing(plant):
    sent = source_rows(ROWS, SEED)
    write_csv(plant.folder / "pump.csv", sent, canaries=True)
    plant.configure(CONFIG, window=1)
    report = Torture(plant, "pump", ROWS, Kills(KILLS, KILLS, SEED)).run(60 + 20 * KILLS)
    verdict = judged(plant, sent)
    plant.close()
    size = planted.check(plant)
    record(
        "kill-random",
        f"kill -9 at random: agent {report.kills['agent']}, receiver {report.kills['receiver']} times",
        f"FOREBAY_TORTURE_KILLS={KILLS} {HERE} -m torture -k at_random",
        sum(report.kills.values()),
        verdict,
        note=f"{report.starting} of them while starting; {report.seconds:.0f} s; {verdict.sent} rows sent,"
        f" {verdict.stored} stored; no identifier in {size / 1e6:.0f} MB left behind",
    )
