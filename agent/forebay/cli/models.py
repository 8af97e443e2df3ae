"""`forebay models`: the model bundles on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forebay import shipped
from forebay.errors import ModelError

if TYPE_CHECKING:
    from forebay.infer.signing import Trust


def _folders(folder: Path | None) -> list[str]:
    """Return the names of all bundles; one of the own folder hides a shipped one."""
    from forebay.infer.bundle import folders

    places = (folder, shipped.path("models"))
    return sorted({path.name for place in places if place for path in folders(place)})


@click.group("models")
def models_group() -> None:
    """List, verify, seal, sign, install and roll back model bundles."""


_dir = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of your own bundles, looked in first.",
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


_trust = click.option(
    "--trust",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Public key file of a signer. With it, unsigned bundles of your own are errors.",
)


def trust_in(paths: tuple[Path, ...]) -> Trust:
    """Return the trust that the option `--trust` gives."""
    from forebay.infer.signing import Trust

    return Trust.read(list(paths), required=bool(paths))


@models_group.command("list")
@_dir
@_trust
@_json
def list_command(folder: Path | None, trust: tuple[Path, ...], as_json: bool) -> None:
    """Name, version in use, task, licence and signer of every bundle, and the versions beside it."""
    failed = False
    for name in _folders(folder):
        try:
            facts = _facts(name, folder, trust_in(trust))
        except ModelError as error:
            failed = True
            click.echo(f"error: {error}", err=True)
            continue
        if as_json:
            click.echo(json.dumps(facts, ensure_ascii=False))
            continue
        head = f"{facts['name']:16} {facts['version']:8} {facts['task']:14} {facts['licence']:11}"
        click.echo(f"{head} {facts['description']}")
        if facts["versions"]:
            others = ", ".join(v for v in facts["versions"] if v != facts["version"])
            beside = f", beside it {others}" if others else ""
            click.echo(f"{'':16} signed by {facts['signed_by'] or 'nobody who is trusted'}{beside}")
    if failed:
        raise SystemExit(1)


def _facts(name: str, folder: Path | None, trust: Trust) -> dict[str, Any]:
    """Return what `list` says of a bundle. Its big files are not read: `verify` does that. Raises ModelError."""
    from forebay.infer import signing, store
    from forebay.infer.bundle import SIGNATURE, find, read_manifest

    path = find(name, bundles_dir=folder)
    manifest, text = read_manifest(path)
    signature = path / SIGNATURE
    if signature.is_file() or (folder is not None and folder in path.parents):
        signed = signing.check(
            text, signature.read_bytes() if signature.is_file() else None, trust, str(path)
        )
    else:
        signed = signing.SHIPPED
    return {
        "name": manifest.name,
        "version": manifest.version,
        "versions": store.versions(folder, name) if folder is not None else [],
        "task": manifest.task.value,
        "licence": manifest.licence,
        "signed_by": signed,
        "description": manifest.description,
        "path": str(path),
    }


def _verify(path: Path, trust: Trust) -> dict[str, Any]:
    """Return the facts of a verified bundle. Raises ModelError."""
    from forebay.infer.bundle import load, try_apart

    bundle = load(path, trust)
    difference, providers = try_apart(bundle)
    return {
        "name": bundle.manifest.name,
        "version": bundle.manifest.version,
        "ok": True,
        "model": bundle.model,
        "sha256": bundle.sha256,
        "signed_by": bundle.signed_by,
        "files": len(bundle.files),
        "golden_difference": float(f"{difference:.3g}"),
        "providers": list(providers),
    }


@models_group.command("verify")
@click.argument("names", nargs=-1)
@_dir
@_trust
@_json
def verify_command(
    names: tuple[str, ...], folder: Path | None, trust: tuple[Path, ...], as_json: bool
) -> None:
    """Check the signature, the hashes, the graph and the golden output of bundles (all of them if none is named)."""
    from forebay.infer.bundle import find

    failed = False
    for name in names or tuple(_folders(folder)):
        try:
            facts = _verify(find(name, bundles_dir=folder), trust_in(trust))
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


def _add_commands() -> None:
    from forebay.cli import models_change

    for command in models_change.COMMANDS:
        models_group.add_command(command)


_add_commands()
