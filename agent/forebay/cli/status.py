"""`forebay status`: the ledger and the buffer of an agent, running or not."""

from __future__ import annotations

import fcntl
import json
import os
import textwrap
import time
from pathlib import Path
from typing import Any

import click

from forebay.config.agent import AgentConfig
from forebay.config.findings import ConfigErrors
from forebay.config.loader import LoadedConfig, load_agent
from forebay.control.client import ask_once
from forebay.errors import ForebayError
from forebay.lastgood import salvaged, spool_folder
from forebay.spool import Reader, segment_path
from forebay.spool.forecast import file_bytes, full_in_s
from forebay.spool.reader import equations_hold

ANSWER_S = 5.0
WIDTH = 80  # of a field engineer's terminal
LOST = ("evicted", "dead_lettered", "quarantined")
DEFAULT_CONFIG = Path("/etc/forebay/agent.yaml")


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status_command(config: Path, as_json: bool) -> int:
    """Say how the agent of CONFIG (/etc/forebay/agent.yaml) is: what was read, dropped, delivered, what waits."""
    folder = folder_of(config)
    try:
        facts = ask_once(folder, "status", timeout=ANSWER_S)
    except ForebayError:  # not running, or too busy with its end or start to answer: the file tells
        loaded = _configured(config)
        facts = collect(folder, loaded.config.gateway.id, loaded.config.spool.max_bytes)
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else render(facts))
    return 0


def folder_of(config: Path) -> Path:
    """Return the spool of the agent of a configuration.

    Raises ConfigErrors for a bad one, unless an agent runs all the same: in safe mode.
    """
    try:
        loaded = load_agent(config)
    except ConfigErrors:
        folder = spool_folder(config)
        if not is_running(folder):
            raise
        return folder
    return loaded.resolve(loaded.config.spool.dir)


def _configured(config: Path) -> LoadedConfig[AgentConfig]:
    """Return the configuration; of a bad one, under which an agent in safe mode runs, what is good of it."""
    try:
        return load_agent(config)
    except ConfigErrors:
        return salvaged(config)


