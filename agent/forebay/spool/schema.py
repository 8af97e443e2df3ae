"""Tables of a spool segment.

Everything that must move together is in one file: batches, numbers, ledger, source positions and step states.
A position in a second file can disagree with the data after a crash.

    batch        sealed batches not yet acknowledged; id = lane rank << 56 | running number
    body         schema and context bodies by id
    counter      txn (transactions so far), running, and epoch and next number of each lane
    progress     per owner (`source/pipeline`): the source position under '', each step's state under its name
    ledger       readings by stream, kind and reason
    gap          numbers that will never arrive and are not yet confirmed by the receiver
    receipt      tags of acknowledged batches until a signed checkpoint covers them
    dead_letter  batches that the receiver will never take, or that are damaged, with the reason
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from forebay.errors import SpoolError

VERSION = 1  # PRAGMA user_version of the layout below
LANE_SHIFT = 56

_BATCH_COLUMNS = """
    lane TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, stream TEXT NOT NULL,
    rows INTEGER NOT NULL, readings INTEGER NOT NULL, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
    schema_id BLOB NOT NULL, context_id BLOB NOT NULL, tag BLOB NOT NULL"""

_TABLES = f"""
CREATE TABLE batch (id INTEGER PRIMARY KEY, {_BATCH_COLUMNS}, data BLOB NOT NULL);
CREATE TABLE body (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE progress (owner TEXT NOT NULL, step TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (owner, step));
CREATE TABLE ledger (stream TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
    readings INTEGER NOT NULL, PRIMARY KEY (stream, kind, reason)) WITHOUT ROWID;
CREATE TABLE gap (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seq_from INTEGER NOT NULL,
    seq_to INTEGER NOT NULL, stream TEXT NOT NULL, rows INTEGER NOT NULL, readings INTEGER NOT NULL,
    first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, cause TEXT NOT NULL);
CREATE TABLE dead_letter (id INTEGER PRIMARY KEY, {_BATCH_COLUMNS}, data BLOB NOT NULL, reason TEXT NOT NULL);
"""

_RECEIPT = """CREATE TABLE IF NOT EXISTS receipt (id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL, tag BLOB NOT NULL)"""


def connect(path: Path, *, sync: str = "full", read_only: bool = False) -> sqlite3.Connection:
    """Open a segment with the settings that its promises rest on.

    FULL lost none of the transactions acknowledged before 80 power cuts; NORMAL lost up to 902 in one.
    """
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA cell_size_check=ON")
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={'NORMAL' if sync == 'normal' else 'FULL'}")
            connection.execute("PRAGMA wal_autocheckpoint=0")  # the checkpointer thread does it
            connection.execute("PRAGMA journal_size_limit=0")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of a new segment; refuse one of a later version.

    Raises
    ------
    SpoolError
        The segment was written by a newer release.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        connection.execute(_RECEIPT)  # not in the first builds of this version
        return
    if version > VERSION:
        raise SpoolError(
            f"expected a spool of version {VERSION} or older, found {version}",
            place=str(path),
            hint="install the release that wrote it, or move the file aside",
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in (*_TABLES.split(";"), _RECEIPT):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
