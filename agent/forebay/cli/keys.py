"""`forebay keys`: make, show, enrol and revoke keys."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import click

from forebay import keys

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def keys_group() -> None:
    """Make, show, enrol and revoke keys."""


@keys_group.command()
@click.argument("name")
@click.option("--dir", "folder", type=_FOLDER, required=True, help="Where NAME.key and NAME.pub are written.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def new(name: str, folder: Path, as_json: bool) -> None:
    """Make a key pair: NAME.key (mode 0600) and NAME.pub."""
    key = keys.generate(name)
    secret, public = keys.write_pair(key, folder)
    if as_json:
        click.echo(json.dumps({"name": name, "secret": str(secret), "public": str(public)}))
    else:
        click.echo(
            f"{secret}  secret, stays on this machine\n{public}  public, to be enrolled on the other side"
        )


@keys_group.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(file: Path, as_json: bool) -> None:
    """Show the public half of a key file."""
    key = keys.read_secret(file).public if file.suffix == ".key" else keys.read_public(file)
    facts = {
        "name": key.name,
        "transport": base64.b64encode(key.transport).decode(),
        "signing": base64.b64encode(key.signing).decode(),
    }
    click.echo(json.dumps(facts) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))


@keys_group.command()
@click.argument("gateway_id")
@click.argument("pubfile", type=_FILE)
@click.option("--allow", "folder", type=_FOLDER, required=True, help="The receiver's `listen.allow` folder.")
def enroll(gateway_id: str, pubfile: Path, folder: Path) -> None:
    """Let the gateway GATEWAY_ID with the key PUBFILE speak to the receiver. Takes effect at once."""
    path = keys.enroll(gateway_id, keys.read_public(pubfile), folder)
    click.echo(f"{gateway_id} enrolled: {path}")


@keys_group.command()
@click.argument("gateway_id")
@click.option("--allow", "folder", type=_FOLDER, required=True, help="The receiver's `listen.allow` folder.")
def revoke(gateway_id: str, folder: Path) -> None:
    """Take GATEWAY_ID off the allow-list. Takes effect at once, running sessions included."""
    path = keys.revoke(gateway_id, folder)
    click.echo(f"{gateway_id} revoked: {path} removed")