def collect(folder: Path, gateway: str, max_bytes: int = 0) -> dict[str, Any]:
    """Return the facts of a spool."""
    reader = Reader(segment_path(folder))
    try:
        batches, readings, size = reader.counts()
        ledger = reader.ledger()
        taken, rate = file_bytes(folder), reader.rate()
        segments = [f"{number} {state}" for number, _, _, state in reader.segments()]
        dead_letters = sum(row[3] for row in reader.dead_letters())
    finally:
        reader.close()
    return {
        "gateway": gateway,
        "running": is_running(folder),
        "spool": {
            "dir": str(folder),
            "pending_batches": batches,
            "pending_readings": readings,
            "pending_bytes": size,
            "file_bytes": taken,
            "max_bytes": max_bytes,
            "full_in_s": full_in_s(max_bytes, taken, rate),
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
    """Return the facts as a table for people, at most 80 characters wide but for what a message says."""
    spool = facts["spool"]
    quota = f" of {size(spool['max_bytes'])}" if spool["max_bytes"] else ""
    lines = [
        *_head(facts),
        f"spool   {count(spool['pending_batches'])} batches wait ({size(spool['pending_bytes'])}), "
        f"{size(spool['file_bytes'])}{quota} on disk",
        f"        in {spool['dir']}",
        *_prediction(spool["full_in_s"]),
        *_live_lines(facts),
        "",
        f"{'readings of':<15}" + "".join(f"{name:>9}" for name in ("read", "filtered", "guarded", "rejected"))
        + f"{'delivered':>11}{'waiting':>9}{'lost':>9}",
    ]  # fmt: skip
    for name, entry in facts["streams"].items():
        lost = sum(sum(entry[kind].values()) for kind in LOST)
        counts = (
            entry["read"],
            sum(entry["filtered"].values()),
            entry["guarded"],
            sum(entry["rejected"].values()),
        )
        lines.append(
            f"{short(name, 15):<15}" + "".join(f"{count(n):>9}" for n in counts)
            + f"{count(entry['delivered']):>11}{count(entry['pending']):>9}{count(lost):>9}"
        )  # fmt: skip
    lines += _reasons(facts["streams"])
    lines += _models(facts["streams"])
    if not facts["balanced"]:
        lines.append("the ledger does not balance: please report this")
    return "\n".join(lines)


def _prediction(full_in_s: int | None) -> list[str]:
    return (
        []
        if full_in_s is None
        else [f"        full in {span(full_in_s)} if nothing is delivered from now on"]
    )


def _head(facts: dict[str, Any]) -> list[str]:
    site = f" ({facts['site']})" if facts.get("site") else ""
    if not facts["running"]:
        return [f"gateway {facts['gateway']}{site}: not running"]
    if "uptime_s" not in facts:  # it runs, but does not answer
        return [f"gateway {facts['gateway']}{site}: running"]
    process, policy = facts["process"], facts["policy"]
    return [
        f"gateway {facts['gateway']}{site}: running",
        f"        up {span(int(facts['uptime_s']))}, {size(process['rss_bytes'])} of memory, "
        f"version {facts['version']}",
        f"        clock {facts['clock']}, policy {policy['name'] or 'none'}",
    ]


def _reasons(streams: dict[str, Any]) -> list[str]:
    """Return why readings did not go on, one line a stream and kind."""
    return [
        f"{short(name, 16)} {kind.replace('_', ' ')}: "
        + ", ".join(
            f"{reason} {count(n)}" for reason, n in sorted(entry[kind].items(), key=lambda item: -item[1])
        )
        for name, entry in streams.items()
        for kind in ("filtered", "rejected", *LOST)
        if any(entry[kind].values())
    ]


def _models(streams: dict[str, Any]) -> list[str]:
    """Return what each model did, one line a stream and model."""
    return [
        f"{short(name, 16)} {model}: "
        + ", ".join(f"{event.replace('_', ' ')} {count(n)}" for event, n in sorted(events.items()))
        for name, entry in streams.items()
        for model, events in sorted(entry["models"].items())
    ]


def _live_lines(facts: dict[str, Any]) -> list[str]:
    """Return what only a running agent can say."""
    if "link" not in facts:
        return []
    link, config = facts["link"], facts["config"]
    lines = [f"link    {link['state']} {link['endpoint']}".rstrip()]
    lines += [f"        {link['reason']}"] if link["reason"] else []
    if facts["spool"]["state"] != "ok":
        lines.append(f"spool   {facts['spool']['state']}: {facts['spool']['detail']}")
    if config["safe_mode"]:
        lines.append(f"SAFE MODE: {config['safe_mode']}")
    if facts["stuck"]:
        lines.append(f"STUCK: {facts['stuck']}")
    lines += [f"{name}: {p['trouble']}" for name, p in facts["pipelines"].items() if p["trouble"]]
    lines += [
        f"{name}: candidate {report['candidate']} is {report['phase'].replace('_', ' ')} {report['reason']}".rstrip()
        for name, pipeline in facts["pipelines"].items()
        for report in pipeline["reports"].values()
        if "candidate" in report
    ]
    for trouble in facts["troubles"][-5:]:
        said = " ".join(f"{k}={v}" for k, v in trouble["facts"].items())
        text = f"{trouble['level']:<8}{trouble['message']} {said}".rstrip()
        times = f"({trouble['times']}x{_ago(trouble, facts['uptime_s'])})"
        lines += textwrap.wrap(f"{text} {times}", WIDTH, subsequent_indent=" " * 8)
        if trouble["do"]:
            lines += textwrap.wrap(f"        -> {trouble['do']}", WIDTH, subsequent_indent=" " * 11)
    return lines


def _ago(trouble: dict[str, Any], uptime_s: float) -> str:
    """Return how long ago it last came: what has passed looks else like what is. Empty after the clock was set."""
    seconds = int(time.time_ns() - trouble["wall_ns"]) // 10**9
    return f", {span(seconds)} ago" if 0 <= seconds <= uptime_s + 60 else ""


def count(number: float) -> str:
    """Return a count in at most eight characters; from a million on rounded (`--json` has all digits)."""
    for power, letter in ((12, "T"), (9, "G"), (6, "M")):
        if number >= 10**power:
            return f"{number / 10**power:.2f}{letter}"
    return f"{number:,}"


def size(number: float) -> str:
    """Return bytes for people: `1.4 MiB`."""
    units = ("B", "KiB", "MiB", "GiB")
    power = next((p for p in range(len(units) - 1) if number < 1024 ** (p + 1)), len(units) - 1)
    number /= 1024**power
    return f"{number:.0f} {units[power]}" if power == 0 or number >= 100 else f"{number:.1f} {units[power]}"


def short(text: str, most: int) -> str:
    """Return a text that leaves one of `most` characters free."""
    return text if len(text) < most else text[: most - 2] + "…"


def span(seconds: int) -> str:
    """Return a time for people: `2 d 3 h`, `1 h 5 min`, `40 s`."""
    if seconds < 120:
        return f"{seconds} s"
    hours, rest = divmod(seconds, 3600)
    return f"{hours // 24} d {hours % 24} h" if hours >= 48 else f"{hours} h {rest // 60} min"
