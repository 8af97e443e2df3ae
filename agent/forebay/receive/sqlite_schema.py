"""System tables of the SQLite sink. Stream tables are made when their first batch comes."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from sqlite_utils import Database

from forebay.errors import ForebayError
from forebay.receive.sqlite_positions import owners_of

VERSION = 3

_TABLES = """
CREATE TABLE store (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE marks (gateway TEXT NOT NULL, epoch INTEGER NOT NULL, mark INTEGER NOT NULL, above TEXT NOT NULL,
    PRIMARY KEY (gateway, epoch)) WITHOUT ROWID;
CREATE TABLE bodies (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (gateway TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, stream TEXT NOT NULL,
    lane TEXT NOT NULL, rows INTEGER NOT NULL, readings INTEGER NOT NULL, wire_bytes INTEGER NOT NULL,
    first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, received_at INTEGER NOT NULL, policy TEXT NOT NULL,
    key_id TEXT NOT NULL, hits TEXT NOT NULL, boot TEXT NOT NULL, wall_time INTEGER NOT NULL,
    monotonic INTEGER NOT NULL, clock TEXT NOT NULL, stamped_by TEXT NOT NULL, tag BLOB NOT NULL,
    schema_id BLOB NOT NULL, context_id BLOB NOT NULL, UNIQUE (gateway, epoch, seq));
CREATE TABLE gaps (gateway TEXT NOT NULL, epoch INTEGER NOT NULL, seq_from INTEGER NOT NULL,
    seq_to INTEGER NOT NULL, stream TEXT NOT NULL, rows INTEGER NOT NULL, readings INTEGER NOT NULL,
    first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, cause TEXT NOT NULL, received_at INTEGER NOT NULL,
    UNIQUE (gateway, epoch, seq_from));
CREATE TABLE boots (gateway TEXT NOT NULL, boot TEXT NOT NULL, wall_time INTEGER NOT NULL,
    monotonic INTEGER NOT NULL, clock TEXT NOT NULL, PRIMARY KEY (gateway, boot));
CREATE TABLE columns (stream TEXT NOT NULL, "table" TEXT NOT NULL, field TEXT NOT NULL, "column" TEXT NOT NULL,
    given TEXT NOT NULL, type TEXT NOT NULL, unit TEXT NOT NULL, grade TEXT NOT NULL, classes TEXT NOT NULL,
    description TEXT NOT NULL, identifier TEXT NOT NULL, model TEXT NOT NULL, UNIQUE (stream, field));
CREATE TABLE unplaced (gateway TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    stream TEXT NOT NULL, reason TEXT NOT NULL, received_at INTEGER NOT NULL, exported BLOB NOT NULL,
    UNIQUE (gateway, epoch, seq))
"""

_SINCE_2 = """
CREATE TABLE checkpoints (gateway TEXT NOT NULL, number INTEGER NOT NULL, digest BLOB NOT NULL,
    previous BLOB NOT NULL, boot TEXT NOT NULL, batches INTEGER NOT NULL, body BLOB NOT NULL,
    signature BLOB NOT NULL, verdict TEXT NOT NULL, detail TEXT NOT NULL, received_at INTEGER NOT NULL,
    UNIQUE (gateway, number, digest));
CREATE TABLE gateway_streams (gateway TEXT NOT NULL, stream TEXT NOT NULL, columns INTEGER NOT NULL,
    PRIMARY KEY (gateway, stream)) WITHOUT ROWID;
INSERT INTO gateway_streams SELECT DISTINCT gateway, stream, 0 FROM batches;
DROP VIEW IF EXISTS clock_corrections;
CREATE VIEW clock_corrections AS
    SELECT b.gateway, b.epoch, b.seq, b.stream, b.clock,
        CASE b.clock WHEN 'synced' THEN 0
        ELSE (o.wall_time - o.monotonic) - (b.wall_time - b.monotonic) END AS add_ns
    FROM batches b JOIN boots o ON o.gateway = b.gateway AND o.boot = b.boot
    WHERE o.clock = 'synced' AND b.stamped_by = 'gateway'
"""

_SINCE_3 = """
CREATE TABLE positions (gateway TEXT NOT NULL, owner TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    boot TEXT NOT NULL, monotonic INTEGER NOT NULL, position BLOB, PRIMARY KEY (gateway, owner)) WITHOUT ROWID
"""


def corrected_view(table: str) -> str:
    """Return the statement that makes a stream's view of corrected times.

    `corrected_time` is null where nothing is known to correct by: the gateway's clock was not synchronised in
    that boot yet, or a device stamped the rows. `time` stays what the gateway said.
    """
    name, view = quote(table), quote(f"{table}_corrected")
    return (
        f"CREATE VIEW IF NOT EXISTS {view} AS SELECT t.time + c.add_ns AS corrected_time, t.* FROM {name} t"
        " LEFT JOIN clock_corrections c ON c.gateway = t.gateway AND c.epoch = t.epoch AND c.seq = t.seq"
    )


def quote(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""').replace("\x00", "\ufffd") + '"'


def open_database(path: Path) -> sqlite3.Connection:
    """Open or create the database of a sink.

    Raises
    ------
    ForebayError
        It cannot be opened, is not a Forebay store, or is of a newer release.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        db.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error) as error:
        raise ForebayError(
            f"cannot open the sink's database ({type(error).__name__})", place=str(path)
        ) from None
    try:
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute("PRAGMA cache_size=-16384")  # KiB
        _prepare(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise ForebayError(
            f"expected a store of version {VERSION} or older, found {version}",
            place=str(path),
            hint="install the release that wrote it",
        )
    if version == VERSION:
        return
    foreign = Database(db).table_names() if version == 0 else []
    if foreign:
        raise ForebayError(
            f"expected an empty database or a Forebay store, found {len(foreign)} tables of something else",
            place=str(path),
            hint="give the sink a file of its own",
        )
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in (_TABLES if version == 0 else "").split(";"):
            db.execute(statement)
        for statement in (_SINCE_2 if version < 2 else "").split(";"):
            db.execute(statement)
        db.execute(_SINCE_3)
        _name_owners(db)
        for (table,) in db.execute('SELECT DISTINCT "table" FROM columns').fetchall():
            db.execute(corrected_view(table))
        if version == 0:
            db.execute("INSERT INTO store VALUES ('store_id', ?)", (secrets.token_hex(8),))
        db.execute(f"PRAGMA user_version={VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _name_owners(db: sqlite3.Connection) -> None:
    """Note whose batches are stored already: where their sources stood is not known, and that must be known."""
    query = (
        "SELECT b.gateway, o.body FROM (SELECT DISTINCT gateway, context_id FROM batches) b"
        " JOIN bodies o ON o.id = b.context_id"
    )
    rows = [(gateway, owner, 0, 0, "", 0, None) for gateway, owner in owners_of(db.execute(query))]
    db.executemany("INSERT OR IGNORE INTO positions VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
