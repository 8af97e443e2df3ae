"""Renders docs/reliability.md from measured runs.

FOREBAY_RESULTS=out make torture                     # and the system tests; each keeps a JSON file in out/
python tests/system/reliability_page.py out          # into docs/reliability.json, and the page from it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
KEPT, PAGE = DOCS / "reliability.json", DOCS / "reliability.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
HEAD = (
    "| fault | trials | lost without a gap record | doubled | recovery | seen | reproduce |",
    "|---|---|---|---|---|---|---|",
)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    lines = list(HEAD)
    for row in sorted(rows, key=lambda r: r["name"]):
        recovery = "" if row["recovery_s"] is None else f"{row['recovery_s']:.1f} s"
        cells = [row["fault"], row["trials"], row["lost"], row["doubled"], recovery, row["note"]]
        lines.append(
            "| " + " | ".join("" if c is None else str(c) for c in cells) + f" | `{row['command']}` |"
        )
    return "\n".join(lines)


def render(page: str, rows: list[dict[str, Any]]) -> str:
    """Return the page with the table put between its marks."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table(rows)}\n{END}{after}"


def main(folder: str) -> None:
    """Take the results of a folder over what is kept, and write both files."""
    kept = {row["name"]: row for row in json.loads(KEPT.read_text("utf-8"))} if KEPT.exists() else {}
    for path in Path(folder).glob("*.json"):
        row = json.loads(path.read_text("utf-8"))
        kept[row["name"]] = row
    rows = [kept[name] for name in sorted(kept)]
    KEPT.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(render(PAGE.read_text("utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
