"""What a run of the demo did, from the agent's ledger and the receiver's database, and what must hold of it."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.demo.folder import PHOTOS, RECORDING, TURBINES, VISITORS, Folder
from forebay.demo.road import Run, read_ledger
from forebay.demo.search import Originals
from forebay.spool.reader import equations_hold

_LOST = ("evicted", "dead_lettered", "quarantined")
_SEEN = 0.5  # correlation of a face's pixels before and after, from which on it counts as still visible

Facts = dict[str, Any]


def collect(folder: Folder, run: Run, originals: Originals) -> Facts:
    """Return the summary as one object; `checks` maps each promise to `ok` and what was found."""
    ledger = read_ledger(folder.spool)
    with closing(sqlite3.connect(folder.database)) as db:
        hits = _hits(db)
        facts: Facts = {
            "streams": {name: _stream(db, name, entry) for name, entry in ledger.items()},
            "totals": {},
            "filtered": dict(sum((Counter(e["filtered"]) for e in ledger.values()), Counter())),
            "anomalies": _alarms(db),
            "masked": {k: v for k, v in hits.items() if k in folder.records.counts or k == "name"},
            "faces_masked": hits.get("face", 0),
            "plates_masked_in_pictures": hits.get("image plate", 0),
            "generated_identifiers": dict(folder.records.counts),
            "held_rows_without_link": run.held_rows,
            "input": {"rows": run.expected.rows, "readings": run.expected.readings},
            "policy": sorted({row[0] for row in db.execute("SELECT DISTINCT policy FROM batches")}),
        }
        recording = _compare_recording(folder, db)
        facts["recording"] = recording
        facts["twice"] = _twice(db, run)
        facts["holes"] = _holes(db)
        stored = _stored(db, ledger)
        faces = _visible_faces(folder, db) if folder.with_photos else None
    for name in ("read", "filtered", "guarded", "rejected", "accepted", "delivered", "lost", "wire_bytes"):
        facts["totals"][name] = sum(s[name] for s in facts["streams"].values())
    facts["totals"]["bytes_per_reading"] = _ratio(facts["totals"]["wire_bytes"], facts["totals"]["delivered"])
    facts["search"] = _search(folder, run, originals)
    if faces is not None:
        facts["search"]["faces_visible_in_input"], facts["search"]["faces_visible_in_sink"] = faces
    facts["checks"] = _checks(facts, run, ledger, stored)
    facts["ok"] = all(check["ok"] for check in facts["checks"].values())
    return facts


def _ratio(size: int, readings: int) -> float:
    return round(size / readings, 3) if readings else 0.0


def _stream(db: sqlite3.Connection, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    query = "SELECT count(*), total(rows), total(wire_bytes) FROM batches WHERE stream = ?"
    batches, rows, size = (int(v) for v in db.execute(query, (name,)).fetchone())
    return {
        "read": entry["read"],
        "filtered": sum(entry["filtered"].values()),
        "guarded": entry["guarded"],
        "rejected": sum(entry["rejected"].values()),
        "accepted": entry["accepted"],
        "delivered": entry["delivered"],
        "lost": entry["pending"] + sum(sum(entry[kind].values()) for kind in _LOST),
        "batches": batches,
        "rows": rows,
        "wire_bytes": size,
        "bytes_per_reading": _ratio(size, entry["delivered"]),
    }


def _hits(db: sqlite3.Connection) -> dict[str, int]:
    """Return how often each class was masked; `image plate` are plates in pictures."""
    counts: Counter[str] = Counter()
    for stream, hits in db.execute("SELECT stream, hits FROM batches"):
        for rule, count in json.loads(hits).items():
            kind, _, operator = rule.partition(":")
            if operator not in ("pass", "failed", "detector_failed"):
                counts[f"image {kind}" if kind == "plate" and stream == PHOTOS else kind] += count
    return dict(counts)


def _alarms(db: sqlite3.Connection) -> dict[str, Any]:
    if not _has_table(db, f"{TURBINES}_alarms"):
        return {"alarms": 0, "scored": 0, "by_turbine": {}}
    by_turbine = db.execute(
        f"SELECT turbine, count(*) FROM {TURBINES}_alarms WHERE state = 'raised' AND turbine IS NOT NULL"
        " GROUP BY 1 ORDER BY 1"
    ).fetchall()
    (scored,) = db.execute(f"SELECT count(anomaly) FROM {TURBINES}").fetchone()
    query = f"SELECT count(*) FROM {TURBINES}_alarms WHERE state = 'raised'"
    (alarms,) = db.execute(query).fetchone()
    return {"alarms": alarms, "scored": scored, "by_turbine": dict(by_turbine)}


def _has_table(db: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return db.execute(query, (name,)).fetchone() is not None


# -- nothing lost, nothing twice ----------------------------------------------------------------------------


def _compare_recording(folder: Folder, db: sqlite3.Connection) -> dict[str, int]:
    """Compare every cell of the recording with the sink: equal, left out (null there only), or changed."""
    with (folder.input / RECORDING).open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        names = [n for n in table.fieldnames or () if n not in ("ts", "turbine")]
        given = {(r["ts"], r["turbine"]): [float(r[n]) if r[n] else None for n in names] for r in table}
    columns = ", ".join(f'"{n}"' for n in names)
    query = f"SELECT strftime('%Y-%m-%dT%H:%M:%SZ', time / 1000000000, 'unixepoch'), turbine, {columns} FROM turbines"
    counts = Counter({"cells": sum(v is not None for cells in given.values() for v in cells)})
    counts.update(equal=0, left_out=0, changed=0)
    for time, turbine, *stored in db.execute(query):
        for before, after in zip(given.pop((time, turbine), ()), stored, strict=False):
            if before is not None:
                counts["equal" if before == after else "left_out" if after is None else "changed"] += 1
    counts["rows_missing"] = len(given)
    return dict(counts)


def _twice(db: sqlite3.Connection, run: Run) -> dict[str, int]:
    """Return how many batches and rows are in the store more than once.

    Rows are told apart by what no policy nulls; and no stream may have more of them than its input.
    """
    batches = "SELECT count(*) FROM (SELECT 1 FROM batches GROUP BY gateway, epoch, seq HAVING count(*) > 1)"
    found = {"batches": int(db.execute(batches).fetchone()[0])}
    keys = {TURBINES: "time, coalesce(turbine, rowid)", VISITORS: "time", PHOTOS: "rowid"}
    for stream, rows in run.expected.rows.items():
        if _has_table(db, stream):
            query = f"SELECT total(n), total(n - 1) FROM (SELECT count(*) AS n FROM {stream} GROUP BY {keys[stream]})"
            stored, again = db.execute(query).fetchone()
            found[stream] = max(int(again), int(stored) - rows)
    return found


def _holes(db: sqlite3.Connection) -> dict[str, int]:
    """Return numbers missing below each epoch's highest one, and marks that do not stand at it."""
    missing = wrong = 0
    marks = {(g, e): (mark, above) for g, e, mark, above in db.execute("SELECT * FROM marks")}
    query = "SELECT gateway, epoch, max(seq), count(DISTINCT seq) FROM batches GROUP BY 1, 2"
    for gateway, epoch, highest, count in db.execute(query):
        missing += highest - count
        wrong += marks.get((gateway, epoch)) != (highest, "")
    (gaps,) = db.execute("SELECT count(*) FROM gaps").fetchone()
    return {"numbers": missing, "marks": wrong, "gaps": int(gaps)}


