"""`forebay top`: rates of a running agent, again and again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from forebay.cli.status import DEFAULT_CONFIG
from forebay.config.base import parse_duration
from forebay.config.loader import load_agent
from forebay.control.client import ask_once

KINDS = ("read", "accepted", "delivered")


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--interval", default="1s", show_default=True, metavar="DURATION", help="Between two looks.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many looks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a look.")
def top_command(config: Path, interval: str, count: int | None, as_json: bool) -> int:
    """Show what flows in the running agent of CONFIG (/etc/forebay/agent.yaml): readings a second by stream."""
    try:
        pause_s = parse_duration(interval) / 1e9
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--interval") from None
    loaded = load_agent(config)
    folder = loaded.resolve(loaded.config.spool.dir)
    before, looks = ask_once(folder, "status"), 0
    while True:
        time.sleep(pause_s)
        now = ask_once(folder, "status")
        facts = rates(before, now)
        if as_json:
            click.echo(json.dumps(facts, ensure_ascii=False))
        else:
            click.clear()
            click.echo(render(now, facts))
        before, looks = now, looks + 1
        if looks == count:
            return 0


def rates(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return readings a second between two looks, by stream and kind."""
    seconds = max(now["uptime_s"] - before["uptime_s"], 1e-3)
    streams = {}
    for name, entry in now["streams"].items():
        old = before["streams"].get(name, {})
        streams[name] = {kind: round((entry[kind] - old.get(kind, 0)) / seconds, 1) for kind in KINDS}
        streams[name]["pending"] = entry["pending"]
    return {"seconds": round(seconds, 3), "streams": streams, "link": now["link"]["state"],
            "spool_bytes": now["spool"]["file_bytes"]}  # fmt: skip


def render(now: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return one look as text."""
    link, spool = now["link"], now["spool"]
    lines = [
        f"gateway {now['gateway']}  up {now['uptime_s']:.0f} s"
        f"  link {link['state']} {link['endpoint']} {link['reason']}",
        f"spool {spool['state']}  {spool['file_bytes']:,} of {spool['max_bytes']:,} bytes,"
        f" {spool['pending_batches']:,} batches wait",
        "",
        f"{'stream':<24}{'read/s':>12}{'accepted/s':>12}{'delivered/s':>13}{'pending':>12}",
    ]
    for name, entry in facts["streams"].items():
        lines.append(
            f"{name:<24}{entry['read']:>12,.1f}{entry['accepted']:>12,.1f}{entry['delivered']:>13,.1f}"
            f"{entry['pending']:>12,}"
        )
    lines += [f"{name}: {p['trouble']}" for name, p in now["pipelines"].items() if p["trouble"]]
    if now["stuck"] or now["config"]["safe_mode"]:
        lines.append(f"trouble: {now['stuck'] or now['config']['safe_mode']}")
    return "\n".join(lines)
