"""`forebay keys`: make, show, enrol and revoke keys; rotate those of a policy and open what they closed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TextIO

import click

from forebay import keys
from forebay.errors import MaskError

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
@click.option(
    "--speaks-for",
    multiple=True,
    metavar="PATTERN",
    help="For a relay: gateways whose data it may hand on, e.g. 'hz-*'. May be given several times.",
)
def enroll(gateway_id: str, pubfile: Path, folder: Path, speaks_for: tuple[str, ...]) -> None:
    """Let the gateway GATEWAY_ID with the key PUBFILE speak to the receiver. Takes effect at once."""
    path = keys.enroll(gateway_id, keys.read_public(pubfile), folder, speaks_for)
    click.echo(f"{gateway_id} enrolled: {path}")
    if speaks_for:
        click.echo(f"  speaks for {', '.join(speaks_for)}")


@keys_group.command()
@click.argument("gateway_id")
@click.option("--allow", "folder", type=_FOLDER, required=True, help="The receiver's `listen.allow` folder.")
def revoke(gateway_id: str, folder: Path) -> None:
    """Take GATEWAY_ID off the allow-list. Takes effect at once, running sessions included."""
    path = keys.revoke(gateway_id, folder)
    click.echo(f"{gateway_id} revoked: {path} removed")


@keys_group.command()
@click.argument("policy", type=_FILE)
@click.option(
    "--id", "key_id", default="", help="Name of the new key. Default: the old one's, its number raised."
)
@click.option("--bridge", is_flag=True, help="Write tokens of the old key too, so that old rows still join.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rotate(policy: Path, key_id: str, bridge: bool, as_json: bool) -> None:
    """Give a masking POLICY a new key for tokens and encryption, or its first one.

    Writes a secret beside the policy and changes `keys` and `version` in it. The old key is kept under
    `previous`: it opens what it closed. Copy both files to every gateway that shares the policy.
    """
    from forebay.mask.rotation import rotate as rotate_policy

    done = rotate_policy(policy, key_id, bridge=bridge)
    facts = {
        "policy": str(policy),
        "version": done.policy.version,
        "hash": done.policy.hash,
        "key_id": done.key_id,
        "old_id": done.old_id,
        "secret": str(done.secret),
    }
    click.echo(json.dumps(facts) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))


@keys_group.command()
@click.argument("policy", type=_FILE)
@click.option(
    "-i", "--input", "source", type=click.File(encoding="utf-8"), default="-", help="Default: stdin."
)
@click.option("-o", "--output", "target", type=click.File("w", encoding="utf-8"), default="-")
@click.option(
    "--class", "class_name", default="", help="Each line is one value of this class changed by `fpe`."
)
@click.option("--key-id", default="", help="With --class: the key in use then. Default: the present one.")
def reveal(policy: Path, source: TextIO, target: TextIO, class_name: str, key_id: str) -> int:
    """Open encrypted values. Needs the secrets of the POLICY, which only those who may see them should have."""
    from forebay.mask import load_policy
    from forebay.mask.reveal import Revealer

    revealer = Revealer(load_policy(policy.name, policy.parent))
    for number, line in enumerate(source, start=1):
        body = line.rstrip("\r\n")
        end = line[len(body) :]
        if not class_name:
            target.write(revealer.line(body) + end)
            continue
        try:
            target.write(revealer.form(class_name, body, key_id) + end)
        except MaskError as error:
            revealer.counts["failed"] += 1
            click.echo(f"line {number}: {error.message}", err=True)
    opened = ", ".join(f"{name} {n}" for name, n in sorted(revealer.counts.items())) or "nothing"
    click.echo(f"opened: {opened}", err=True)
    return 1 if revealer.counts["failed"] else 0