def _stored(db: sqlite3.Connection, ledger: dict[str, dict[str, Any]]) -> bool:
    """Return whether sink and ledger agree: readings by `batches`, and rows by the tables themselves."""
    for name, entry in ledger.items():
        query = "SELECT total(readings), total(rows) FROM batches WHERE stream = ?"
        readings, rows = db.execute(query, (name,)).fetchone()
        (there,) = db.execute(f'SELECT count(*) FROM "{name}"').fetchone() if rows else (0,)
        if int(readings) != entry["delivered"] or int(rows) != there:
            return False
    return True


# -- nothing personal ---------------------------------------------------------------------------------------


def _search(folder: Folder, run: Run, originals: Originals) -> dict[str, int]:
    sink = [folder.path / f"center.db{suffix}" for suffix in ("", "-wal")]
    return {
        "originals": len(originals),
        "in_input": len(originals.find_in([folder.input])),
        "in_spool": len(run.found_in_spool | originals.find_in([folder.spool])),
        "in_logs": len(originals.find_in([folder.logs])),
        "in_sink": len(originals.find_in(sink)),
    }


def _visible_faces(folder: Folder, db: sqlite3.Connection) -> tuple[int, int]:
    """Return the faces in the photographs, and how many of them can still be seen in the sink's pictures.

    Seen: the pixels of the face's box before and after correlate.
    """
    from forebay.infer.vision import load_detector
    from forebay.pictures import decode

    detector = load_detector("faces")
    stored = dict(db.execute(f"SELECT name, image FROM {PHOTOS}")) if _has_table(db, PHOTOS) else {}
    before = after = 0
    for path in folder.photos():
        original = decode(path.read_bytes())
        masked = decode(stored[path.name]) if stored.get(path.name) else None
        for x1, y1, x2, y2, _ in detector.detect(original).tolist():
            box = (slice(int(y1), int(y2)), slice(int(x1), int(x2)))
            before += _alike(original[box], original[box])
            after += masked is not None and _alike(original[box], masked[box])
    return before, after


