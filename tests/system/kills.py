"""kill -9 of agent and receiver in the middle of a run, and a check of what then stands in the sink.

The kills must really fall into the run, so they are tied to its progress: the agent's to the number of rows
that its spool has taken, the receiver's to the number of rows in the sink. After each, some of the restarted
processes are killed again after a few milliseconds, while they start and recover. A run that is over before
its kills were spent proves nothing: it is void, and must be made again from the start.

The checks use sqlite3 and the numbers of `forebay status`, nothing else of the product.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import planted
from plant import Plant, kill, rows_of

FIELDS = ("id", "temperature", "pressure", "state", "note")
START_NS = 1_700_000_000_000_000_000


def source_rows(count: int, seed: int) -> list[tuple[Any, ...]]:
    """Return rows (time ns, id, temperature, pressure, state, note), some cells null."""
    rng = random.Random(seed)
    temperature, rows = 20.0, []
    for number in range(count):
        temperature = round(temperature + rng.gauss(0, 0.05), 2)
        row = (
            START_NS + number * 20_000_000,
            number,
            temperature if rng.random() > 0.01 else None,
            101_325 + rng.randrange(-400, 400),
            rng.random() < 0.9,
            f"batch {rng.randrange(40)}" if rng.random() > 0.05 else None,
        )
        rows.append(row)
    return rows


def csv_head(*, canaries: bool = False) -> str:
    """Return the first line of a source."""
    return ",".join(["ts", *FIELDS, *([planted.NAME] if canaries else [])]) + "\n"


def csv_line(row: tuple[Any, ...], *, canaries: bool = False) -> str:
    """Return a source row with its time in ms, `canaries`: and an identifier in a field more."""
    time_ns, *cells = row
    texts = ["" if c is None else str(c).lower() if isinstance(c, bool) else str(c) for c in cells]
    texts += [planted.cell(cells[0])] if canaries else []
    return f"{time_ns // 1_000_000}," + ",".join(texts) + "\n"


def write_csv(path: Path, rows: Sequence[tuple[Any, ...]], *, canaries: bool = False) -> None:
    """Write a source."""
    with path.open("w", encoding="utf-8") as file:
        file.write(csv_head(canaries=canaries))
        file.writelines(csv_line(row, canaries=canaries) for row in rows)


@dataclass(frozen=True, slots=True)
class Kills:
    """How often which process is killed, from which seed. `again`: share that is killed while starting."""

    agent: int
    receiver: int
    seed: int
    again: float = 0.25


@dataclass(slots=True)
class Report:
    """What happened."""

    kills: dict[str, int]
    starting: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.kills['agent']} kills of the agent, {self.kills['receiver']} of the receiver"
            f" ({self.starting} of them while starting) in {self.seconds:.0f} s"
        )


class VoidRun(Exception):
    """The run was over before its kills were spent."""


class Torture:
    """Runs `forebay run --once` to its end under kills."""

    def __init__(self, plant: Plant, stream: str, total: int, plan: Kills) -> None:
        self.plant, self.stream, self.total, self.plan = plant, stream, total, plan
        self.rng = random.Random(plan.seed)
        self.report = Report({"agent": 0, "receiver": 0}, 0, 0.0)
        self._agent: subprocess.Popen[bytes] | None = None

    def run(self, timeout: float) -> Report:
        """Kill as planned, restart each time, wait for exit code 0."""
        begun = time.monotonic()
        marks = {who: self._marks(getattr(self.plan, who)) for who in ("agent", "receiver")}
        self.plant.start_receiver()
        self._agent = self.plant.start_agent("--once")
        while (code := self._agent.poll()) is None:
            assert time.monotonic() - begun < timeout, f"not done in time: {self.report}, {self.progress()}"
            progress = self.progress()
            for who, left in marks.items():
                if left and progress[who] >= left[0]:
                    left.pop(0)
                    self._strike(who, left)
            time.sleep(0.0005)
        assert code == 0, (code, self.plant.log()[-3000:])
        if any(marks.values()):
            raise VoidRun(f"the run was over before its kills were spent: {marks}")
        self.report.seconds = time.monotonic() - begun
        return self.report

    def _marks(self, count: int) -> list[int]:
        """Return row numbers at which to kill, spread over the first nine tenths of the run."""
        width = 0.9 * self.total / max(count, 1)
        return [int((i + self.rng.random()) * width) for i in range(count)]

    def _strike(self, who: str, left: list[int]) -> None:
        time.sleep(self.rng.random() * 0.02)
        self._kill(who)
        while left and self.rng.random() < self.plan.again:
            left.pop(self.rng.randrange(len(left)))
            self._restart(who, wait=False)
            # Short: what has started goes through thousands of rows in a tenth of a second.
            time.sleep(self.rng.uniform(0.02, 0.3))
            self.report.starting += 1
            self._kill(who)
        self._restart(who, wait=False)

    def _kill(self, who: str) -> None:
        child = self._agent if who == "agent" else self.plant.receiver
        assert child is not None
        if child.poll() is None:
            kill(child)
        else:  # only the agent may have ended, and only because all is delivered
            assert (who, child.returncode) == ("agent", 0), self.plant.log(who)[-3000:]
        self.report.kills[who] += 1

    def _restart(self, who: str, *, wait: bool) -> None:
        if who == "agent":
            self._agent = self.plant.start_agent("--once")
        else:
            self.plant.start_receiver(wait=wait)

    def progress(self) -> dict[str, int]:
        """Return the rows that the spool has taken and the rows in the sink (readings scaled for the former)."""
        return {"agent": _taken(self.plant), "receiver": _stored(self.plant.sink, self.stream)}


def _taken(plant: Plant) -> int:
    """Return how many rows of the source the spool has committed: each has an id, and `read` counts readings."""
    try:
        rows = rows_of(plant.segment, "SELECT sum(readings) FROM ledger WHERE kind = 'read'")
    except sqlite3.Error:  # being recovered
        return -1
    return (rows[0][0] or 0) // len(FIELDS) if rows else 0


def _stored(sink: Path, stream: str) -> int:
    try:
        rows = rows_of(sink, "SELECT sum(rows) FROM batches WHERE stream = ?", stream)
    except sqlite3.Error:
        return -1
    return (rows[0][0] or 0) if rows else 0


# -- what must then be true --------------------------------------------------------------------------------


def sink_rows(plant: Plant, stream: str, fields: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the sink's rows in the order of (epoch, seq)."""
    columns = ", ".join(f'"{name}"' for name in ("time", *fields))
    return rows_of(plant.sink, f'SELECT {columns} FROM "{stream}" ORDER BY epoch, seq, rowid')


