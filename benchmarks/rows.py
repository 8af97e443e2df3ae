"""Operations on rows: text formats to columns, steps, masking and guard, one thread's work of a pipeline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import personal, reference_series
from benchmarks.model import Case
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.clock import SystemClock
from forebay.config.preprocess import ValidateOptions
from forebay.config.sources import TimeOptions
from forebay.mask import Guard, Masker, load_policy
from forebay.preprocess import build
from forebay.sources.decoder import Place
from forebay.sources.formats import CsvDecoder, JsonLinesDecoder
from forebay.stages import Chunk, Commit
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import Worker, WorkerOptions

EVENTS = 10_000
_TIME = TimeOptions(field="ts", unit="ms")


def _decoded(decode: Callable[[], Iterator[Any]]) -> list[Block]:
    return [part.block for part in decode() if part.block is not None]


def ndjson(events: int = EVENTS) -> Case:
    """NDJSON of the reference series to blocks."""
    series = reference_series.generate(events)
    data = reference_series.ndjson(series)
    decoder = JsonLinesDecoder("pump", SystemClock(), key="dev", time=_TIME)

    def run() -> list[Block]:
        decoder.enter_file()
        return _decoded(lambda: decoder.decode(data, Place("pump.jsonl", 1), final=True))

    def check(blocks: list[Block]) -> None:
        assert np.array_equal(np.concatenate([b.time for b in blocks]), series.ts_ms * 1_000_000)
        assert np.array_equal(np.concatenate([b.column("t").values for b in blocks]), series.t)
        assert np.array_equal(np.concatenate([b.column("p").values for b in blocks]), series.p)

    lines = data.splitlines()
    peers = {"json.loads, no columns": lambda: [json.loads(line) for line in lines]}
    return Case(run, check, lambda s: s / events * 1e6, peers)


def csv_rows(events: int = EVENTS) -> Case:
    """The same as CSV."""
    series = reference_series.generate(events)
    parsed = [json.loads(line) for line in reference_series.ndjson(series).splitlines()]
    lines = [",".join(parsed[0]), *(",".join(str(v) for v in event.values()) for event in parsed)]
    data = ("\n".join(lines) + "\n").encode()
    decoder = CsvDecoder("pump", SystemClock(), key="dev", time=_TIME)

    def run() -> list[Block]:
        decoder.enter_file()
        return _decoded(lambda: decoder.decode(data, Place("pump.csv", 1), final=True))

    def check(blocks: list[Block]) -> None:
        assert sum(b.rows for b in blocks) == events
        assert np.array_equal(np.concatenate([b.column("vib").values for b in blocks]), series.vib)

    import csv

    text = data.decode().splitlines()
    return Case(
        run, check, lambda s: s / events * 1e6, {"csv.reader, no types": lambda: list(csv.reader(text))}
    )


def text_mask(count: int = 5_000) -> Case:
    """Text of 108 bytes: find what is personal, apply operators, count."""
    records = personal.records(count)
    texts = [r.decode() for r in records]
    block = Block(
        Schema("notes", (Field("note", Type.STR),)),
        np.arange(count, dtype=np.int64),
        (Column.of(Type.STR, texts),),
    )
    masker = Masker(load_policy("base", Path()))

    def check(masked: Block) -> None:
        cells = masked.columns[0].to_list(Type.STR)
        changed = [i for i, (a, b) in enumerate(zip(texts, cells, strict=True)) if a != b]
        assert changed == list(range(0, count, 10)), "exactly one record in ten holds personal data"
        assert masked.hits["mobile:keep"] == masked.hits["resident_id:keep"] == count // 10

    union = re.compile("|".join(UNION))
    return Case(
        lambda: masker.apply(block),
        check,
        lambda s: count / s / 1e6,
        {"Python re union, find and replace": lambda: [union.sub("***", text) for text in texts]},
    )


def text_mask_chinese(count: int = 5_000) -> Case:
    """Chinese text of 108 bytes: names that a label announces, numbers, and words that are neither."""
    texts = [r.decode() for r in personal.chinese_records(count)]
    block = Block(
        Schema("notes", (Field("note", Type.STR),)),
        np.arange(count, dtype=np.int64),
        (Column.of(Type.STR, texts),),
    )
    masker = Masker(load_policy("base", Path()))

    def check(masked: Block) -> None:
        cells = masked.columns[0].to_list(Type.STR)
        changed = [i for i, (a, b) in enumerate(zip(texts, cells, strict=True)) if a != b]
        assert changed == list(range(0, count, 10)), "exactly one record in ten holds personal data"
        found = {rule.partition(":")[0]: n for rule, n in masked.hits.items()}
        assert found == {"name": count // 10, "mobile": count // 10}

    return Case(lambda: masker.apply(block), check, lambda s: count / s / 1e6)


UNION = (
    r"(?<!\d)[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?!\d)",
    r"(?<!\d)1[3-9]\d{9}(?!\d)",
    r"(?<!\d)0\d{2,3}-?\d{7,8}(?!\d)",
    r"(?<!\d)[3-6]\d{15,18}(?!\d)",
    r"(?<![0-9A-Z])[0-9A-HJ-NP-RTUWXY]{2}\d{6}[0-9A-HJ-NP-RTUWXY]{10}(?![0-9A-Z])",
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][A-Z0-9]{5,6}",
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    r"(?<!\d)(?:\d{1,3}\.){3}\d{1,3}(?!\d)",
    r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}",
    r"(?<![0-9A-Z])[A-HJ-NPR-Z0-9]{17}(?![0-9A-Z])",
    r"(?<![0-9A-Z])[EGP]\d{8}(?!\d)",
)


def _parsed(events: int) -> list[Block]:
    data = reference_series.ndjson(reference_series.generate(events))
    decoder = JsonLinesDecoder("pump", SystemClock(), key="dev", time=_TIME)
    return _decoded(lambda: decoder.decode(data, Place("pump.jsonl", 1), final=True))


def mask_numbers() -> Case:
    """Masking of a block without personal data: what every block pays."""
    (block,) = _parsed(1_000)
    masker = Masker(load_policy("base", Path()))

    def check(masked: Block) -> None:
        assert masked.readings() == block.readings()
        assert all(c.masked for c in masked.columns)

    return Case(lambda: masker.apply(block), check, lambda s: s * 1e6)


def guard() -> Case:
    """The guard's second look at the same block."""
    policy = load_policy("base", Path())
    (block,) = _parsed(1_000)
    masked, door = Masker(policy).apply(block), Guard(policy)

    def check(passed: Block) -> None:
        assert passed.readings() == block.readings()
        assert door.check(block).readings() == 0, "what was not masked must not pass"

    return Case(lambda: door.check(masked), check, lambda s: s * 1e6)


