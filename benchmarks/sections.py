"""Sections of docs/performance.md between the budgets and the list of all figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).parent / "results"
_TOP = 5


def number(value: float) -> str:
    """Return a figure with three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(title: str, text: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a section with a table; nothing where there are no rows."""
    listed = [f"| {' | '.join(row)} |" for row in rows]
    if not listed:
        return ""
    parts = [f"## {title}", "", *([text, ""] if text else [])]
    return "\n".join([*parts, f"| {' | '.join(head)} |", "|---" * len(head) + "|", *listed, ""])


def all_of(stored: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    """Return the sections that the result has something for."""
    return [
        _growth(figures),
        _sizes(figures),
        _text(figures),
        _latency(figures),
        _profile(stored.get("profile")),
        _gate(),
    ]


# -- growth ------------------------------------------------------------------------------------------------

_GROWTH = (
    (
        "rows",
        "rows a block",
        (("cpu", "agent, CPU us a row of 10 registers"), ("bytes", "reference series, B/reading")),
    ),
    ("streams", "streams", (("cpu", "agent, CPU us a row of 10 registers"), ("rss", "most memory, MB"))),
    (
        "gateways",
        "gateways",
        (
            ("cpu", "receiver, M readings/CPU-s"),
            ("p99", "sent to acknowledged, p99 ms"),
            ("rss", "memory, MB"),
        ),
    ),
    (
        "spool",
        "MB in the spool",
        (
            ("cpu", "CPU us a commit of 1,000 rows"),
            ("p50", "commit p50, ms"),
            ("open", "to open, ms"),
            ("read", "first batches to send, ms"),
        ),
    ),
)


def _growth(figures: dict[str, Any]) -> str:
    parts = [_growth_table(figures, *entry) for entry in _GROWTH]
    if not any(parts):
        return ""
    text = (
        "Each row of a table is a run of its own: agent and receiver in processes of their own, start-up subtracted. "
        "Gateways are simulated sessions with keys of their own that all send at once and wait for each answer, so "
        "that with many of them an answer waits for those of the others."
    )
    return "\n".join(["## How cost grows", "", text, "", *filter(None, parts)])


def _growth_table(figures: dict[str, Any], kind: str, by: str, columns: Sequence[tuple[str, str]]) -> str:
    prefix = f"grow-{kind}-"
    sizes = sorted(
        {int(name.removeprefix(prefix).partition("-")[0]) for name in figures if name.startswith(prefix)}
    )
    if not sizes:
        return ""
    head = [by, *(words for _, words in columns)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for size in sizes:
        cells = [number(figures[f"{prefix}{size}-{name}"]["value"]) for name, _ in columns]
        lines.append(f"| {size:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


# -- codecs and text ---------------------------------------------------------------------------------------


def _sizes(figures: dict[str, Any]) -> str:
    series = [f for name, f in figures.items() if name.startswith("size-")]
    if not series:
        return ""
    peers = list(dict.fromkeys(name for f in series for name in f["peers"]))
    head = ("bytes a reading", *(f["name"].removeprefix("size-") for f in series))
    rows = [("**Forebay, headers and envelope counted**", *(f"**{number(f['value'])}**" for f in series))]
    for name in peers:
        rows.append((name, *(number(f["peers"][name]) if name in f["peers"] else "" for f in series)))
    about = "; ".join(f"{f['name'].removeprefix('size-')}: {f['what']}" for f in series)
    text = (
        f"Blocks of 1,000 rows, unless a codec got the whole series in one. {about}. Every codec's output was decoded "
        "and compared to the last bit in the run; for Forebay and pcodec that includes a series of NaN payloads, -0.0, "
        "infinities, denormals and both ends of int64. pcodec is given columns; the names of devices are added to its "
        "size under zstd, without any framing."
    )
    if not peers:
        text += " **The peers were not installed in this run: make bench-peers.**"
    section = table("Bytes beside public codecs", text, head, rows)
    speed = [f for name, f in figures.items() if name.startswith("encode-")]
    lines = [f"{f['name'].removeprefix('encode-')} {number(f['value'])} us" + _pcodec(f) for f in speed]
    return f"{section}\nTo encode a block of 1,000 rows: {'; '.join(lines)}.\n"


def _pcodec(figure: dict[str, Any]) -> str:
    return f" (pcodec {number(figure['peers']['pcodec'])} us)" if "pcodec" in figure["peers"] else ""


def _text(figures: dict[str, Any]) -> str:
    found = figures.get("text-peers")
    if not found or not found["peers"]:
        return ""
    rows = [("Forebay: operators, counts, spans for the guard", number(found["value"] * 1e6), "1")]
    for name, value in found["peers"].items():
        rows.append((name, number(value * 1e6), number(found["value"] / value)))
    text = (
        "108 bytes a record, one in ten with a mobile and a resident number; each tool changed exactly those. Presidio "
        "ran with pattern recognizers and a blank language model, which is the least that it costs: its models could "
        "not be had. Hyperscan finds, Python looks around a hit and replaces."
    )
    return table(
        "Masking text beside public tools", text, ("tool", "records/CPU-s", "Forebay is faster by"), rows
    )


def _latency(figures: dict[str, Any]) -> str:
    held = [f for f in figures.values() if f["percentiles"]]
    points = ("p1", "p25", "p50", "p75", "p90", "p99", "p99.9", "p100")
    rows = [(f["what"].rsplit(",", 1)[0], *(number(f["percentiles"][p]) for p in points)) for f in held]
    return table("Latencies, ms", "", ("what", *points), rows)


# -- profile and gate --------------------------------------------------------------------------------------


def _profile(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    parts = [
        "## Where the time goes",
        "",
        f"py-spy at {found['rate_hz']} Hz on {found['events']:,} events of the reference series, file to "
        "acknowledged. A sample counts for the innermost function of Forebay's, with the kernels and libraries that it "
        f"calls; waits are left out. The {_TOP} largest costs of each side:",
        "",
    ]
    for side in ("agent", "receiver"):
        top = found[side]["top"][:_TOP]
        parts += [f"| {side}, {found[side]['samples']:,} samples | share |", "|---|---|"]
        parts += [f"| `{entry['function']}` | {entry['share']:.1%} |" for entry in top]
        rooms = ", ".join(
            f"{room} {share:.0%}" for room, share in found[side]["rooms"].items() if share >= 0.01
        )
        parts += ["", f"By room: {rooms}.", ""]
    return "\n".join(parts)


def _gate() -> str:
    parts = [
        "## The gate",
        "",
        "`make bench` compares with `benchmarks/results/main.json` and fails when instructions (callgrind) rise by "
        "more than 3 %, bytes by more than 1 %, or CPU time beside a peer's by more than 15 %. `make bench-renew` "
        "writes what is compared with; commit it with the change that moved it.",
        "",
    ]
    path = _RESULTS / "proof.json"
    if not path.exists():
        return "\n".join(parts)
    proof = json.loads(path.read_text())
    runs = proof["runs"]
    plain = [run for run in runs if not run["arguments"]]
    passed = sum(run["exit"] == 0 for run in plain)
    loads = [run["load"] for run in plain] or [0.0]
    busy = sum(run["busy"] for run in plain)
    suspended = sum(run["not_judged"] for run in plain)
    parts += [
        f"Proof (`make bench-proof`, {proof['environment']['date'][:10]}): without a plant {passed} of {len(plain)} "
        f"runs passed, {busy} of them with every core taken on purpose; load {min(loads):.1f} to {max(loads):.1f}; "
        f"{suspended} of their comparisons were not judged. With a slowdown planted:",
        "",
        "| planted | exit | found |",
        "|---|---|---|",
    ]
    for run in runs:
        if run["arguments"]:
            found = (
                ", ".join(f"{measure} of {name} {change}" for measure, name, change in run["worse"])
                or "nothing"
            )
            parts.append(f"| `{run['arguments'][-1]}` | {run['exit']} | {found} |")
    return "\n".join([*parts, ""])
