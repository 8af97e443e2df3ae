"""The demo's progress line and its summary for people."""

from __future__ import annotations

import shutil
import time
from typing import Any, TextIO

WIDTH = 28  # of the bar
EVERY_S = 1.0  # a line so often where there is no terminal


class Progress:
    """A bar on a terminal; elsewhere a line a second and at each phase. Never raises for a closed stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._bar = stream, stream.isatty()
        self._start = time.monotonic()
        self._phase, self._written, self._open = "", 0.0, False

    def __call__(self, phase: str, share: float, words: str) -> None:
        """Show a phase, the share of it that is done, and a few words."""
        now = time.monotonic()
        if self._bar:
            filled = round(WIDTH * min(max(share, 0.0), 1.0))
            bar = "█" * filled + "░" * (WIDTH - filled)
            line = f"{now - self._start:5.1f} s  {bar}  {phase}: {words}"
            # a line that wraps could not be drawn over
            self._write("\r\x1b[2K" + line[: shutil.get_terminal_size().columns - 1])
            self._open = True
        elif phase != self._phase or now - self._written >= EVERY_S:
            self._write(f"{now - self._start:5.1f} s  {share:4.0%}  {phase}: {words}\n")
            self._written = now
        self._phase = phase

    def close(self) -> None:
        """Take the bar away."""
        if self._open:
            self._write("\r\x1b[2K")
            self._open = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._bar = False  # nobody looks any more


def render(facts: dict[str, Any]) -> str:
    """Return the summary of `facts.collect`."""
    lines = [
        f"Forebay demo: gateway to database on this machine in {facts['seconds']['total']:.1f} s",
        "",
        *_table(facts),
        "",
        *_story(facts),
        "",
    ]
    for name, check in facts["checks"].items():
        lines.append(f"  {'ok  ' if check['ok'] else 'FAIL'}  {name:<20} {check['found']}")
    lines += ["", f"Everything is in {facts['folder']}: {', '.join(facts['pictures'] + _LEFT)}."]
    if facts.get("skipped"):
        lines.append(f"Skipped: {facts['skipped']}")
    return "\n".join(lines)


_WHY = {"deadband": "unchanged values, left out by the deadband", "mask": "removed by the masking policy"}
_LEFT = ["agent.yaml", "receiver.yaml", "center.db", "logs", "summary.json"]


def _table(facts: dict[str, Any]) -> list[str]:
    head = f"{'stream':<18}{'readings':>10}{'filtered':>10}{'delivered':>11}{'lost':>6}{'bytes':>11}{'per reading':>13}"
    lines = [head]
    for name, s in [*facts["streams"].items(), ("all", facts["totals"])]:
        lines.append(
            f"{name:<18}{s['read']:>10,}{s['filtered']:>10,}{s['delivered']:>11,}{s['lost']:>6}"
            f"{s['wire_bytes']:>11,}{s['bytes_per_reading']:>13,.2f}"
        )
    return lines


def _story(facts: dict[str, Any]) -> list[str]:
    rows, anomalies = facts["input"]["rows"], facts["anomalies"]
    readings = sum(facts["input"]["readings"].values())
    made = facts["totals"]["read"] - readings
    steps = "; ".join(f"{n:,} {_WHY.get(s, f'by {s}')}" for s, n in facts["filtered"].items()) or "none"
    masked, made_up = facts["masked"], facts["generated_identifiers"]
    kinds = ", ".join(f"{kind} {masked.get(kind, 0):,} of {n:,}" for kind, n in sorted(made_up.items()))
    turbines = ", ".join(f"{t} {n}" for t, n in anomalies["by_turbine"].items()) or "none"
    lines = [
        f"read         {readings:,} readings of {sum(rows.values()):,} rows; {made:,} made on the way"
        " (anomaly scores, alarms)",
        f"filtered     {steps}",
        f"outage       {facts['held_rows_without_link']:,} rows waited in the spool before the receiver was started",
        f"anomalies    {anomalies['alarms']} alarms in {anomalies['scored']:,} scored rows ({turbines})",
        f"masked       {kinds}",
    ]
    if "photos" in rows:
        lines.append(f"faces        {facts['faces_masked']} filled in {rows['photos']} photographs")
    return lines
