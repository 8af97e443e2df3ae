"""`forebay tap`: the rows of a running agent as they go to the spool, masked and guarded."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from forebay.cli.status import DEFAULT_CONFIG, folder_of
from forebay.control.client import ask

LONGEST_TEXT = 32


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--pipeline", metavar="NAME", help="Only this pipeline.")
@click.option("--rows", "most", type=click.IntRange(min=1), help="End after so many rows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on a terminal, too.")
def tap_command(config: Path, pipeline: str | None, most: int | None, as_json: bool) -> int:
    """Show rows of the running agent of CONFIG (/etc/forebay/agent.yaml).

    On a terminal: local time, stream and values, cut to its width. Into a file or pipe: one JSON object a line.
    They are shown as they go to the spool: after all steps, masked. A slow looker misses rows; the road does not
    wait for it.
    """
    as_json = as_json or not sys.stdout.isatty()
    shown = 0
    for row in ask(folder_of(config), "tap", pipeline=pipeline):
        if row is None:
            continue
        click.echo(
            json.dumps(row, ensure_ascii=False) if as_json else line(row, shutil.get_terminal_size().columns)
        )
        shown += 1
        if shown == most:
            break
    return 0


def line(row: dict[str, Any], width: int) -> str:
    """Return a row as one line for people: cells that are not good say why, those that a deadband blanked are left
    out, long texts and pictures only say how long they are."""
    row = dict(row)
    when = datetime.fromtimestamp(row.pop("time") / 1e9).strftime("%H:%M:%S.%f")[:-3]
    bad = {name: why for name, why in row.pop("quality", {}).items() if not why.startswith("good")}
    cells = [f"{when} {row.pop('stream')}"]
    for name in dict.fromkeys([*row, *bad]):
        cells.append(f"{name}={_cell(row[name])}" if name in row else f"{name}=-")
        if name in bad:
            cells[-1] += f" ({bad[name]})"
    text = "  ".join(cells)
    return text if len(text) <= width else text[: width - 1] + "…"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        plain = json.dumps(value, ensure_ascii=False)  # no control character reaches the terminal
        return plain if len(plain) <= LONGEST_TEXT else f"({len(value)} characters)"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