def _alike(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> bool:
    a, b = (part.astype(np.float64).ravel() for part in (one, other))
    if a.shape != b.shape or a.std() == 0 or b.std() == 0:
        return False
    return bool(np.corrcoef(a, b)[0, 1] >= _SEEN)


# -- what must hold -----------------------------------------------------------------------------------------


def _checks(facts: Facts, run: Run, ledger: dict[str, dict[str, Any]], stored: bool) -> dict[str, Facts]:
    return dict(_each_check(facts, run, ledger, stored))


def _each_check(
    facts: Facts, run: Run, ledger: dict[str, dict[str, Any]], stored: bool
) -> Iterator[tuple[str, Facts]]:
    totals, search, recording = facts["totals"], facts["search"], facts["recording"]

    def check(ok: bool, found: str) -> Facts:
        return {"ok": ok, "found": found}

    yield "all acknowledged", check(run.agent_exit == 0, f"the agent ended with {run.agent_exit}")
    balanced = bool(ledger) and all(equations_hold(entry) for entry in ledger.values())
    yield (
        "ledger balances",
        check(balanced and stored, "read = filtered + guarded + rejected + delivered, and the sink agrees"),
    )
    lost, rejected = totals["lost"], totals["rejected"]
    whole = run.held_rows == sum(run.expected.rows.values()) and recording["rows_missing"] == 0
    yield (
        "zero lost",
        check(
            whole and not lost and not rejected and not any(facts["holes"].values()),
            f"{lost} readings lost, {rejected} rejected, {facts['holes']['numbers']} numbers missing",
        ),
    )
    yield (
        "zero twice",
        check(not any(facts["twice"].values()), f"{sum(facts['twice'].values())} batches or rows twice"),
    )
    same = recording["equal"] + recording["left_out"] == recording["cells"]
    silent = recording["left_out"] - facts["streams"][TURBINES]["filtered"]
    yield (
        "recording unchanged",
        check(
            same and recording["changed"] == 0 and silent == 0,
            f"{recording['equal']:,} of {recording['cells']:,} cells equal, {recording['left_out']:,} left out"
            f" by the deadband, {recording['changed']} changed",
        ),
    )
    leaks = {k: search[k] for k in ("in_spool", "in_logs", "in_sink", "faces_visible_in_sink") if k in search}
    yield (
        "no original found",
        check(not any(leaks.values()), ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in leaks.items())),
    )
    faces = search.get("faces_visible_in_input", 1)
    yield (
        "the search works",
        check(
            search["in_input"] == search["originals"] and faces > 0,
            f"{search['in_input']:,} of {search['originals']:,} found in the input files",
        ),
    )
