"""Decides, without any of the product's code, whether a run lost, doubled, changed or reordered readings.

Reads what the source wrote (a list of rows whose first cell is a number of their own) and the sink's tables, with
sqlite3 alone. `python tests/system/invariants.py SINK.db STREAM SOURCE.csv ID_COLUMN` does it for files.
"""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path


@dataclass(slots=True)
class Verdict:
    """What was found, in rows. All but `sent`, `stored` and `in_gaps` must be 0."""

    sent: int
    stored: int = 0
    in_gaps: int = 0
    lost_without_gap: int = 0
    doubled: int = 0
    changed: int = 0
    invented: int = 0
    out_of_order: int = 0
    inconsistent: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether every promise held."""
        wrong = self.lost_without_gap + self.doubled + self.changed + self.invented + self.out_of_order
        return not wrong and not self.inconsistent

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def judge(sink: Path, stream: str, sent: Sequence[Sequence[object]], columns: Sequence[str]) -> Verdict:
    """Compare the rows that were accepted, in their order, with what the sink holds.

    Parameters
    ----------
    sent : rows as the sink should hold them; the first cell is unique
    columns : the sink's columns of these cells
    """
    db = sqlite3.connect(f"{sink.absolute().as_uri()}?mode=ro", uri=True, timeout=20.0)
    try:
        return _judge(db, stream, sent, columns)
    finally:
        db.close()


def _judge(
    db: sqlite3.Connection, stream: str, sent: Sequence[Sequence[object]], columns: Sequence[str]
) -> Verdict:
    out = Verdict(len(sent))
    cells = ", ".join(f'"{c}"' for c in columns)
    there = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (stream,)).fetchone()
    rows = (
        db.execute(f'SELECT epoch, seq, {cells} FROM "{stream}" ORDER BY epoch, seq, rowid').fetchall()
        if there
        else []
    )
    out.stored = len(rows)
    truth = {row[0]: tuple(row) for row in sent}
    place = {row[0]: i for i, row in enumerate(sent)}
    counts = Counter(row[2] for row in rows)
    out.doubled = sum(n - 1 for n in counts.values())
    out.invented = sum(1 for key in counts if key not in truth)
    out.changed = sum(1 for row in rows if row[2] in truth and tuple(row[2:]) != truth[row[2]])
    order = [place[row[2]] for row in rows if row[2] in place]
    out.out_of_order = sum(1 for a, b in pairwise(order) if b <= a)
    out.in_gaps = db.execute("SELECT total(rows) FROM gaps WHERE stream = ?", (stream,)).fetchone()[0]
    out.in_gaps = int(out.in_gaps)
    missing = sum(1 for key in truth if key not in counts)
    out.lost_without_gap = max(0, missing - out.in_gaps)
    if missing < out.in_gaps:
        out.inconsistent.append(f"gaps name {out.in_gaps} rows, {missing} are missing")
    out.inconsistent += _numbers(db) + _batches(db, stream, Counter((row[0], row[1]) for row in rows))
    return out


def _numbers(db: sqlite3.Connection) -> list[str]:
    """Return what is wrong with numbers: each epoch's must be batches or gaps, from 1, without a hole."""
    closed: dict[tuple[str, int], set[int]] = {}
    for gateway, epoch, seq in db.execute("SELECT gateway, epoch, seq FROM batches"):
        closed.setdefault((gateway, epoch), set()).add(seq)
    wrong = []
    query = "SELECT gateway, epoch, seq_from, seq_to, rows FROM gaps"
    for gateway, epoch, low, high, rows in db.execute(query):
        numbers = closed.setdefault((gateway, epoch), set())
        if rows and numbers & set(range(low, high + 1)):  # `regressed` tells of numbers alone
            wrong.append(f"a gap of epoch {epoch} names a number that is stored")
        numbers |= set(range(low, high + 1))
    for (gateway, epoch), numbers in closed.items():
        if numbers != set(range(1, len(numbers) + 1)):
            wrong.append(f"numbers of epoch {epoch} have a hole that no gap names")
        marks = db.execute("SELECT mark, above FROM marks WHERE gateway = ? AND epoch = ?", (gateway, epoch))
        if marks.fetchone() != (len(numbers), ""):
            wrong.append(f"the mark of epoch {epoch} is not its last number")
    return wrong


def _batches(db: sqlite3.Connection, stream: str, rows: Counter[tuple[int, int]]) -> list[str]:
    """Return where `batches` says other row counts than the table has."""
    said = {
        (epoch, seq): count
        for epoch, seq, count in db.execute(
            "SELECT epoch, seq, rows FROM batches WHERE stream = ?", (stream,)
        )
    }
    return [
        f"batch {key}: {said.get(key)} rows said, {rows[key]} stored"
        for key in rows | said
        if said.get(key) != rows[key]
    ]


def main(sink: str, stream: str, source: str, key: str) -> int:
    """Judge files: the ids of a CSV source against a sink."""
    with Path(source).open(encoding="utf-8", newline="") as file:
        sent = [(int(row[key]),) for row in csv.DictReader(file)]
    verdict = judge(Path(sink), stream, sent, [key])
    print(verdict)
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
