"""Open the database file of an SQLite sink."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from sqlite_utils import Database

from forebay.errors import ForebayError
from forebay.receive.sql_positions import owners_of
from forebay.receive.sql_tables import VERSION, corrected_view, quote, statements


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
        for statement in statements(version):
            db.execute(statement)
        if version in (1, 2):
            db.execute("UPDATE boots SET met = rowid")
            _name_owners(db)
        for (table,) in db.execute('SELECT DISTINCT "table" FROM columns').fetchall():
            view = f"{table}_corrected"
            db.execute(f"DROP VIEW IF EXISTS {quote(view)}")
            db.execute(corrected_view(table, view))
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
