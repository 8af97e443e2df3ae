"""Policies over the whole road: attested, audited exactly through kills, held at a receiver that wants another."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from plant import Plant, kill, rows_of

from forebay.mask import load_policy

ROAD = """\
sources: {desk: {type: file, path: in.jsonl, format: jsonl, time: {field: ts, unit: s}}}
pipelines: {desk: {source: desk, linger: 20ms}}
"""
POLICY = """\
name: site
version: 1
extends: base
classes: {mobile: {operator: token}}
fields: {pay: {operator: noise, epsilon: 1, range: [0, 10000], budget: 100, period: 1000d}}
streams: {desk: {drop_when: [email]}}
keys: {id: k1, secret: file:token.key}
"""


@pytest.fixture
def desk(plant: Plant) -> Plant:
    (plant.folder / "token.key").write_text("1" * 32)
    (plant.folder / "token.key").chmod(0o600)
    (plant.folder / "p.yaml").write_text(POLICY)
    return plant


def feed(folder: Path, count: int, start: int = 0) -> None:
    with (folder / "in.jsonl").open("a") as file:
        for n in range(start, start + count):
            note = "mail a@example.com" if n % 10 == 3 else f"call 138{n:08d} now"
            file.write(json.dumps({"ts": n, "note": note, "pay": 5000.0}) + "\n")


def audited(desk: Plant) -> dict[str, int]:
    facts = json.loads(desk.cli("audit", "report", "agent.yaml", "--json"))
    assert facts["chain"] == "holds"
    return {f"{row['field']} {row['class']}:{row['operator']}": row["count"] for row in facts["hits"]}


def require(desk: Plant, *policies: str) -> None:
    path = desk.folder / "receiver.yaml"
    head, allow, tail = path.read_text().partition("allow: keys/allowed")
    path.write_text(f"{head}{allow}, require_policy: [{', '.join(policies)}]{tail[tail.index('}') :]}")


def test_batches_of_another_policy_wait_on_their_gateway_and_go_when_it_is_listed(desk):
    desk.configure(ROAD, rest="masking: {policy: p.yaml}")
    feed(desk.folder, 50)
    require(desk, "strict")
    desk.start_receiver()
    child = desk.start_agent()
    deadline = time.monotonic() + 30
    while "batches wait on their gateway" not in desk.log("receiver"):
        assert time.monotonic() < deadline, desk.log() + desk.log("receiver")
        time.sleep(0.02)
    kill(child)
    assert rows_of(desk.sink, "SELECT * FROM batches") == []
    ledger = desk.ledger("desk")
    assert not ledger["dead_lettered"]
    assert ledger["pending"] == ledger["accepted"]
    desk.stop_receiver()
    require(desk, load_policy("p.yaml", desk.folder).hash)
    desk.start_receiver()
    desk.once()
    assert rows_of(desk.sink, "SELECT count(*) FROM desk") == [(45,)], "five rows held an e-mail address"
    desk.ledger("desk")  # balances
    assert rows_of(desk.sink, "SELECT DISTINCT policy FROM batches")[0][0]
    (note,) = rows_of(desk.sink, "SELECT note FROM desk ORDER BY time LIMIT 1")[0]
    assert note.startswith("call mobile_k1_")


@pytest.mark.slow
def test_counts_of_the_audit_log_are_exact_and_a_budget_is_spent_once_through_kills(desk):
    desk.configure(ROAD, rest="masking: {policy: p.yaml}", forward=False)
    rows = 4000
    feed(desk.folder, rows)
    for delay in (0.55, 0.6, 0.65, 0.7, 0.8):
        child = desk.start_agent()
        time.sleep(delay)  # wherever in its start or work that may be
        kill(child)
    desk.once(expect=1)  # nowhere to deliver to
    counts = audited(desk)
    assert counts["note mobile:token"] == rows * 9 // 10
    assert counts[" record:drop"] == counts["note email:tag"] == rows // 10
    assert counts["pay field:noise"] == 100
    assert counts["pay field:noise_spent"] == rows - 100
    assert "OK" in desk.cli("audit", "verify", "spool")
