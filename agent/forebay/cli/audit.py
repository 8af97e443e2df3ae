"""`forebay audit`: verify the log of masking, report from it, and how telling a sample is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from forebay import risk as risks
from forebay.audit import Head, summarise, verify
from forebay.cli.audit_page import facts_of, render
from forebay.cli.status import DEFAULT_CONFIG
from forebay.config.loader import load_agent
from forebay.errors import ConfigError, SpoolError
from forebay.mask import load_policy
from forebay.spool import segment_path
from forebay.spool.audit import AuditReader

_PLACE = click.argument("place", type=click.Path(path_type=Path, exists=True), default=DEFAULT_CONFIG)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def audit_group() -> None:
    """Verify and report what masking did.

    PLACE is the agent's configuration (default /etc/forebay/agent.yaml), a spool folder or a segment.
    """


def _reader(place: Path) -> AuditReader:
    """Return a reader of the segment in use: it holds the whole log, older segments hold older copies."""
    if place.suffix == ".db":
        return AuditReader(place)
    folder = place
    if place.is_file():
        loaded = load_agent(place)
        folder = loaded.resolve(loaded.config.spool.dir)
    path = segment_path(folder)
    if not path.exists():
        raise SpoolError("there is no spool here", place=str(folder))
    return AuditReader(path)


@audit_group.command()
@_PLACE
@_JSON
def head(place: Path, as_json: bool) -> None:
    """Print where the chain stands, to be kept elsewhere: `verify --anchor` then shows what was cut off."""
    now = _reader(place).head()
    if not isinstance(now.hash, bytes):
        raise SpoolError("the newest entry has no hash", place=str(place), hint="forebay audit verify")
    click.echo(json.dumps({"n": now.n, "hash": now.hash.hex(), "anchor": str(now)}) if as_json else str(now))


@audit_group.command(name="verify")
@_PLACE
@click.option("--anchor", default="", help="NUMBER:HASH that `forebay audit head` printed earlier.")
@_JSON
def verify_command(place: Path, anchor: str, as_json: bool) -> int:
    """Follow the chain. Exit 1 if an entry was changed, taken out or put in, or the anchor does not hold."""
    try:
        wanted = Head.parse(anchor) if anchor else None
    except ValueError as error:
        raise ConfigError(str(error), place="--anchor") from None
    reader = _reader(place)
    verdict = verify(reader.entries(), reader.pruned(), wanted, is_used=reader.is_used())
    facts = {
        "ok": not verdict.problems,
        "segment": str(reader.path),
        "entries": verdict.entries,
        "first": verdict.first,
        "head": str(verdict.head),
        "anchor": verdict.anchor,
        "problems": verdict.problems,
    }
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return 0 if facts["ok"] else 1
    older = f" ({verdict.first - 1} older deleted by rotation, says the log)" if verdict.first > 1 else ""
    click.echo(
        f"{'OK' if facts['ok'] else 'BROKEN'}, {verdict.entries} entries from {verdict.first}{older},"
        f" head {verdict.head}, anchor {verdict.anchor}"
    )
    if wanted is None:
        click.echo(
            "  entries cut off at the end show only with --anchor, from an earlier `forebay audit head`"
        )
    for problem in verdict.problems:
        click.echo(f"  {problem}")
    return 0 if facts["ok"] else 1


def _moment(text: str, *, end: bool = False) -> int:
    """Return ns of an ISO date or time; a date as the end of a range is its whole day."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            "expected a date or time such as 2026-03-31 or 2026-03-31T08:00", place=text
        ) from None
    if end and len(text) <= 10:
        when += timedelta(days=1)
    if when.tzinfo is None:
        when = when.astimezone()  # as clocks at the site show
    return int(when.timestamp()) * 1_000_000_000


@audit_group.command()
@_PLACE
@click.option("--from", "since", default="", help="First date or time, e.g. 2026-03-01.")
@click.option("--to", "until", default="", help="Last date (whole), or time.")
@click.option("--policy", "policy_name", default="", help="Name levels after this policy. Default: `base`.")
@click.option("--html", "html_path", type=click.Path(path_type=Path, dir_okay=False), help="Write a page.")
@_JSON
def report(
    place: Path, since: str, until: str, policy_name: str, html_path: Path | None, as_json: bool
) -> int:
    """Say which rules were applied how often, by class, stream and field, under which policy and key."""
    first = _moment(since) if since else 0
    last = _moment(until, end=True) if until else 2**63 - 1
    if first >= last:
        raise ConfigError("the range ends before it begins", place=f"--from {since} --to {until}")
    reader = _reader(place)
    verdict = verify(reader.entries(), reader.pruned(), is_used=reader.is_used())
    policy = load_policy(policy_name or "base", Path())
    summary = summarise(_texts(reader), first, last)
    facts = facts_of(summary, policy, verdict.problems, str(verdict.head))
    facts["from"], facts["to"] = since, until
    if html_path is not None:
        html_path.write_text(render(facts), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print(facts)
    return 1 if verdict.problems else 0


def _texts(reader: AuditReader) -> Iterator[str]:
    yield from (entry.text for entry in reader.entries())
    yield from reader.open_texts()


def _print(facts: dict[str, Any]) -> None:
    span = f", {facts['first']} to {facts['last']}" if facts["entries"] else " in this range"
    click.echo(f"{facts['entries']} entries, {facts['batches']} batches{span}")
    if facts["unreadable"]:
        click.echo(f"{facts['unreadable']} entries cannot be read and are not in these counts")
    click.echo(f"chain: {'; '.join(facts['problems']) or 'holds'}")
    for policy in facts["policies"]:
        key = f", key {policy['key_id']}" if policy["key_id"] else ""
        click.echo(f"policy {policy['name']} {policy['hash'][:12]}{key}: {policy['entries']} entries")
    for row in facts["hits"]:
        level = f" ({row['level']})" if row["level"] else ""
        click.echo(
            f"  {row['stream']}.{row['field']}  {row['class']}{level}  {row['operator']}  {row['count']}"
        )


@audit_group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--quasi", required=True, help="Columns by which a person could be recognised: a,b,c.")
@click.option("--sensitive", default="", help="Columns that nobody may learn: d,e.")
@click.option("--least", default=0, help="Exit 1 if k is below this.")
@_JSON
def risk(file: Path, quasi: str, sensitive: str, least: int, as_json: bool) -> int:
    """Tell how easily records of a CSV or JSON lines FILE can be tied to a person (k-anonymity)."""
    names = [name.strip() for name in quasi.split(",") if name.strip()]
    hidden = [name.strip() for name in sensitive.split(",") if name.strip()]
    found = risks.assess(risks.read_table(file), names, hidden)
    if as_json:
        click.echo(json.dumps(found.as_dict(), ensure_ascii=False))
        return 1 if found.k < least else 0
    click.echo(f"{found.records} records in {found.groups} groups of {', '.join(names)}")
    click.echo(
        f"k = {found.k}; {found.unique} records stand alone ({100 * found.unique / found.records:.1f} %)"
    )
    click.echo(
        f"chance to pick the right record: at most {found.highest:.4f}, on average {found.average:.4f}"
    )
    for size, count in found.sizes.items():
        click.echo(f"  in groups of {size:<6} {count} records")
    for title, table in (("alone", found.alone), ("two together", found.pairs)):
        for name, count in table.items():
            click.echo(f"  {title}: {name} singles out {count} records")
    for name, close in found.sensitive.items():
        click.echo(f"  {name}: l = {close.l}, t = {close.t}")
    return 1 if found.k < least else 0
