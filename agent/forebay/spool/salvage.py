"""`python -m forebay.spool.salvage DAMAGED TARGET`: carry what is intact of a segment into a new file.

A process of its own, with a time limit set by its parent: whatever the file looks like, the agent goes on. It reads
pages itself and believes only rows whose mark and content tag are right.
"""

from __future__ import annotations

import hashlib
import mmap
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from forebay.spool import control, schema
from forebay.spool.pages import Pages
from forebay.spool.rows import Head, is_intact
from forebay.spool.wal import Wal, examine

_WIDTH = len(Head._fields)
_BODY_ID_BYTES = 8
_PLACES = ", ".join("?" * (_WIDTH + 2))


def open_pages(path: Path, wal: Wal | None = None) -> Pages:
    """Return the pages of a file with its log."""
    wal = wal or examine(path.with_name(path.name + "-wal"))
    with path.open("rb") as file:
        size = path.stat().st_size
        data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    return Pages(data, wal)


def intact_batches(pages: Pages) -> Iterator[list[Any]]:
    """Yield rows of `batch` that are what they were when they were stored, each id once.

    Where the last transaction is damaged, those of before it, too: what it took away waits again (ending.py).
    """
    seen: set[int] = set()
    before = control.from_before(pages)
    older = before[0].rows("batch", rowid=True) if before is not None else ()
    for row in chain(pages.rows("batch", rowid=True), pages.orphans(), pages.ending(), older):
        if row and row[0] not in seen and is_batch(row):
            seen.add(row[0])
            yield row


def is_batch(row: list[Any]) -> bool:
    """Return whether a row is a batch as it was stored."""
    try:
        return (
            len(row) == _WIDTH + 2
            and isinstance(row[-1], bytes)
            and is_intact(tuple(row[:_WIDTH]), row[_WIDTH], row[-1])
        )
    except (TypeError, ValueError, OverflowError):
        return False


def salvage(source: Path, target: Path) -> int:
    """Write the intact batches, bodies and dead letters of `source` to a new segment. Return how many batches."""
    pages = open_pages(source)
    partial = target.with_name(target.name + ".new")
    partial.unlink(missing_ok=True)
    db = schema.connect(partial, wal=False)
    count = 0
    try:
        db.execute("BEGIN IMMEDIATE")
        schema.create_tables(db)
        for row in intact_batches(pages):
            db.execute(f"INSERT INTO batch VALUES ({_PLACES})", row)
            count += 1
        for row in pages.rows("body"):
            if _is_body(row):
                db.execute("INSERT OR IGNORE INTO body VALUES (?, ?)", row)
        for row in pages.rows("dead_letter", rowid=True):
            if len(row) == _WIDTH + 3 and is_batch(row[:-1]):
                db.execute(f"INSERT OR IGNORE INTO dead_letter VALUES ({_PLACES}, ?)", row)
        db.execute("COMMIT")
    finally:
        db.close()
    partial.rename(target)
    schema.sync_folder(target.parent)
    return count


def _is_body(row: list[Any]) -> bool:
    # The id of a body is its BLAKE2b (docs/wire-format.md): no mark is needed.
    return len(row) == 2 and isinstance(row[1], bytes) and (
        hashlib.blake2b(row[1], digest_size=_BODY_ID_BYTES).digest() == row[0]
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run as a command."""
    salvage(Path(arguments[0]), Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
