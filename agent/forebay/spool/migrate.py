"""Older layouts to the one of this release; every waiting batch is kept. sqlite-utils is imported only here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from forebay.spool import control as control_part
from forebay.spool import schema
from forebay.spool.rows import CONTROL, Head, mark, marked, segment_number

log = logging.getLogger("forebay.spool")


def migrate(connection: Any, path: Path, version: int) -> None:
    """Bring a segment from `version` to the current layout, all in one transaction."""
    from sqlite_utils import Database

    log.info("spool is migrated from=%d to=%d segment=%s", version, schema.VERSION, path.name)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version == 0:
            schema.create_tables(connection)
            control = control_part.Control()
            counters = control_part.fresh_counters(segment_number(path.name))
            control_part.set_rows(control, "counter", counters.items())
            control.write(connection)
        else:
            _from_1(Database(connection), connection, segment_number(path.name))
        connection.execute(f"PRAGMA user_version={schema.VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _from_1(db: Any, connection: Any, number: int) -> None:
    """Version 1: one segment, no marks, what waits is not counted."""
    old = {name: f"old_{name}" for name in db.table_names()}
    for name, kept in old.items():
        connection.execute(f"ALTER TABLE {name} RENAME TO {kept}")
    schema.create_tables(connection)
    counters = dict(connection.execute("SELECT name, value FROM old_counter"))
    counters = control_part.fresh_counters(number) | counters
    rows: dict[str, list[Any]] = {
        "ledger": list(connection.execute("SELECT stream, kind, reason, readings FROM old_ledger")),
        "progress": list(connection.execute("SELECT owner, step, data FROM old_progress")),
        "gap": list(connection.execute(f"SELECT {', '.join(CONTROL['gap'])} FROM old_gap")),
    }
    counters["gap"] = max((row[0] for row in rows["gap"]), default=0)
    waiting: dict[tuple[str, str], list[int]] = {}
    totals = {row[0]: row[3] for row in rows["ledger"] if row[1] == "accepted"}
    names = ", ".join(Head._fields[:12])
    for target in ("batch", "dead_letter"):
        extra = ", reason" if target == "dead_letter" else ""
        places = ", ".join("?" * (len(Head._fields) + 2 + bool(extra)))
        newest_first = f"SELECT {names}, data{extra} FROM old_{target} ORDER BY id & ((1 << 56) - 1) DESC"
        # One at a time: all of them together may be more than the memory.
        for row in connection.cursor().execute(newest_first):
            stream, lane, readings, data = row[4], row[1], row[6], row[12]
            head = Head._make((*row[:12], totals.get(stream, 0), 0))
            if target == "batch":
                totals[stream] = totals.get(stream, 0) - readings
                sums = waiting.setdefault((stream, lane), [0, 0, 0])
                sums[:] = [sums[0] + 1, sums[1] + readings, sums[2] + len(data)]
            connection.execute(
                f"INSERT INTO {target} VALUES ({places})", (*head, mark("batch", head), data, *row[13:])
            )
    connection.execute("INSERT INTO body SELECT id, body FROM old_body")
    rows["counter"] = list(counters.items())
    rows["waiting"] = [(number, *key, *sums) for key, sums in waiting.items()]
    for table, content in rows.items():
        places = ", ".join("?" * (len(CONTROL[table]) + 1))
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", marked(table, content))
    for kept in old.values():
        db[kept].drop()
