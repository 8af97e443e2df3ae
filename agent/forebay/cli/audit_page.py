"""The masking report as facts and as one HTML page without scripts, fonts or links: it can be printed and signed."""

from __future__ import annotations

import html
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from forebay.audit import Summary
from forebay.mask import Policy

_STYLE = (
    "body{font:14px sans-serif;max-width:60em;margin:2em auto;color:#222}table{border-collapse:collapse;width:100%;"
    "margin:1em 0}th,td{text-align:left;padding:.3em .6em;border-bottom:1px solid #ccc}td.n,th.n{text-align:right}"
    ".bad{color:#a00;font-weight:bold}code{font-size:12px;overflow-wrap:anywhere}"
)


def facts_of(summary: Summary, policy: Policy, problems: list[str], head: str) -> dict[str, Any]:
    """Return a report as plain facts; `policy` tells which classes are sensitive."""
    rows, by_class = [], Counter[tuple[str, str]]()
    for (stream, name, rule), count in sorted(summary.hits.items()):
        class_name, _, operator = rule.partition(":")
        if class_name in ("leak", "guard", "detector"):
            # the guard's own counts are written the other way round: what stopped it, then the class
            class_name, operator = (operator, "stopped by the guard") if class_name == "leak" else ("", rule)
        by_class[class_name, operator] += count
        level = policy.level(class_name)
        rows.append(
            {
                "stream": stream,
                "field": name,
                "class": class_name,
                "level": level,
                "operator": operator,
                "count": count,
            }
        )
    return {
        "entries": summary.entries,
        "unreadable": summary.unreadable,
        "batches": summary.batches,
        "first": _time(summary.first_wall_ns),
        "last": _time(summary.last_wall_ns),
        "gateways": sorted(summary.gateways),
        "agents": sorted(summary.agents),
        "chain": "broken" if problems else "holds",
        "problems": problems,
        "head": head,
        "policies": [
            {"name": name, "hash": digest, "key_id": key_id, "entries": count}
            for (name, digest, key_id), count in summary.policies.most_common()
        ],
        "classes": [
            {"class": c, "level": policy.level(c), "operator": o, "count": n}
            for (c, o), n in by_class.most_common()
        ],
        "hits": rows,
    }


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).isoformat() if ns else ""


def render(facts: dict[str, Any]) -> str:
    """Return the page."""
    asked = " to ".join(t or "…" for t in (facts.get("from", ""), facts.get("to", "")))
    chain = "<p>The chain of the log holds.</p>"
    if facts["problems"]:
        items = "".join(f"<li>{_text(p)}</li>" for p in facts["problems"])
        chain = f'<p class="bad">The log was tampered with or is damaged:</p><ul>{items}</ul>'
    if facts["unreadable"]:
        chain += f'<p class="bad">{facts["unreadable"]} entries cannot be read and are not counted below.</p>'
    span = (
        f" entries from {_text(facts['first'])} to {_text(facts['last'])}"
        if facts["entries"]
        else " no entries"
    )
    parts = [
        f"<h1>Masking report</h1><p>Gateway {_text(', '.join(facts['gateways']) or 'none')}, asked for {_text(asked)},"
        f"{span} (the gateway's clock, UTC):"
        f" {facts['entries']} entries on {facts['batches']} batches.</p>",
        chain,
        f"<p>Head of the chain: <code>{_text(facts['head'])}</code></p>",
        "<h2>Policies</h2>",
        _table(facts["policies"], ("name", "hash", "key_id", "entries")),
        "<h2>By class</h2>",
        _table(facts["classes"], ("class", "level", "operator", "count")),
        "<h2>By stream and field</h2>",
        _table(facts["hits"], ("stream", "field", "class", "level", "operator", "count")),
        "<p>Counts only: the log holds no value. It binds an honest agent; anchors kept elsewhere show whether"
        " entries were cut off.</p>",
    ]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>Masking report</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}{body}</html>\n'


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    head = "".join(f"<th>{c.replace('_', ' ')}</th>" for c in columns)
    lines = ("".join(f"<td>{_text(str(row[c]))}</td>" for c in columns) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _text(text: str) -> str:
    return html.escape(text)
