"""`forebay config`: bring the file of an older release up to date."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from pathlib import Path

import click

from forebay.config.loader import load_text
from forebay.config.migration import migrate
from forebay.config.yaml_source import read_bytes


@click.group(name="config")
def config_group() -> None:
    """Bring configuration files of older releases up to date."""


@config_group.command(name="migrate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Write it; the old file is kept as FILE.old.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def migrate_command(file: Path, write: bool, as_json: bool) -> int:
    """Show what FILE, the configuration of an older agent or receiver, must say today, as a diff; or write it.

    Comments and order stay. The result is checked before anything is written. Exit 0: it is, or would be, valid;
    2: something remains that no release knew.
    """
    old = read_bytes(file)
    new, edits = migrate(old, str(file))
    load_text(new, file)  # what remains wrong is raised with its places
    kept = _write(file, new) if write and edits else None
    if as_json:
        changes = [{"line": e.mark[0], "col": e.mark[1], "change": e.why} for e in edits]
        click.echo(json.dumps({"file": str(file), "changes": changes, "written": kept is not None,
                               "kept": str(kept) if kept else ""}, ensure_ascii=False))  # fmt: skip
        return 0
    if not edits:
        click.echo(f"{file}: up to date")
        return 0
    click.echo("".join(_diff(old, new, str(file))), nl=False)
    for edit in edits:
        click.echo(f"{file}:{edit.mark[0]}:{edit.mark[1]}: {edit.why}")
    click.echo(f"written; the old file is {kept}" if kept else "nothing was written: add --write", err=True)
    return 0


def _diff(old: bytes, new: bytes, name: str) -> list[str]:
    before, after = (data.decode("utf-8-sig").splitlines(keepends=True) for data in (old, new))
    return list(difflib.unified_diff(before, after, name, name, n=1))


def _write(file: Path, data: bytes) -> Path:
    """Put `data` in the file's place at once, the old one beside it; return where that is."""
    kept, number = file.with_name(f"{file.name}.old"), 1
    while kept.exists():
        number += 1
        kept = file.with_name(f"{file.name}.old{number}")
    target = file.resolve()  # a link stays one
    fresh = target.with_name(f".{target.name}.new")
    shutil.copy2(target, kept)
    try:
        with fresh.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        shutil.copystat(target, fresh)
        if os.geteuid() == 0:
            shutil.chown(fresh, target.stat().st_uid, target.stat().st_gid)
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return kept
