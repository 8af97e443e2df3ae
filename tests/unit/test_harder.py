"""The rung `harder` of the byte budget reaches the compressor: fewer bytes for the same rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from world import FakeClock

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.loader import load_agent
from forebay.forward import Rung
from forebay.forwarding import Linkage
from forebay.pipeline import HARDER_LEVEL, Builder
from forebay.spool import Spool
from forebay.stages import Sealed
from forebay.wire.columns import encode_columns

ROWS = 1000
DAY = 10 * 1024 * 1024
CONFIG = """\
gateway: {id: gw-1}
sources: {notes: {type: file, path: notes.csv, format: csv, time: {field: ts}}}
pipelines: {notes: {source: notes}}
spool: {dir: spool, max_bytes: 16MiB}
forward:
  endpoints: ["tcp://127.0.0.1:1"]
  keys: {own: keys/gateway.key, server: keys/center.pub}
  budget: {day: 10MiB, harder_at: 0.5}
"""


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool.open(tmp_path / "spool", sync="normal", max_bytes=1 << 24, on_stored=lambda: None)
    yield made
    made.close()


def texts() -> Block:
    """Return rows of words: what zstd's higher levels are better at."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghij", k=rng.randrange(3, 9))) for _ in range(300)]
    column = Column.of(Type.STR, [" ".join(rng.choices(words, k=12)) for _ in range(ROWS)])
    return Block(Schema("notes", (Field("note", Type.STR),)), np.arange(ROWS, dtype=np.int64), (column,))


def test_where_bytes_are_scarce_zstd_works_harder_and_after_it_as_before(tmp_path, keys, spool):
    path = tmp_path / "agent.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    loaded, clock = load_agent(path), FakeClock()
    link = Linkage(loaded, spool, clock, "boot-1")
    builder = Builder(loaded, spool, clock, "boot-1", once=True, harder=link.is_scarce)

    def sealed() -> Sealed:  # by a worker of its own: an encoder learns from block to block
        worker = builder.worker("notes", loaded.config.pipelines["notes"], "notes/notes")
        return worker._sealer.seal(texts(), None)

    plenty = sealed()
    link.budget.spend(DAY // 2)
    assert link.budget.rung is Rung.HARDER
    scarce = sealed()
    by_hand = {level: len(encode_columns(texts(), level=level)) for level in (1, HARDER_LEVEL)}
    assert by_hand[HARDER_LEVEL] < by_hand[1]
    assert len(plenty.data) - len(scarce.data) == by_hand[1] - by_hand[HARDER_LEVEL]
    clock.advance(86_400)
    link.budget.look()
    assert link.budget.rung is Rung.ALL
    assert len(sealed().data) == len(plenty.data)
