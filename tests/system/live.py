"""A running agent that follows a file which the test writes, so that faults always meet data on its way."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from invariants import Verdict, judge
from kills import FIELDS, csv_head, csv_line, source_rows
from plant import Plant, kill, rows_of

PIPELINE = """
sources:
  pump: {type: file, path: pump.csv, format: csv, follow: true, time: {field: ts, unit: ms}}
pipelines:
  pump: {source: pump, linger: 20ms}
"""
COLUMNS = ("id", "time", *(f for f in FIELDS if f != "id"))
WAIT_S = 120.0  # a loaded machine; nothing waits for it when all is well


class Live:
    """Source, agent, receiver and the judge of one run."""

    def __init__(
        self,
        plant: Plant,
        rows: int,
        seed: int,
        *,
        forward: str = "",
        spool: str = "",
        canaries: bool = False,
    ) -> None:
        self.plant, self.rows, self.canaries = plant, source_rows(rows, seed), canaries
        self.source = plant.folder / "pump.csv"
        self.source.write_text(csv_head(canaries=canaries), encoding="utf-8")
        self.written = 0
        plant.configure(PIPELINE, window=4, spool=spool)
        if forward:
            with (plant.folder / "agent.yaml").open("a", encoding="utf-8") as file:
                file.write(forward)

    def write(self, count: int) -> None:
        """Append rows to the source, whole lines at once."""
        part = self.rows[self.written : self.written + count]
        with self.source.open("a", encoding="utf-8") as file:
            file.write("".join(csv_line(row, canaries=self.canaries) for row in part))
        self.written += len(part)

    def stored(self) -> int:
        """Return the rows in the sink."""
        try:
            rows = rows_of(self.plant.sink, "SELECT total(rows) FROM batches WHERE stream = 'pump'")
        except sqlite3.Error:
            return -1
        return int(rows[0][0]) if rows else 0

    def wait_stored(self, count: int | None = None, timeout: float = WAIT_S) -> float:
        """Wait until so many rows (all that were written) are in the sink; return how long it took."""
        wanted = self.written if count is None else count
        return wait_until(
            lambda: self.stored() >= wanted,
            lambda: f"{self.stored()} of {wanted} rows: {self.plant.log()[-1500:]}",
            timeout,
        )

    def judge(self) -> Verdict:
        """Compare source and sink."""
        sent = [(number, time_ns, *rest) for time_ns, number, *rest in self.rows[: self.written]]
        return judge(self.plant.sink, "pump", sent, COLUMNS)

    def end(self) -> Verdict:
        """Stop agent and receiver and return the verdict, having asserted that it is good."""
        for child in self.plant.children:
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.terminate()
        for child in self.plant.children:
            try:
                child.wait(30)
            finally:
                kill(child)
        verdict = self.judge()
        assert verdict.ok, (str(verdict), self.plant.log()[-2000:], self.plant.log("receiver")[-2000:])
        return verdict


def wait_until(done: Callable[[], bool], why: Callable[[], str], timeout: float = WAIT_S) -> float:
    """Wait for something that other processes do; return for how long."""
    begun = time.monotonic()
    while not done():
        assert time.monotonic() - begun < timeout, why()
        time.sleep(0.01)
    return time.monotonic() - begun


def set_endpoints(plant: Plant, ports: list[int]) -> None:
    """Let the agent's configuration name these receivers."""
    path: Path = plant.folder / "agent.yaml"
    text = path.read_text(encoding="utf-8")
    old = f'["tcp://127.0.0.1:{plant.port}"]'
    assert old in text
    path.write_text(
        text.replace(old, "[" + ", ".join(f'"tcp://127.0.0.1:{p}"' for p in ports) + "]"), encoding="utf-8"
    )
