"""Operations of masking beyond the base policy: keyed operators, the guard over masked text, audit, policy tests."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks import personal
from benchmarks.model import Case
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.mask import Guard, Masker, Policy, load_policy
from forebay.spool import audit
from forebay.stages import AuditNote

_RECORDS = 2_000


def _block() -> tuple[Block, list[str]]:
    texts = [record.decode() for record in personal.records(_RECORDS)]
    schema = Schema("notes", (Field("note", Type.STR),))
    return Block(schema, np.arange(_RECORDS, dtype=np.int64), (Column.of(Type.STR, texts),)), texts


def guard_text() -> Case:
    """The guard's own scan over masked text of 108 bytes a record: the price of the second line."""
    policy = load_policy("base", Path())
    block, _ = _block()
    masked, door = Masker(policy).apply(block), Guard(policy)

    def check(passed: Block) -> None:
        assert passed.readings() == _RECORDS, "what masking made passes"
        assert not any(rule.startswith("leak") for rule in passed.hits)

    return Case(lambda: door.check(masked), check, lambda s: _RECORDS / s / 1e6)


def _policy(operator: str) -> Policy:
    folder = Path(tempfile.mkdtemp())
    os.environ["FOREBAY_BENCH_KEY"] = "b" * 32
    rule = f"{{operator: {operator}}}"
    (folder / "p.yaml").write_text(
        f"name: bench\nversion: 1\nextends: base\nclasses: {{mobile: {rule}, resident_id: {rule}}}\n"
        "keys: {id: k1, secret: 'env:FOREBAY_BENCH_KEY'}\n"
    )
    return load_policy("p.yaml", folder)


def _keyed(operator: str) -> Case:
    masker = Masker(_policy(operator))
    block, texts = _block()

    def check(masked: Block) -> None:
        cells = masked.columns[0].to_list(Type.STR)
        assert sum(a != b for a, b in zip(texts, cells, strict=True)) == _RECORDS // 10
        assert masked.hits[f"mobile:{operator}"] == _RECORDS // 10

    return Case(lambda: masker.apply(block), check, lambda s: _RECORDS / s / 1e6)


def tokens() -> Case:
    """The text of `text-mask` with keyed tokens, values that repeat."""
    return _keyed("token")


def fpe() -> Case:
    """The same with format-preserving encryption, values that repeat."""
    return _keyed("fpe")


def encrypt() -> Case:
    """The same with AES-GCM: nothing can be remembered."""
    return _keyed("encrypt")


def audit_note() -> Case:
    """What a commit with hits in 5 fields pays for the audit log, without its fsync."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    log = audit.Log(db)
    facts = dict.fromkeys(("gateway", "agent", "boot", "policy", "policy_hash", "key_id"), "x" * 16)
    hits = Counter({("desk", f"field{n}", "mobile:token"): 3 for n in range(5)})
    calls = Counter[str]()

    def run() -> None:
        calls["n"] += 1
        note = AuditNote(facts, hits, calls["n"] * 10**9, calls["n"] * 10**9)  # a commit a second
        log.add(note, "file/desk", [(1, calls["n"])])
        log.write()

    def check(_: None) -> None:
        (stored,) = db.execute("SELECT count(*) FROM audit_entry").fetchone()
        assert stored == max(0, (calls["n"] - 1) // 60), "an entry a minute"

    return Case(run, check, lambda s: s * 1e6)
