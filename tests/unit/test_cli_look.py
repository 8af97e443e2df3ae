"""What a field engineer sees on a terminal of 80 columns."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from sample_facts import FACTS

from forebay.advice import ADVICE, advice
from forebay.cli.reload import reload_command
from forebay.cli.status import WIDTH, count, render, short, size, span
from forebay.cli.tap import line
from forebay.cli.top import rates
from forebay.cli.top import render as render_top
from forebay.control.client import NotRunning

ROOT = Path(__file__).parents[2]
LOGGED_AS_ERROR = {
    f"{log}.{level}" for log in ("log", "_log") for level in ("error", "exception", "critical")
}


def facts(**changes: Any) -> dict[str, Any]:
    now = json.loads(json.dumps(FACTS)) | {"running": True, "boot": "b"} | changes
    now["spool"] |= {"dir": "/var/lib/forebay/spool", "pending_bytes": 10, "max_bytes": 2 * 1024**3}
    now["link"] |= {"endpoint": "tcp://receiver.example.com:5570", "reason": ""}
    for pipeline in now["pipelines"].values():
        pipeline["reports"] = {}
    return now


BIG = {
    "read": 123_456_789_012, "filtered": {"deadband": 98_765_432_101}, "guarded": 9_999_999, "rejected": {"line": 5},
    "accepted": 24_691_356_906, "delivered": 24_691_356_905, "pending": 1, "evicted": {}, "dead_lettered": {},
    "quarantined": {"damaged": 9_999_999}, "models": {},
}  # fmt: skip


def test_status_fits_80_columns_however_large_the_counts_and_long_the_names():
    streams = {"pump": FACTS["streams"]["pump"], "a_stream_with_a_name_of_64_characters_" + "x" * 26: BIG}
    trouble = {
        "level": "warning", "component": "forward", "message": "link is down, data waits in the spool: " + "x " * 60,
        "facts": {}, "times": 3, "wall_ns": 0, "do": advice("link is down, data waits"),
    }  # fmt: skip
    told = render(facts(streams=streams, troubles=[trouble]))
    too_long = [row for row in told.splitlines() if len(row) > WIDTH]
    assert not too_long
    assert "123.46G" in told
    assert "-> nothing if it comes back" in told
    assert "quarantined: damaged 10.00M" in told
    assert "full in 90 s" in told


@pytest.mark.parametrize(("ago_s", "told"), [(40, "(3x, 40 s ago)"), (-500, "(3x)"), (10**9, "(3x)")])
def test_status_tells_how_long_ago_a_trouble_was_unless_the_clock_was_set_since(ago_s, told, monkeypatch):
    monkeypatch.setattr("forebay.cli.status.time.time_ns", lambda: 10**18)
    trouble = {
        "level": "warning", "component": "sources.mqtt", "message": "cannot reach the broker",
        "facts": {}, "times": 3, "wall_ns": 10**18 - ago_s * 10**9, "do": advice("cannot reach the broker"),
    }  # fmt: skip
    rows = render(facts(uptime_s=100.0, troubles=[trouble])).splitlines()
    assert f"warning cannot reach the broker {told}" in rows
    assert "        -> look at network and `broker`; it is tried again by itself. With the" in rows


def test_status_of_a_stopped_agent_says_less_but_says_it():
    stopped = facts(running=False)
    for key in ("uptime_s", "process", "link", "policy"):
        del stopped[key]
    told = render(stopped)
    assert told.startswith("gateway gw-1 (lab): not running\nspool")
    assert "pump" in told


def test_top_fits_80_columns_and_tells_cpu():
    before = facts()
    now = facts(uptime_s=FACTS["uptime_s"] + 2, process={"rss_bytes": 60 * 1024**2, "cpu_s": 1.75})
    now["streams"] = {"pump" * 10: BIG, "pump": FACTS["streams"]["pump"] | {"read": 30}}
    now["link"] |= {"state": "down", "reason": "no answer to the hello"}
    told = render_top(now, rates(before, now))
    assert max(map(len, told.splitlines())) <= WIDTH
    assert "CPU 12.5 %" in told
    assert "memory 60.0 MiB" in told
    assert re.search(r"^pump +10\.0 ", told, re.MULTILINE)
    assert "no answer to the hello" in told


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (count(999_999), "999,999"),
        (count(1_000_000), "1.00M"),
        (count(123_456_789_012), "123.46G"),
        (size(1023), "1023 B"),
        (size(1536), "1.5 KiB"),
        (size(2 * 1024**3), "2.0 GiB"),
        (size(5000 * 1024**3), "5000 GiB"),
        (span(119), "119 s"),
        (span(3_900), "1 h 5 min"),
        (span(200_000), "2 d 7 h"),
        (short("pump", 5), "pump"),
        (short("pumps", 5), "pum…"),
    ],
)
def test_numbers_are_short_and_right(made, shown):
    assert made == shown


ROW = {
    "time": 1_700_000_000_250_000_000, "stream": "pump", "temperature": 77.4312345, "n": 3, "ok": True,
    "note": "a\x1b[31m", "picture": "A" * 5000, "quality": {"flow": "null(missing)", "t2": "good(unchanged)"},
}  # fmt: skip


def test_a_row_of_tap_is_a_line_for_people():
    told = line(ROW, 400)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.250 pump  temperature=77\.4312  n=3  ok=True  .*", told)
    assert "flow=- (null(missing))" in told
    assert "t2" not in told, "blanked by a deadband"
    assert "(5000 characters)" in told
    assert "\x1b" not in told
    assert len(line(ROW, 80)) == 80
    assert line(ROW, 80).endswith("…")


# -- advice -------------------------------------------------------------------------------------------------


def test_each_piece_of_advice_is_for_a_message_that_exists():
    """The messages are texts of the sources: one that is changed there must be changed here."""
    texts = "\n".join(
        re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
        for path in (ROOT / "agent" / "forebay").rglob("*.py")
        if path.name != "advice.py"
    )
    texts = texts.replace("link is %s", "link is down link is held").replace("spool is {", "spool is full {")
    assert [entry.beginning for entry in ADVICE if entry.beginning not in texts] == []


def test_every_piece_of_advice_is_in_the_book():
    book = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = [f"| `{entry.beginning}` | {entry.means} | {entry.do} |" for entry in ADVICE]
    assert [row for row in rows if row not in book] == []


def test_every_error_that_is_logged_has_its_advice():
    found = {}
    for path in (ROOT / "agent" / "forebay").rglob("*.py"):
        if path.is_relative_to(ROOT / "agent/forebay/cli") or path.is_relative_to(
            ROOT / "agent/forebay/demo"
        ):
            continue  # they speak to somebody who is there
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in LOGGED_AS_ERROR and node.args:
                text = ast.unparse(node.args[0]).removeprefix("f")[1:]
                found[text] = path.name
    assert len(found) > 40
    assert {text: name for text, name in found.items() if not advice(text)} == {}


@pytest.mark.parametrize("source", ["mqtt", "modbus"])
def test_every_warning_of_a_source_that_is_asked_has_its_advice(source):
    tree = ast.parse((ROOT / f"agent/forebay/sources/{source}.py").read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "log.warning"]
    texts = [ast.unparse(call.args[0])[1:-1] for call in calls]
    assert texts
    assert [text for text in texts if not advice(text) and text != "field types start anew"] == []


def test_a_reload_that_finds_no_agent_says_that_another_spool_needs_a_restart(tmp_path):
    (tmp_path / "agent.yaml").write_text(
        "gateway: {id: g}\nsources: {p: {type: file, path: p.csv}}\npipelines: {p: {source: p}}\n"
        "spool: {dir: elsewhere}\n"
    )
    with pytest.raises(NotRunning, match="no agent runs here") as raised:
        reload_command.callback(tmp_path / "agent.yaml", False)
    assert "takes another one at a restart only" in raised.value.hint
