"""`forebay reload`: a running agent takes over its changed configuration."""

from __future__ import annotations

import json
from pathlib import Path

import click

from forebay.cli.status import DEFAULT_CONFIG
from forebay.config.loader import load_agent
from forebay.control.client import NotRunning, ask_once


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reload_command(config: Path, as_json: bool) -> int:
    """Let the agent of CONFIG (/etc/forebay/agent.yaml) read it again.

    What differs is printed. Only pipelines that changed are built anew; a bad configuration is refused and the
    old one goes on.
    """
    loaded = load_agent(config)  # a bad one is said here, with its places, before the agent is asked
    folder = loaded.resolve(loaded.config.spool.dir)
    try:
        plan = ask_once(folder, "reload")
    except NotRunning as error:
        hint = (
            f"{error.hint}; if `spool.dir` was changed: the running agent takes another one at a restart only"
        )
        raise NotRunning(error.message, place=error.place, hint=hint) from None
    if as_json:
        click.echo(json.dumps(plan, ensure_ascii=False))
        return 0
    for line in plan["diff"]:
        click.echo(line)
    touched = [f"{word} {', '.join(plan[word])}" for word in ("added", "removed", "rebuilt") if plan[word]]
    if plan["forward"]:
        touched.append("the link was made anew")
    click.echo("; ".join(touched) or "nothing changed")
    return 0
