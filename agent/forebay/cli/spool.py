"""`forebay spool`: look into a buffer, check it, take batches out. The agent may run meanwhile."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import click

from forebay.errors import SpoolError
from forebay.spool import Reader, segment_path
from forebay.spool.reader import equations_hold
from forebay.wire.envelope import Exported, content_tag

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
            "batches": batches,
            "readings": readings,
            "bytes": size,
            "file_bytes": sum(p.stat().st_size for p in folder.glob("segment-*")),
            "counters": reader.counters(),
            "dead_letters": [
                dict(zip(("stream", "reason", "batches", "readings"), row, strict=True))
                for row in reader.dead_letters()
            ],
        }
    finally:
        reader.close()
    click.echo(
        json.dumps(facts, ensure_ascii=False) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items())
    )


@spool_group.command()
@_FOLDER
@_JSON
def verify(folder: Path, as_json: bool) -> int:
    """Check every segment: SQLite's own structure, each batch's content tag, the ledger's equations."""
    reports = verify_folder(folder)
    for report in reports:
        click.echo(
            json.dumps(report, ensure_ascii=False)
            if as_json
            else "  ".join(f"{k}: {v}" for k, v in report.items())
        )
    return 0 if all(r["ok"] for r in reports) else 1


def verify_folder(folder: Path) -> list[dict[str, object]]:
    """Return a report on each segment. Raises SpoolError where there is none."""
    reports = [_verify(path) for path in sorted(folder.glob("segment-*.db"))]
    if not reports:
        raise SpoolError("there is no spool here", place=str(folder))
    return reports


def _verify(path: Path) -> dict[str, object]:
    report: dict[str, object] = {"segment": str(path), "ok": False}
    try:
        reader = Reader(path)
    except (sqlite3.Error, SpoolError) as error:
        return report | {"structure": f"cannot be opened ({type(error).__name__})"}
    try:
        structure = reader.check_structure()
        bad = [(b.epoch, b.seq) for b in reader.all_batches() if content_tag(b.data) != b.tag]
        unbalanced = [name for name, entry in reader.ledger().items() if not equations_hold(entry)]
        batches = reader.counts()[0]
    except sqlite3.Error as error:
        return report | {"structure": f"cannot be read ({error.sqlite_errorname})"}
    finally:
        reader.close()
    ok = structure == "ok" and not bad and not unbalanced
    return report | {
        "ok": ok,
        "structure": structure,
        "batches": batches,
        "damaged": bad,
        "unbalanced_streams": unbalanced,
    }


@spool_group.command()
@_FOLDER
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where to write."
)
def export(folder: Path, target: Path) -> int:
    """Write every intact waiting batch as a file of its own, to be carried by hand and read with `decode`."""
    target.mkdir(parents=True, exist_ok=True)
    written = damaged = 0
    for path in sorted(folder.glob("segment-*.db")):
        reader = Reader(path)
        try:
            for b in reader.all_batches():
                bodies = reader.bodies([b.schema_id, b.context_id])
                if content_tag(b.data) != b.tag or len(bodies) < len({b.schema_id, b.context_id}):
                    damaged += 1
                    continue
                exported = Exported(
                    b.lane, b.epoch, b.seq, b.tag, b.data, bodies[b.schema_id], bodies[b.context_id]
                )
                (target / f"{b.epoch}-{b.seq:012d}.fbb").write_bytes(exported.pack())
                written += 1
        finally:
            reader.close()
    click.echo(f"{written} batches written to {target}, {damaged} damaged ones left out")
    return 0 if not damaged else 1