def check_sink(plant: Plant, stream: str, expected: Sequence[tuple[Any, ...]], fields: Sequence[str]) -> None:
    """Assert that the sink holds exactly these rows, in order, none twice, under numbers without a hole."""
    stored = sink_rows(plant, stream, fields)
    assert len(stored) == len(expected), f"{len(stored)} rows stored, {len(expected)} sent"
    if stored != list(expected):
        place = next(i for i, pair in enumerate(zip(stored, expected, strict=True)) if pair[0] != pair[1])
        raise AssertionError(f"row {place}: stored {stored[place]}, sent {expected[place]}")
    check_numbers(plant)


def check_numbers(plant: Plant) -> None:
    """Assert that each epoch's numbers run from 1 without a hole, and that batches say what tables hold."""
    epochs: dict[tuple[str, int], list[int]] = {}
    for gateway, epoch, seq in rows_of(plant.sink, "SELECT gateway, epoch, seq FROM batches"):
        epochs.setdefault((gateway, epoch), []).append(seq)
    for key, numbers in epochs.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), f"numbers of {key}: {sorted(numbers)}"
    marks = rows_of(plant.sink, "SELECT gateway, epoch, mark, above FROM marks WHERE mark > 0 OR above <> ''")
    assert sorted(marks) == sorted((*key, len(numbers), "") for key, numbers in epochs.items())
    assert rows_of(plant.sink, "SELECT count(*) FROM gaps") == [(0,)]
    assert rows_of(plant.sink, "SELECT count(*) FROM unplaced") == [(0,)]
    for stream, rows in rows_of(plant.sink, "SELECT stream, sum(rows) FROM batches GROUP BY stream"):
        assert rows_of(plant.sink, f'SELECT count(*) FROM "{stream}"') == [(rows,)]


def check_ledger(plant: Plant, stream: str) -> dict[str, Any]:
    """Assert that the ledger balances, with everything accepted delivered; return it."""
    facts = plant.status()
    assert facts["balanced"], facts
    assert facts["spool"]["pending_batches"] == 0, facts
    entry = facts["streams"][stream]
    into = (
        entry["accepted"]
        + sum(entry["filtered"].values())
        + entry["guarded"]
        + sum(entry["rejected"].values())
    )
    assert entry["read"] == into
    assert entry["accepted"] == entry["delivered"]
    assert not any(entry[kind] for kind in ("evicted", "dead_lettered", "quarantined")), entry
    (stored,) = rows_of(plant.sink, "SELECT sum(readings) FROM batches WHERE stream = ?", stream)[0]
    assert stored == entry["delivered"]
    return entry
