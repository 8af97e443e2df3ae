"""A recording through the pipelines of a configuration, in memory: nothing is stored, nothing is sent.

What comes out is what would go to the spool: after steps, mask and guard. Two configurations are compared row by
row: rows are told apart by stream, time, key and how often these came before.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from forebay.blocks import Block
from forebay.clock import SystemClock, boot_id
from forebay.config.agent import AgentConfig
from forebay.config.loader import LoadedConfig
from forebay.config.sources import FileOptions
from forebay.errors import ConfigError, ForebayError
from forebay.pipeline import Builder
from forebay.rows import rows
from forebay.spool import Spool
from forebay.stages import Chunk, Commit

Loaded = LoadedConfig[AgentConfig]
Identity = tuple[str, int, Any, int]

MOST_ROWS = 2_000_000  # kept for a comparison; more is a recording to be cut


class _Memory:
    """Stands where the spool stands: every commit is durable at once, no progress is known."""

    def __init__(self) -> None:
        self.ledger: Counter[tuple[str, str, str]] = Counter()
        self.wire_bytes: Counter[str] = Counter()
        self.writer = self.store = self

    def submit(self, commit: Commit) -> None:
        self.ledger.update(commit.ledger)
        for batch in commit.batches:
            self.wire_bytes[batch.stream] += len(batch.data)
        for done in commit.done:
            done(True)

    def outstanding(self, _owner: str) -> int:
        return 0

    def wait_below(self, _owner: str, _limit: int, _timeout: float) -> bool:
        return True

    def progress(self, _owner: str) -> dict[str, bytes]:
        return {}


@dataclass(slots=True)
class Replay:
    """What came out of one configuration.

    Attributes
    ----------
    ledger : readings by stream, kind and reason, as the agent's ledger counts them
    wire_bytes : bytes of the batches, by stream
    rows : by identity; empty unless they were asked for
    """

    ledger: Counter[tuple[str, str, str]]
    wire_bytes: Counter[str]
    rows: dict[Identity, dict[str, Any]] = field(default_factory=dict)
    row_counts: Counter[str] = field(default_factory=Counter)

    def streams(self) -> dict[str, dict[str, Any]]:
        """Return counts by stream."""
        out: dict[str, dict[str, Any]] = {}
        for (stream, kind, reason), count in sorted(self.ledger.items()):
            entry = out.setdefault(
                stream, {"rows": self.row_counts[stream], "bytes": self.wire_bytes[stream]}
            )
            name = f"{kind}:{reason}" if reason else kind
            entry[name] = entry.get(name, 0) + count
        return out


def replay(
    loaded: Loaded, *, pipelines: tuple[str, ...] = (), recording: FileOptions | None = None, keep_rows: bool
) -> Replay:
    """Run recordings through the pipelines of a configuration.

    Parameters
    ----------
    pipelines : which; all whose source is a file if empty
    recording : read instead of the source of the pipelines
    keep_rows : for a comparison

    Raises
    ------
    ForebayError
        A pipeline cannot be built, its source is no file and there is no recording, or the recording is too long.
    """
    memory = _Memory()
    builder = Builder(loaded, cast(Spool, memory), SystemClock(), boot_id(), once=True)
    out = Replay(memory.ledger, memory.wire_bytes)
    for name in pipelines or tuple(_replayable(loaded)):
        _run(builder, loaded, name, recording, out, keep_rows)
    return out


def _replayable(loaded: Loaded) -> Iterator[str]:
    found = [n for n, p in loaded.config.pipelines.items() if _is_file(loaded, p.source)]
    if not found:
        raise ConfigError(
            "no pipeline reads a file, so there is nothing to replay", hint="give a recording: --input FILE"
        )
    yield from found


def _is_file(loaded: Loaded, source: str) -> bool:
    return isinstance(loaded.config.sources[source], FileOptions)


def _run(
    builder: Builder, loaded: Loaded, name: str, recording: FileOptions | None, out: Replay, keep_rows: bool
) -> None:
    options = loaded.config.pipelines.get(name)
    if options is None:
        raise ConfigError(
            f"there is no pipeline `{name}`", hint=f"one of: {', '.join(loaded.config.pipelines)}"
        )
    config = recording or loaded.config.sources[options.source]
    if not isinstance(config, FileOptions):
        raise ConfigError(f"the source of `{name}` is no file", hint="give a recording: --input FILE")
    source = builder.make_source(config.model_copy(update={"follow": False}), name, options)
    worker = builder.worker(name, options, f"{options.source}/{name}")
    collect = _Collector(out, options.key or "", keep_rows)
    worker.tap = collect
    thread = threading.Thread(target=worker.run, name=f"replay-{name}")

    def emit(chunk: Chunk) -> bool:
        return worker.queue.put(replace(chunk, wants_reply=False), chunk.nbytes) and not collect.full

    thread.start()
    try:
        source.run(emit, None)
    finally:
        worker.finish_steps = True
        worker.queue.close()
        thread.join()
    if collect.full:
        raise ForebayError(f"the recording has more than {MOST_ROWS} rows", hint="cut it into pieces")


class _Collector:
    """Counts rows and, if asked, keeps them by identity."""

    def __init__(self, out: Replay, key: str, keep: bool) -> None:
        self._out, self._key, self._keep = out, key, keep
        self._seen: Counter[tuple[str, int, Any]] = Counter()
        self.full = False

    def __call__(self, block: Block) -> None:
        self._out.row_counts[block.stream] += block.rows
        if not self._keep or self.full:
            return
        for row in rows(block):
            time = row.pop("time")
            place = (block.stream, time, row.get(self._key))
            self._out.rows[(*place, self._seen[place])] = row
            self._seen[place] += 1
        self.full = len(self._out.rows) > MOST_ROWS


@dataclass(slots=True)
class Difference:
    """How two replays differ. `examples` hold rows as they would be stored: masked."""

    only_first: Counter[str] = field(default_factory=Counter)
    only_second: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    cells: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Return whether both gave the same."""
        return not (self.only_first or self.only_second or self.changed)


def compare(first: Replay, second: Replay, most_examples: int = 10) -> Difference:
    """Return how the second differs from the first."""
    out = Difference()
    for identity in sorted({*first.rows, *second.rows}, key=lambda i: (i[0], i[1], str(i[2]), i[3])):
        a, b = first.rows.get(identity), second.rows.get(identity)
        if a == b:
            continue
        stream = identity[0]
        if b is None:
            out.only_first[stream] += 1
        elif a is None:
            out.only_second[stream] += 1
        else:
            out.changed[stream] += 1
            out.cells.update(f"{stream}.{n}" for n in {*a, *b} if a.get(n) != b.get(n))
        if len(out.examples) < most_examples:
            out.examples.append({"stream": stream, "time": identity[1], "first": a, "second": b})
    return out
