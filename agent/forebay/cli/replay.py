"""`forebay replay`: a recording through one configuration, or through two with what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from forebay.config.loader import load_agent
from forebay.config.sources import FileOptions
from forebay.replay import Difference, Replay, compare, replay


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path), required=False)
@click.option(
    "--pipeline", "pipelines", multiple=True, metavar="NAME", help="Only this one; may be repeated."
)
@click.option(
    "-i", "--input", "recording", type=click.Path(path_type=Path), help="Read this instead of the source."
)
@click.option("--time", "time", metavar="FIELD[:UNIT]", help="With --input: its time, e.g. `ts` or `ts:ms`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay_command(
    config: Path,
    other: Path | None,
    pipelines: tuple[str, ...],
    recording: Path | None,
    time: str | None,
    as_json: bool,
) -> int:
    """Run a recording through the pipelines of CONFIG, in memory: nothing is stored or sent.

    With OTHER, a second configuration, the same through that one, and what differs. Exit 1 when something does.
    The recording is what the file sources name, or --input: CSV, JSON lines (what `forebay tap` printed, too),
    pictures, a video.
    """
    options = _recording(recording, time)
    runs = [
        replay(load_agent(path), pipelines=pipelines, recording=options, keep_rows=other is not None)
        for path in (config, other)
        if path is not None
    ]
    difference = compare(runs[0], runs[1]) if other is not None else None
    if as_json:
        click.echo(json.dumps(_as_dict(runs, difference), ensure_ascii=False))
    else:
        click.echo(_render([p for p in (config, other) if p is not None], runs, difference))
    return 1 if difference is not None and not difference.is_empty else 0


def _recording(path: Path | None, time: str | None) -> FileOptions | None:
    if path is None:
        if time is not None:
            raise click.BadParameter("goes with --input", param_hint="--time")
        return None
    values: dict[str, Any] = {"path": str(path.absolute())}
    if time is not None:
        name, _, unit = time.partition(":")
        values["time"] = {"field": name, **({"unit": unit} if unit else {})}
    try:
        return FileOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise click.BadParameter(first["msg"], param_hint="--input, --time") from None


def _as_dict(runs: list[Replay], difference: Difference | None) -> dict[str, Any]:
    out: dict[str, Any] = {"runs": [run.streams() for run in runs]}
    if difference is not None:
        out["difference"] = {
            "only_first": dict(difference.only_first),
            "only_second": dict(difference.only_second),
            "changed": dict(difference.changed),
            "cells": dict(difference.cells),
            "examples": difference.examples,
        }
    return out


def _render(paths: list[Path], runs: list[Replay], difference: Difference | None) -> str:
    lines = []
    for path, run in zip(paths, runs, strict=True):
        lines.append(f"{path}:")
        for stream, counts in run.streams().items():
            lines.append(f"  {stream:<24}" + "  ".join(f"{name} {count:,}" for name, count in counts.items()))
    if difference is None:
        return "\n".join(lines)
    if difference.is_empty:
        return "\n".join([*lines, "no row differs"])
    for title, counts in (
        (f"rows of {paths[0]} only", difference.only_first),
        (f"rows of {paths[1]} only", difference.only_second),
        ("rows that differ", difference.changed),
        ("cells that differ", difference.cells),
    ):
        if counts:
            lines.append(
                f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
            )
    lines += [json.dumps(example, ensure_ascii=False) for example in difference.examples]
    return "\n".join(lines)
