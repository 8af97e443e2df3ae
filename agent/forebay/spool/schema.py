"""Tables of a spool segment, and how a segment is opened.

The spool is a row of segments; the newest is written, the others are never written again and go as a whole when
nothing in them waits any more. Everything that must move together is in the newest: batches, numbers, ledger, source
positions and step states, and which batches of older segments are gone. A position in a second file can disagree
with the data after a crash. A new segment begins with a copy of all that but the batches (the control part).

    batch        sealed batches; id = lane rank << 56 | running number
    body         schema and context bodies by id, of the batches in this segment
    dead_letter  batches that the receiver will never take, or that are damaged, with the reason

and the control part, each row with a mark (rows.mark):

    counter      txn (transactions so far), running, uptime_ns, epoch and next number of each lane, ...
    ledger       readings by stream, kind and reason; under kind `model` what models did
    waiting      batches, readings and bytes that wait, by segment, stream and lane
    progress     per owner (`source/pipeline`): the source position under '', each step's state under its name
    segment      older segments: bounds of their running numbers, and state: sealed, damaged, drained
    gone         batches of older segments that no longer wait
    gap          numbers that will never arrive and are not yet confirmed by the receiver
    receipt      tags of acknowledged batches until a signed checkpoint covers them
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forebay.errors import ConfigError, SpoolError

VERSION = 2  # PRAGMA user_version of the layout below
# A commit rewrites a page of each table, and the last page of a batch is seldom full. With pages of 4096 a commit of
# 28 KB wrote 4.1 bytes to flash for each it stored, with 2048 it is 2.9; with 1024 large batches cost more CPU.
PAGE_BYTES = 2048
KNOWN_PAGE_BYTES = (PAGE_BYTES, 4096)  # the latter: segments of earlier releases

BATCH_COLUMNS = """
    lane TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, stream TEXT NOT NULL,
    rows INTEGER NOT NULL, readings INTEGER NOT NULL, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
    schema_id BLOB NOT NULL, context_id BLOB NOT NULL, tag BLOB NOT NULL, total INTEGER NOT NULL,
    stored INTEGER NOT NULL, mark BLOB NOT NULL, data BLOB NOT NULL"""

# In this order their root pages are 2, 3, 4, ...: salvage finds them even when page 1 is lost.
TABLES = {
    "batch": f"CREATE TABLE batch (id INTEGER PRIMARY KEY, {BATCH_COLUMNS})",
    "counter": "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL, mark BLOB NOT NULL)"
    " WITHOUT ROWID",
    "ledger": "CREATE TABLE ledger (stream TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,"
    " readings INTEGER NOT NULL, mark BLOB NOT NULL, PRIMARY KEY (stream, kind, reason)) WITHOUT ROWID",
    "waiting": "CREATE TABLE waiting (segment INTEGER NOT NULL, stream TEXT NOT NULL, lane TEXT NOT NULL,"
    " batches INTEGER NOT NULL, readings INTEGER NOT NULL, bytes INTEGER NOT NULL, mark BLOB NOT NULL,"
    " PRIMARY KEY (segment, stream, lane)) WITHOUT ROWID",
    "progress": "CREATE TABLE progress (owner TEXT NOT NULL, step TEXT NOT NULL, data BLOB NOT NULL,"
    " mark BLOB NOT NULL, PRIMARY KEY (owner, step)) WITHOUT ROWID",
    "segment": "CREATE TABLE segment (number INTEGER NOT NULL PRIMARY KEY, first INTEGER NOT NULL,"
    " last INTEGER NOT NULL, state TEXT NOT NULL, mark BLOB NOT NULL) WITHOUT ROWID",
    "gone": "CREATE TABLE gone (segment INTEGER NOT NULL, id INTEGER NOT NULL, mark BLOB NOT NULL,"
    " PRIMARY KEY (segment, id)) WITHOUT ROWID",
    "gap": "CREATE TABLE gap (id INTEGER NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL, seq_from INTEGER NOT NULL,"
    " seq_to INTEGER NOT NULL, stream TEXT NOT NULL, rows INTEGER NOT NULL, readings INTEGER NOT NULL,"
    " first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, cause TEXT NOT NULL, mark BLOB NOT NULL)"
    " WITHOUT ROWID",
    "body": "CREATE TABLE body (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
    "dead_letter": f"CREATE TABLE dead_letter (id INTEGER PRIMARY KEY, {BATCH_COLUMNS}, reason TEXT NOT NULL)",
    "receipt": "CREATE TABLE receipt (id INTEGER NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " tag BLOB NOT NULL, mark BLOB NOT NULL) WITHOUT ROWID",
}
ROOTS = {name: 2 + place for place, name in enumerate(TABLES)}


class NewerSpool(SpoolError, ConfigError):
    """The spool was written by a newer release: bad usage of this one, not a fault."""


def connect(path: Path, *, sync: str = "full", read_only: bool = False, wal: bool = True) -> Any:
    """Open a segment with the settings that its promises rest on; returns an sqlite3.Connection.

    FULL lost none of the transactions acknowledged before 80 power cuts; NORMAL lost up to 902 in one.
    Only one without a log is created: what has lost its name must not be taken for an empty spool.
    """
    mode = "ro" if read_only else "rw" if wal else "rwc"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        configure(connection, sync=sync, read_only=read_only, wal=wal)
    except BaseException:
        connection.close()
        raise
    return connection


def configure(connection: Any, *, sync: str = "full", read_only: bool = False, wal: bool = True) -> None:
    """Apply those settings to a connection."""
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA cell_size_check=ON")
    if not read_only:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # of a file that is new; another keeps its own
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        connection.execute(f"PRAGMA synchronous={'NORMAL' if sync == 'normal' and wal else 'FULL'}")
        # Some builds overwrite what is deleted: each delivered byte would be written twice more, on flash for nothing.
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("PRAGMA wal_autocheckpoint=0")  # the checkpointer thread does it
        connection.execute("PRAGMA journal_size_limit=0")


def check_version(connection: Any, path: Path) -> int:
    """Return the version of a segment's layout, 0 for an empty file.

    Raises
    ------
    SpoolError
        The segment was written by a newer release.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise NewerSpool(
            f"expected a spool of version {VERSION} or older, found {version}",
            place=str(path),
            hint="install the release that wrote it, or move the folder aside",
        )
    return version


def create_tables(connection: Any) -> None:
    """Create the tables of a new segment, within the caller's transaction."""
    for statement in TABLES.values():
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={VERSION}")


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable: a rename or deletion is not before this."""
    with opened_folder(folder) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """Open a folder, to sync it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
