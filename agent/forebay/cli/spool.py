"""`forebay spool`: look into a buffer, check it, take batches out. The agent may run meanwhile."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import click

from forebay.cli.status import is_running
from forebay.errors import SpoolError
from forebay.keys import read_secret
from forebay.spool import Limits, Reader, Spool, segment_path
from forebay.spool.ending import UNCOUNTED
from forebay.spool.forecast import file_bytes
from forebay.spool.reader import equations_hold
from forebay.spool.recovery import suspicion
from forebay.wire.atrest import GatewayLock, is_locked
from forebay.wire.envelope import Exported, content_tag

_UNCOUNTED = "SELECT DISTINCT stream FROM gap WHERE cause = ?"
LOOKS = 20  # until a stream's books stand still for a moment; one that never does is not judged

_FOLDER = click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def spool_group() -> None:
    """Look into the spool FOLDER (`spool.dir` of the configuration)."""


@spool_group.command()
@_FOLDER
@_JSON
def stat(folder: Path, as_json: bool) -> None:
    """Say how much waits, in which lanes, and how large the files are."""
    reader = Reader(segment_path(folder))
    try:
        batches, readings, size = reader.counts()
        facts = {
            "segment": str(segment_path(folder)),
            "segments": [
                dict(zip(("number", "first", "last", "state"), s, strict=True)) for s in reader.segments()
            ],
            "batches": batches,
            "readings": readings,
            "bytes": size,
            "file_bytes": file_bytes(folder),
            "waiting": reader.waiting(),
            "counters": reader.counters(),
            "dead_letters": [
                dict(zip(("stream", "reason", "batches", "readings"), row, strict=True))
                for row in reader.dead_letters()
            ],
        }
    finally:
        reader.close()
    _print(facts, as_json)


def _print(facts: dict[str, Any], as_json: bool) -> None:
    lines = "\n".join(f"{k}: {v}" for k, v in facts.items())
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else lines)


@spool_group.command()
@_FOLDER
@_JSON
def verify(folder: Path, as_json: bool) -> int:
    """Check every segment: SQLite's own structure, each row's mark and tag, what waits against the books."""
    report = verify_folder(folder)
    _print(report, as_json)
    return 0 if report["ok"] else 1


def verify_folder(folder: Path) -> dict[str, Any]:
    """Return a report on a spool. Raises SpoolError where there is none."""
    path = segment_path(folder)
    if not path.exists():
        raise SpoolError("there is no spool here", place=str(path.parent))
    report: dict[str, Any] = {"segment": str(path), "ok": False}
    doubt = suspicion(path)
    if doubt:
        return report | {"structure": doubt}
    try:
        reader = Reader(path)
    except sqlite3.Error as error:
        return report | {"structure": f"cannot be opened ({type(error).__name__})"}
    try:
        structure, bad, batches = reader.check_structure(), reader.damaged(), reader.counts()[0]
        aside = [number for number, _, _, state in reader.segments() if state == "damaged"]
        unbalanced = _unbalanced(reader, bool(aside))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return report | {"structure": f"cannot be read ({getattr(error, 'sqlite_errorname', str(error))})"}
    finally:
        reader.close()
    return report | {
        "ok": structure == "ok" and not bad and not unbalanced and not aside,
        "structure": structure,
        "batches": batches,
        "damaged": bad,
        "set_aside": aside,
        "unbalanced_streams": unbalanced,
    }


def _unbalanced(reader: Reader, incomplete: bool) -> list[str]:
    """Return the streams whose books do not agree with themselves, or with the batches unless these are incomplete.

    A running agent changes both: a stream is judged by what was counted between two equal looks at its books.
    """
    judged: dict[str, bool] = {}
    for _ in range(LOOKS):
        before, counted, now = reader.ledger(), reader.recount(), reader.ledger()
        for name, entry in now.items():
            if before.get(name) == entry:
                judged[name] = equations_hold(entry) and (
                    incomplete or entry["pending"] == counted.get(name, 0)
                )
        if judged.keys() >= now.keys():
            break
    return [name for name, agrees in judged.items() if not agrees]


@spool_group.command()
@_FOLDER
@_JSON
@click.option(
    "--read-again", is_flag=True, help="Let sources whose position is lost begin anew; rows may double."
)
def repair(folder: Path, as_json: bool, read_again: bool) -> int:
    """Salvage what is intact of damaged segments and settle the books. The agent must be stopped.

    Exit code 1 when readings were lost or something could not be examined.
    """
    if not segment_path(folder).exists() and not any(folder.glob("damaged-*.db")):
        raise SpoolError("there is no spool here", place=str(folder))
    if is_running(folder):
        raise SpoolError(
            "an agent uses this spool", place=str(folder), hint="stop it first: systemctl stop forebay-agent"
        )
    # A quota that nothing reaches: repair keeps all that it can.
    spool = Spool.open(folder, sync="full", limits=Limits(1 << 50), on_stored=lambda: None)
    try:
        for number in _doubtful(spool):
            if number == spool.store.number:
                spool.recovery.replace(spool.store, "rows are not what they were")
            else:
                spool.recovery.set_aside(spool.store, number)
        while spool.recovery.poll(spool.store):
            time.sleep(0.05)
        if read_again:
            spool.recovery.read_again(spool.store)
        store = spool.store
        lost = spool.recovery.lost_readings
        uncounted = sorted(name for (name,) in store.db.execute(_UNCOUNTED, (UNCOUNTED,)))
        facts: dict[str, Any] = {
            "segment": str(store.path),
            "batches": sum(sums[0] for sums in store.waiting.values()),
            "readings": sum(sums[1] for sums in store.waiting.values()),
            "lost_readings": lost,
            "uncounted_streams": uncounted,  # of these a transaction may have lost more than that
            "not_examined": [n for n, s in store.segments.items() if s[2] == "damaged"],
            "positions_lost": spool.recovery.positions_lost,
        }
    finally:
        spool.close()
    _print(facts, as_json)
    return 1 if lost or uncounted or facts["not_examined"] else 0


def _doubtful(spool: Spool) -> list[int]:
    """Return the segments in which a row is not what it was."""
    reader = spool.reader()
    try:
        return reader.doubtful()
    finally:
        reader.close()


@spool_group.command()
@_FOLDER
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where to write."
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The gateway's NAME.key, for `seal: gateway`.",
)
def export(folder: Path, target: Path, key: Path | None) -> int:
    """Write every intact waiting batch as a file of its own, to be carried by hand and read with `decode`."""
    target.mkdir(parents=True, exist_ok=True)
    written = damaged = locked = 0
    opener = GatewayLock(read_secret(key).transport) if key is not None else None
    reader = Reader(segment_path(folder), opener=opener)
    try:
        for b in reader.all_batches():
            bodies = reader.bodies([b.schema_id, b.context_id])
            if content_tag(b.data) != b.tag or len(bodies) < len({b.schema_id, b.context_id}):
                damaged += 1
                continue
            locked += is_locked(b.data)
            exported = Exported(
                b.lane, b.epoch, b.seq, b.tag, b.data, bodies[b.schema_id], bodies[b.context_id]
            )
            (target / f"{b.epoch}-{b.seq:012d}.fbb").write_bytes(exported.pack())
            written += 1
    finally:
        reader.close()
    note = f", {locked} of them locked (--key opens those of `seal: gateway`)" if locked else ""
    click.echo(f"{written} batches written to {target}{note}, {damaged} damaged ones left out")
    return 0 if not damaged else 1
