"""`forebay top`: rates of a running agent, again and again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from forebay.cli.status import DEFAULT_CONFIG, count, folder_of, short, size, span
from forebay.config.base import parse_duration
from forebay.control.client import ask_once

KINDS = ("read", "accepted", "delivered")


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--interval", default="1s", show_default=True, metavar="DURATION", help="Between two looks.")
@click.option("--count", "looks", type=click.IntRange(min=1), help="End after so many looks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a look.")
def top_command(config: Path, interval: str, looks: int | None, as_json: bool) -> int:
    """Show what flows in the running agent of CONFIG (/etc/forebay/agent.yaml): readings a second by stream."""
    try:
        pause_s = parse_duration(interval) / 1e9
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--interval") from None
    folder = folder_of(config)
    before, done = ask_once(folder, "status"), 0
    while True:
        time.sleep(pause_s)
        now = ask_once(folder, "status")
        facts = rates(before, now)
        if as_json:
            click.echo(json.dumps(facts, ensure_ascii=False))
        else:
            click.clear()
            click.echo(render(now, facts))
        before, done = now, done + 1
        if done == looks:
            return 0


def rates(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return readings a second between two looks, by stream and kind."""
    seconds = max(now["uptime_s"] - before["uptime_s"], 1e-3)
    streams = {}
    for name, entry in now["streams"].items():
        old = before["streams"].get(name, {})
        streams[name] = {kind: round((entry[kind] - old.get(kind, 0)) / seconds, 1) for kind in KINDS}
        streams[name]["pending"] = entry["pending"]
    cpu_s = now["process"]["cpu_s"] - before["process"]["cpu_s"]
    return {"seconds": round(seconds, 3), "streams": streams, "link": now["link"]["state"],
            "spool_bytes": now["spool"]["file_bytes"], "cpu_percent": round(100 * cpu_s / seconds, 1)}  # fmt: skip


def render(now: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return one look as text, at most 80 characters wide but for what a trouble says."""
    link, spool = now["link"], now["spool"]
    lines = [
        f"gateway {now['gateway']}  up {span(int(now['uptime_s']))}  memory {size(now['process']['rss_bytes'])}"
        f"  CPU {facts['cpu_percent']:.1f} %",
        f"link    {link['state']} {link['endpoint']}",
        *([f"        {link['reason']}"] if link["reason"] else []),
        f"spool   {spool['state']}  {size(spool['file_bytes'])} of {size(spool['max_bytes'])},"
        f" {count(spool['pending_batches'])} batches wait",
        "",
        f"{'readings of':<24}{'read/s':>13}{'accepted/s':>13}{'delivered/s':>14}{'waiting':>14}",
    ]
    for name, entry in facts["streams"].items():
        lines.append(
            f"{short(name, 24):<24}{count(entry['read']):>13}{count(entry['accepted']):>13}"
            f"{count(entry['delivered']):>14}{count(entry['pending']):>14}"
        )
    lines += [f"{name}: {p['trouble']}" for name, p in now["pipelines"].items() if p["trouble"]]
    if now["stuck"] or now["config"]["safe_mode"]:
        lines.append(f"trouble: {now['stuck'] or now['config']['safe_mode']}")
    return "\n".join(lines)
