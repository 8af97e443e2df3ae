"""Keeps what fault tests measured, so that docs/reliability.md shows figures of real runs.

With FOREBAY_RESULTS=FOLDER each test writes a JSON file there; `python -m reliability_page FOLDER` renders them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from invariants import Verdict


def record(
    name: str,
    fault: str,
    command: str,
    trials: int,
    verdict: Verdict | None = None,
    *,
    recovery_s: float | None = None,
    note: str = "",
    lost: int | None = 0,
    doubled: int | None = 0,
) -> None:
    """Keep one row of the table. `lost`, `doubled`: None where there was nothing to lose, or it was not looked at."""
    folder = os.environ.get("FOREBAY_RESULTS")
    if verdict is not None:
        lost, doubled = verdict.lost_without_gap, verdict.doubled
        note = note or f"{verdict.sent} rows sent, {verdict.stored} stored, {verdict.in_gaps} in gaps"
    row = {
        "name": name,
        "fault": fault,
        "trials": trials,
        "lost": lost,
        "doubled": doubled,
        "recovery_s": recovery_s,
        "note": note,
        "command": command,
    }
    print(json.dumps(row))
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
