"""Agent and receiver as child processes, watched through the agent's spool.

The receiver is started only when everything lies in the spool: so the demo shows an outage that is survived,
and the spool can be searched while it holds all that will ever be in it.
"""

from __future__ import annotations

import csv
import ctypes
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebay import child
from forebay.blocks import MAX_WAVEFORM_ROWS
from forebay.demo.folder import PHOTOS, RECORDING, TURBINES, VISITORS, Folder
from forebay.demo.search import Originals
from forebay.errors import ForebayError, SpoolError
from forebay.spool import Reader, segment_path
from forebay.spool.schema import connect
from forebay.wire.columns import decode_columns
from forebay.wire.envelope import Envelope
from forebay.wire.schema import parse_schema

POLL_S = 0.1
STALLED_S = 15.0  # no row more in the spool for so long: go on, the checks will say what is missing
STOP_S = 10.0
LOG_LINES = 3  # of a child that failed, shown to the user
_PR_SET_PDEATHSIG = 1
_MAX_DECODED_BYTES = 1 << 30

Report = Callable[[str, float, str], None]
"""Called with the phase, the share done 0..1, and a few words."""


@dataclass(slots=True)
class Expected:
    """What the input files hold, counted here and not by the agent: rows and readings by stream."""

    rows: dict[str, int] = field(default_factory=dict)
    readings: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """What happened."""

    agent_exit: int
    expected: Expected
    held_rows: int  # rows in the spool while the receiver was down
    found_in_spool: set[bytes]  # originals found there, in its files and in its decoded batches
    seconds: dict[str, float]  # by phase


class Child:
    """One `forebay` process; its output goes to a log file."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                child.command("forebay", *command),
                env=child.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            )

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End the process: politely, then not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def last_words(self) -> str:
        """Return the end of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-LOG_LINES:])


def _end_with_parent() -> None:
    # In the child before exec: even a demo that is killed with -9 leaves no process behind (Linux).
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def count_input(folder: Folder) -> Expected:
    """Count rows and readings of the input files."""
    expected = Expected()
    with (folder.input / RECORDING).open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        cells = [sum(1 for k, v in row.items() if v and k not in ("ts", "turbine")) for row in table]
    expected.rows[TURBINES], expected.readings[TURBINES] = len(cells), sum(cells)
    lines = folder.records.lines
    expected.rows[VISITORS] = len(lines)
    expected.readings[VISITORS] = sum(len(json.loads(line)) - 1 for line in lines)
    if folder.with_photos:
        expected.rows[PHOTOS] = len(folder.photos())
        expected.readings[PHOTOS] = 2 * len(folder.photos())  # the file's name is a reading as well
    return expected


def play(folder: Folder, originals: Originals, report: Report) -> Run:
    """Run the road once. Raises ForebayError when a process does not do its part."""
    expected = count_input(folder)
    seconds: dict[str, float] = {}
    with _children() as children:
        with _timed(seconds, "into the spool"):
            agent = Child(["run", str(folder.agent), "--once"], folder.logs / "agent.log")
            children.append(agent)
            held = _fill(folder, agent, sum(expected.rows.values()), report)
        report("searching the spool", 0.0, f"for {len(originals):,} originals")
        with _timed(seconds, "search of the spool"):
            found = originals.find_in([folder.spool]) | _find_in_batches(folder.spool, originals)
        with _timed(seconds, "delivery"):
            receiver = Child(["receive", str(folder.receiver)], folder.logs / "receiver.log")
            children.append(receiver)
            _deliver(folder, agent, receiver, report)
    agent_exit = agent.poll()
    return Run(-1 if agent_exit is None else agent_exit, expected, held, found, seconds)


@contextmanager
def _children() -> Iterator[list[Child]]:
    children: list[Child] = []
    try:
        yield children
    finally:
        for child in children:
            child.stop()


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[phase] = round(time.monotonic() - start, 2)


def _fill(folder: Folder, agent: Child, rows: int, report: Report) -> int:
    """Wait until the spool holds all rows; return how many it holds."""
    held, moved = 0, time.monotonic()
    while held < rows and time.monotonic() - moved < STALLED_S:
        if agent.poll() is not None:
            raise ForebayError(f"the agent ended early: {agent.last_words()}", hint=f"see {folder.logs}")
        before, held = held, _waiting(folder.spool)
        if held != before:
            moved = time.monotonic()
        report("into the spool, no link", held / rows, f"{held:,} rows")
        time.sleep(POLL_S)
    return held


def _waiting(spool: Path) -> int:
    """Return the rows that wait; alarms, which the agent makes itself, do not count."""
    path = segment_path(spool)
    if not path.exists():
        return 0
    try:
        db = connect(path, read_only=True)
    except sqlite3.Error:
        return 0  # being made
    try:
        query = "SELECT total(rows) FROM batch WHERE stream NOT LIKE '%\\_alarms' ESCAPE '\\'"
        return int(db.execute(query).fetchone()[0])
    except sqlite3.Error:
        return 0
    finally:
        db.close()


def _find_in_batches(spool: Path, originals: Originals) -> set[bytes]:
    """Decode every waiting batch and search its text: compressed, it would hide from a search of the file."""
    found: set[bytes] = set()
    reader = Reader(segment_path(spool))
    try:
        for batch in reader.all_batches():
            schema = parse_schema(reader.bodies([batch.schema_id])[batch.schema_id])
            block = decode_columns(
                Envelope.unpack(batch.data).payload,
                schema,
                max_rows=MAX_WAVEFORM_ROWS,
                max_bytes=_MAX_DECODED_BYTES,
            )
            for column in block.columns:
                if column.offsets is not None:
                    found |= originals.find(column.values.tobytes())
    finally:
        reader.close()
    return found


def _deliver(folder: Folder, agent: Child, receiver: Child, report: Report) -> None:
    """Wait until the agent has ended, which it does when all is acknowledged or cannot be."""
    while agent.poll() is None:
        if receiver.poll() is not None:
            raise ForebayError(f"the receiver ended: {receiver.last_words()}", hint=f"see {folder.logs}")
        delivered, accepted = _delivered(folder.spool)
        share = delivered / accepted if accepted else 0.0
        report("delivery", share, f"{delivered:,} of {accepted:,} readings acknowledged")
        time.sleep(POLL_S)


def _delivered(spool: Path) -> tuple[int, int]:
    try:
        entries = read_ledger(spool).values()
    except (SpoolError, sqlite3.Error):
        return 0, 0
    return sum(e["delivered"] for e in entries), sum(e["accepted"] for e in entries)


def read_ledger(spool: Path) -> dict[str, dict[str, Any]]:
    """Return the agent's ledger by stream."""
    reader = Reader(segment_path(spool))
    try:
        return reader.ledger()
    finally:
        reader.close()
