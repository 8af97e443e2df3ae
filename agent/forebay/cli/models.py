"""`forebay models`: the model bundles on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from forebay import shipped
from forebay.errors import ModelError


def _folders(folder: Path | None) -> list[Path]:
    """Return bundle folders by name; one of the own folder hides a shipped one."""
    from forebay.infer.bundle import MANIFEST

    found: dict[str, Path] = {}
    for place in (folder, shipped.path("models")):
        for manifest in sorted(place.glob(f"*/{MANIFEST}")) if place else ():
            found.setdefault(manifest.parent.name, manifest.parent)
    return [found[name] for name in sorted(found)]


@click.group("models")
def models_group() -> None:
    """List and verify model bundles."""


_dir = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of your own bundles, looked in first.",
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@models_group.command("list")
@_dir
@_json
def list_command(folder: Path | None, as_json: bool) -> None:
    """Name, version, task and licence of every bundle."""
    from forebay.infer.bundle import read_manifest

    failed = False
    for path in _folders(folder):
        try:
            manifest, _ = read_manifest(path)
        except ModelError as error:
            failed = True
            click.echo(f"error: {error}", err=True)
            continue
        facts = {
            "name": manifest.name,
            "version": manifest.version,
            "task": manifest.task.value,
            "licence": manifest.licence,
            "description": manifest.description,
            "path": str(path),
        }
        if as_json:
            click.echo(json.dumps(facts, ensure_ascii=False))
        else:
            head = f"{manifest.name:16} {manifest.version:8} {manifest.task.value:10} {manifest.licence:11}"
            click.echo(f"{head} {manifest.description}")
    if failed:
        raise SystemExit(1)


def _verify(path: Path) -> dict[str, Any]:
    """Return the facts of a verified bundle. Raises ModelError."""
    from forebay.infer.bundle import check_golden, load, open_session
    from forebay.infer.session import SessionOptions, SessionPool

    bundle = load(path)
    session = open_session(bundle, SessionPool(), SessionOptions(), verify=False)
    return {
        "name": bundle.manifest.name,
        "version": bundle.manifest.version,
        "ok": True,
        "model": bundle.model,
        "sha256": bundle.sha256,
        "files": len(bundle.files),
        "golden_difference": float(f"{check_golden(bundle, session):.3g}"),
        "providers": list(session.providers),
    }


@models_group.command("verify")
@click.argument("names", nargs=-1)
@_dir
@_json
def verify_command(names: tuple[str, ...], folder: Path | None, as_json: bool) -> None:
    """Check the hashes, the graph and the golden output of bundles (all of them if none is named)."""
    from forebay.infer.bundle import find

    failed = False
    for name in names or tuple(f"{p}/" for p in _folders(folder)):
        try:
            facts = _verify(find(name, bundles_dir=folder))
        except ModelError as error:
            failed = True
            facts = {"name": Path(name).name, "ok": False, "error": str(error)}
        if as_json:
            click.echo(json.dumps(facts, ensure_ascii=False))
        elif facts["ok"]:
            click.echo(
                f"{facts['model']}: {facts['files']} files ok, golden within {facts['golden_difference']:g}"
            )
        else:
            click.echo(f"error: {facts['error']}", err=True)
    if failed:
        raise SystemExit(1)
