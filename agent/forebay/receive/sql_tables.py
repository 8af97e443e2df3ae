"""System tables of an SQL sink, in SQLite's words. Stream tables are made when their first batch comes."""

from __future__ import annotations

VERSION = 4

_FIRST = """
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
    boot TEXT NOT NULL, monotonic INTEGER NOT NULL, position BLOB, PRIMARY KEY (gateway, owner)) WITHOUT ROWID;
ALTER TABLE boots ADD COLUMN met INTEGER NOT NULL DEFAULT 0
"""

_SINCE_4 = """
CREATE TABLE models (schema_id BLOB NOT NULL, stream TEXT NOT NULL, field TEXT NOT NULL, model TEXT NOT NULL,
    PRIMARY KEY (schema_id, field)) WITHOUT ROWID
"""

_STEPS = (_FIRST, _SINCE_2, _SINCE_3, _SINCE_4)  # step n leads from version n to n + 1


def statements(version: int) -> list[str]:
    """Return what brings a store of `version` (0: an empty one) to VERSION."""
    return [one for step in _STEPS[version:] for one in step.split(";")]


def corrected_view(table: str, name: str) -> str:
    """Return the statement that makes a stream's view of corrected times under `name`.

    `corrected_time` is null where nothing is known to correct by: the gateway's clock was not synchronised in
    that boot yet, or a device stamped the rows. `time` stays what the gateway said.
    """
    return (
        f"CREATE VIEW {quote(name)} AS SELECT t.time + c.add_ns AS corrected_time, t.* FROM {quote(table)} t"
        " LEFT JOIN clock_corrections c ON c.gateway = t.gateway AND c.epoch = t.epoch AND c.seq = t.seq"
    )


def quote(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""').replace("\x00", "\ufffd") + '"'
