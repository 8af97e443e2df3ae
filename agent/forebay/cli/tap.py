"""`forebay tap`: the rows of a running agent as they go to the spool, masked and guarded."""

from __future__ import annotations

import json
from pathlib import Path

import click

from forebay.cli.status import DEFAULT_CONFIG
from forebay.config.loader import load_agent
from forebay.control.client import ask


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--pipeline", metavar="NAME", help="Only this pipeline.")
@click.option("--rows", "most", type=click.IntRange(min=1), help="End after so many rows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines (the default does, too).")
def tap_command(config: Path, pipeline: str | None, most: int | None, as_json: bool) -> int:
    """Show rows of the running agent of CONFIG (/etc/forebay/agent.yaml), one JSON object a line.

    They are shown as they go to the spool: after all steps, masked. A slow looker misses rows; the road does not
    wait for it.
    """
    loaded = load_agent(config)
    shown = 0
    for row in ask(loaded.resolve(loaded.config.spool.dir), "tap", pipeline=pipeline):
        if row is None:
            continue
        click.echo(json.dumps(row, ensure_ascii=False))
        shown += 1
        if shown == most:
            break
    return 0
