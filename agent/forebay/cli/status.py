"""`forebay status`: the ledger and the buffer of an agent, running or not."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import click

from forebay.config.loader import load_agent
from forebay.control.client import ask_once
from forebay.errors import ForebayError
from forebay.spool import Reader, segment_path
from forebay.spool.reader import equations_hold

ANSWER_S = 5.0
DEFAULT_CONFIG = Path("/etc/forebay/agent.yaml")


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status_command(config: Path, as_json: bool) -> int:
    """Say how the agent of CONFIG (/etc/forebay/agent.yaml) is: what was read, dropped, delivered, what waits."""
    loaded = load_agent(config)
    folder = loaded.resolve(loaded.config.spool.dir)
    try:
        facts = ask_once(folder, "status", timeout=ANSWER_S)
    except ForebayError:  # not running, or too busy with its end or start to answer: the file tells
        facts = collect(folder, loaded.config.gateway.id, loaded.config.spool.max_bytes)
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else render(facts))
    return 0


def collect(folder: Path, gateway: str, max_bytes: int = 0) -> dict[str, Any]:
    """Return the facts of a spool."""
    reader = Reader(segment_path(folder))
    try:
        batches, readings, size = reader.counts()
        ledger = reader.ledger()
        file_bytes, rate = reader.file_bytes(), reader.rate()
        segments = [f"{number} {state}" for number, _, _, state in reader.segments()]
        dead_letters = sum(row[3] for row in reader.dead_letters())
    finally:
        reader.close()
    # As fast as what waits came in; while the receiver takes everything nothing waits, and nothing fills.
    full_in_s = int(max(0, max_bytes - file_bytes) / rate) if rate and max_bytes else None
    return {
        "gateway": gateway,
        "running": is_running(folder),
        "spool": {
            "dir": str(folder),
            "pending_batches": batches,
            "pending_readings": readings,
            "pending_bytes": size,
            "file_bytes": file_bytes,
            "max_bytes": max_bytes,
            "full_in_s": full_in_s,
            "segments": segments,
            "dead_letters": dead_letters,
        },
        "streams": ledger,
        "balanced": all(equations_hold(entry) for entry in ledger.values()),
    }


def is_running(folder: Path) -> bool:
    """Return whether an agent holds the spool's lock."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def render(facts: dict[str, Any]) -> str:
    """Return the facts as a table for people."""
    spool = facts["spool"]
    lines = [
        f"gateway {facts['gateway']}: {'running' if facts['running'] else 'not running'}",
        f"spool   {spool['pending_batches']} batches wait ({spool['pending_bytes']} bytes) in {spool['dir']}",
        *_live_lines(facts),
        "",
        f"{'stream':<24}{'read':>12}{'filtered':>12}{'guarded':>10}{'rejected':>10}{'accepted':>12}"
        f"{'delivered':>12}{'pending':>10}{'lost':>8}",
    ]
    for name, entry in facts["streams"].items():
        lost = sum(sum(entry[kind].values()) for kind in ("evicted", "dead_lettered", "quarantined"))
        filtered, rejected = sum(entry["filtered"].values()), sum(entry["rejected"].values())
        lines.append(
            f"{name:<24}{entry['read']:>12}{filtered:>12}{entry['guarded']:>10}{rejected:>10}"
            f"{entry['accepted']:>12}{entry['delivered']:>12}{entry['pending']:>10}{lost:>8}"
        )
    if spool["full_in_s"] is not None:
        lines.insert(2, f"        full in {_span(spool['full_in_s'])} if nothing is delivered from now on")
    if not facts["balanced"]:
        lines.append("the ledger does not balance: please report this")
    return "\n".join(lines)


def _live_lines(facts: dict[str, Any]) -> list[str]:
    """Return what only a running agent can say."""
    if "link" not in facts:
        return []
    link, config = facts["link"], facts["config"]
    lines = [f"link    {link['state']} {link['endpoint']} {link['reason']}".rstrip()]
    if facts["spool"]["state"] != "ok":
        lines.append(f"spool   {facts['spool']['state']}: {facts['spool']['detail']}")
    if config["safe_mode"]:
        lines.append(f"SAFE MODE: {config['safe_mode']}")
    if facts["stuck"]:
        lines.append(f"STUCK: {facts['stuck']}")
    lines += [f"{name}: {p['trouble']}" for name, p in facts["pipelines"].items() if p["trouble"]]
    lines += [
        f"{name}: candidate {report['candidate']} is {report['phase']} {report['reason']}".rstrip()
        for name, pipeline in facts["pipelines"].items()
        for report in pipeline["reports"].values()
        if "candidate" in report
    ]
    for trouble in facts["troubles"][-5:]:
        said = " ".join(f"{k}={v}" for k, v in trouble["facts"].items())
        lines.append(f"{trouble['level']:<8}{trouble['message']} {said} ({trouble['times']}x)")
    return lines


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours // 24} d {hours % 24} h" if hours >= 48 else f"{hours} h {rest // 60} min"
