"""Segments come and go: a full one is left as it is, an empty one deleted, one that is nearly empty moved out of.

A new segment is made whole, control part included, before it gets its name; whoever finds two has an old one and a
newer one that knows all that the old one knew. Which older ones there are is written in the newest.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.spool import audit, schema
from forebay.spool import control as control_part
from forebay.spool.control import Control
from forebay.spool.limits import Limits
from forebay.spool.older import older_path
from forebay.spool.rows import RUNNING, Head

if TYPE_CHECKING:
    from forebay.spool.store import Store

log = logging.getLogger("forebay.spool")

MOVE_BYTES = 1024 * 1024  # of batches moved in one transaction, and
_MOVE_PARTS = 16  # at most this part of a segment


def move_bytes(limits: Limits) -> int:
    """Return the bytes of batches that are moved in one transaction."""
    return min(MOVE_BYTES, limits.roll_bytes // _MOVE_PARTS)


def damaged_path(folder: Path, number: int) -> Path:
    """Return where a segment is kept that cannot be trusted."""
    return folder / f"damaged-{number:06d}.db"


def _files(folder: Path, number: int) -> list[Path]:
    made = [older_path(folder, number), damaged_path(folder, number)]
    return [p.with_name(p.name + suffix) for p in made for suffix in ("", "-wal", "-shm")]


def file_bytes(folder: Path, number: int) -> int:
    """Return the size of a segment's files."""
    return sum(p.stat().st_size for p in _files(folder, number) if p.exists())


_BATCH = ", ".join("?" * (len(Head._fields) + 2))


def fresh_control(number: int) -> Control:
    """Return the control part of a new spool whose first segment has this number."""
    control = Control()
    counters = control_part.fresh_counters(number) | {control_part.NEW_SPOOL: 1}
    control_part.set_rows(control, "counter", counters.items())
    return control


def create(
    path: Path,
    control: Control,
    dead: Iterable[Any] = (),
    bodies: Iterable[Any] = (),
    audit_from: Any = None,
) -> None:
    """Create a segment with this control part, whole or not at all; the audit log goes on from `audit_from`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".new")
    for leftover in path.parent.glob(partial.name + "*"):
        leftover.unlink()
    db = schema.connect(partial, wal=False)
    try:
        db.execute("BEGIN IMMEDIATE")
        schema.create_tables(db)
        control.write(db)
        db.executemany(f"INSERT INTO dead_letter VALUES ({_BATCH}, ?)", dead)
        db.executemany("INSERT OR IGNORE INTO body VALUES (?, ?)", bodies)
        if audit_from is not None:
            audit.carry(audit_from, db)
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()  # on a full disk half a segment would take what is left
        raise
    finally:
        db.close()
    with schema.opened_folder(path.parent) as folder:
        partial.rename(path)
        try:
            os.fsync(folder)
        except BaseException:
            # Whoever makes it goes on without it. Left here, it would be the newest at the next start, and know nothing
            # of what came since.
            path.unlink()
            raise


def roll(store: Store) -> bool:
    """Begin a new segment. Return whether it was done: not while the log cannot be folded in whole."""
    if not store.checkpoint("TRUNCATE"):
        return False
    control = control_part.from_db(store.db)
    if not control.complete:
        raise control_part.BooksDamaged(f"rows of the control part are damaged: {sorted(control.broken)}")
    bounds = store.db.execute(f"SELECT min(id & {RUNNING}), max(id & {RUNNING}) FROM batch").fetchone()
    first, last = bounds if bounds[0] is not None else (0, 0)
    state = "sealed" if store.number in store.waiting.held else "drained"
    segments = dict(control.tables["segment"])
    segments[(store.number,)] = (store.number, first, last, state)
    control.tables["segment"] = segments
    dead = store.db.execute("SELECT * FROM dead_letter").fetchall()
    wanted = {key for row in dead for key in (row[9], row[10])}
    bodies = [row for row in store.db.execute("SELECT id, body FROM body") if row[0] in wanted]
    path = older_path(store.folder, store.number + 1)
    create(path, control, dead, bodies, store.db)
    log.debug("a new segment begins segment=%s", path.name)
    store.switch(path)
    return True


def drain(store: Store) -> bool:
    """Delete segments in which nothing waits. Return whether there was one.

    First it is written down that they may go, then they go, then their rows: a crash in between repeats a step.
    """
    held = store.waiting.held
    empty = [n for n, s in store.segments.items() if s[2] == "sealed" and n not in held]
    gone = [n for n, s in store.segments.items() if s[2] == "drained"]
    if not empty and not gone:
        return False
    if empty:
        with store.transaction() as txn:
            for number in empty:
                store.db.execute("DELETE FROM gone WHERE segment = ?", (number,))
                txn.segments[number] = (0, 0, "drained")
    store.older.keep_only({n for n, s in store.segments.items() if s[2] == "sealed"})
    for number in [*empty, *gone]:
        for path in _files(store.folder, number):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    schema.sync_folder(store.folder)
    with store.transaction() as txn:
        for number in [*empty, *gone]:
            txn.segments[number] = (0, 0, "")
    store.room.forget_sizes()
    return True


def move(store: Store, number: int) -> bool:
    """Move what waits in an older segment into the newest one, so that its file can be deleted.

    Return whether all of it was moved; while there is no room for the rest it stays where it is.
    """
    last, most = -1, move_bytes(store.limits)
    while True:
        batch: list[tuple[Head, int]] = []
        total = 0
        for row in store.older.heads(number, last + 1, 1 << 62):
            if total >= most:
                break
            last = row[0]
            if not store.is_gone(number, row[0]):
                batch.append((Head(*row[:-1]), row[-1]))
                total += row[-1]
        if not batch:
            break
        if not store.room.may_move(batch):
            return False
        with store.transaction() as txn:
            ids = {key for head, _ in batch for key in (head.schema_id, head.context_id)}
            copy_bodies(store, number, ids)
            for head, size in batch:
                data = store.data_of(number, head.id)
                store.remove(number, head, size, txn)
                store.insert(head, data, txn)
        store.checkpoint("TRUNCATE")
    drain(store)
    return True


def copy_bodies(store: Store, number: int, ids: set[bytes]) -> None:
    """Copy the bodies that batches need into the newest segment."""
    for key in ids:
        rows = store.older.query(number, "SELECT id, body FROM body WHERE id = ?", (key,))
        store.db.executemany("INSERT OR IGNORE INTO body VALUES (?, ?)", rows)