class _Nowhere:
    """A spool that takes everything at once."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def submit(self, commit: Commit) -> None:
        self.commits.append(commit)
        for done in commit.done:
            done(True)

    def outstanding(self, owner: str) -> int:
        return 0

    def wait_below(self, owner: str, limit: int, timeout: float) -> bool:
        return True


def worker(events: int = EVENTS) -> Case:
    """One worker: validate, mask, guard, seal, ledger, commit, without threads and disk."""
    blocks = _parsed(events)
    policy = load_policy("base", Path())
    fields = ("t", "h", "p", "vib")
    options = ValidateOptions(fields=fields, range=(-1000, 1_000_000), max_rate="100000/s")
    clock = SystemClock()

    def run() -> list[Commit]:
        spool = _Nowhere()
        sealer = Sealer(
            Context("gw-1", "f/pump", "boot", "0"),
            lambda: Stamp(clock.wall_ns(), clock.monotonic_ns(), "synced"),
        )
        one = Worker(
            WorkerOptions("f/pump", "pump"),
            [build("validate", options, key="dev")],
            Masker(policy),
            Guard(policy),
            sealer,
            spool,
            clock,
        )
        for block in blocks:
            one.queue.put(Chunk([block], position=b"here"), block.nbytes)
        one.queue.close()
        one.run()
        return spool.commits

    def check(commits: list[Commit]) -> None:
        assert sum(b.rows for c in commits for b in c.batches) == events
        accepted = sum(c.ledger["pump", "accepted", ""] for c in commits)
        assert accepted == sum(b.readings() for b in blocks)

    return Case(run, check, lambda s: s / len(blocks) * 1e6)
