"""Masking of text beside `re`, Hyperscan and Presidio in one run; the peers in an environment of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import personal, rows
from benchmarks.compression import PeersAbsent, run_peers
from benchmarks.model import Budget, Effort, Figure, cpu_seconds

_RECORDS = 5_000


def text_peers(effort: Effort) -> list[Figure]:
    """Measure records of 108 bytes a CPU second, operators and counts included on our side."""
    case = rows.text_mask(_RECORDS)
    case.check(case.run())
    ours = case.figure(cpu_seconds(case.run, effort.seconds))
    peers, notes, budget = {}, "", None
    try:
        with tempfile.TemporaryDirectory() as folder:
            records = b"\n".join(personal.records(_RECORDS))
            (Path(folder) / "records.txt").write_bytes(records)
            (Path(folder) / "union.txt").write_text("\n".join(rows.UNION))
            found = run_peers("text.py", Path(folder))
    except PeersAbsent as reason:
        notes = str(reason)
        print(f"text-peers: WITHOUT PEERS: {reason}")
    else:
        for name, peer in found.items():
            wanted = list(range(0, peer["records"], 10))
            assert peer["changed"] == wanted, f"{name} changed {len(peer['changed'])} records, not one in ten"
        peers = {name: peer["rate"] / 1e6 for name, peer in found.items()}
        budget = Budget(round(50 * peers["Python re union"], 4), most=False)
    what = "scan and mask of text, 108 B a record, beside public tools (at least 50 x `re`)"
    return [Figure("text-peers", what, ours, "M records/CPU-s", budget, peers, notes)]
