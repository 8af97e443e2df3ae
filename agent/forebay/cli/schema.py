"""`forebay schema`: JSON Schema of the configurations, for editors and other tools."""

from __future__ import annotations

import json

import click

from forebay.config.schema import KINDS, schema_of


@click.command(name="schema")
@click.argument("kind", type=click.Choice(KINDS), required=False)
def schema_command(kind: str | None) -> int:
    """Print the JSON Schema (2020-12) of agent, receiver or policy; without KIND of the first two."""
    shown = schema_of(kind) if kind else {name: schema_of(name) for name in ("agent", "receiver")}
    click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    return 0
