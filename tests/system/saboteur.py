"""Runs `forebay` with a part of it broken: `saboteur.py HOW ARGUMENT...`.

What leaks on purpose is the proof that the search is not blind; what fails on purpose is told in texts that quote data,
as the exceptions of careless libraries do.
"""

from __future__ import annotations

import itertools
import logging
import signal
import sys
import tempfile
from typing import Any

TAMPERED = [0]


def _first_text(block: Any) -> str:
    for field, column in zip(block.schema.fields, block.columns, strict=True):
        if str(field.type) == "str" and column.rows:
            return "|".join(column.cell_bytes(row).decode("utf-8", "replace") for row in range(column.rows))
    return ""


def _every(calls: int) -> bool:
    TAMPERED[0] += 1
    return TAMPERED[0] % calls == 0


def mask_nothing() -> None:
    """A masker and a guard that let everything by."""
    from dataclasses import replace

    from forebay.mask.guard import Guard
    from forebay.mask.masker import Masker

    def apply(self: Any, block: Any, *, early: bool = False) -> Any:
        return replace(block, columns=tuple(col.marked(self.policy.hash) for col in block.columns))

    Masker.apply = apply  # type: ignore[method-assign]
    Guard.check = lambda self, block: block  # type: ignore[method-assign]


def cover_nothing() -> None:
    """Pictures are opened and written anew with their faces."""
    from forebay.mask.images import ImageMasker

    ImageMasker.cover = lambda self, frame, *rest, **more: frame  # type: ignore[method-assign]


def _before_take(act: Any) -> None:
    from forebay.worker import Worker

    take = Worker._take

    def taken(self: Any, chunk: Any) -> None:
        for block in chunk.blocks:
            act(_first_text(block))
        take(self, chunk)

    Worker._take = taken  # type: ignore[method-assign]


def log_value() -> None:
    """Debug lines with a value in each."""
    log = logging.getLogger("forebay.pipeline")

    def tell(text: str) -> None:
        for cell in text.replace("%", "%%").split("|"):
            log.debug("took " + cell)  # each a message of its own: of one message the log writes ten a minute

    _before_take(tell)


def temp_value() -> None:
    """A temporary file that is deleted at once."""

    def write(text: str) -> None:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)

    _before_take(write)


def crash_worker() -> None:
    """Pipelines that die with data in the text of their error: at once, or after some time, each in turn."""
    from forebay.worker import Worker

    # By age, not by chunk: of the many that a fast sender brings before a commit one would always fail.
    ages: dict[str, Any] = {}
    build, take = Worker.__init__, Worker._take

    def built(self: Any, options: Any, *arguments: Any, **more: Any) -> None:
        build(self, options, *arguments, **more)
        turn = ages.setdefault(options.owner, itertools.cycle((0.0, 0.5, 3.0, 10.0)))
        self.dies_ns = self.clock_ns() + int(next(turn) * 1e9)

    def taken(self: Any, chunk: Any) -> None:
        if chunk.blocks and self.clock_ns() >= self.dies_ns:
            raise RuntimeError(f"cannot handle {_first_text(chunk.blocks[0])}")
        take(self, chunk)

    Worker.__init__, Worker._take = built, taken  # type: ignore[method-assign]


def crash_source() -> None:
    """Sources that die with data in the text of their error."""
    from forebay.worker import Worker

    build = Worker.__init__

    def built(self: Any, *arguments: Any, **more: Any) -> None:
        build(self, *arguments, **more)
        put, turn = (
            self.queue.put,
            itertools.count(1),
        )  # a count each: beside a busy one a slow one would starve

        def failing(chunk: Any, *rest: Any, **others: Any) -> Any:
            if next(turn) % 3 == 0 and chunk.blocks:
                raise ValueError(f"bad row {_first_text(chunk.blocks[0])}")
            return put(chunk, *rest, **others)

        self.queue.put = failing

    Worker.__init__ = built  # type: ignore[method-assign]


def raise_in_detectors() -> None:
    """Detectors of text and of pictures that fail every other time and quote what they looked at."""
    import forebay.mask.guard as guard
    import forebay.mask.images as images
    import forebay.mask.masker as masker

    for module in (masker, guard):
        search = module.search

        def failing(column: Any, *rest: Any, search: Any = search) -> Any:
            if _every(2):
                raise ValueError(f"cannot read {column.values.tobytes()!r}")
            return search(column, *rest)

        module.search = failing
    detect = images.ImageMasker.cover

    def cover(self: Any, frame: Any, *rest: Any, **more: Any) -> Any:
        if _every(2):
            raise RuntimeError(f"no memory for {frame[:2].tobytes()!r}")
        return detect(self, frame, *rest, **more)

    images.ImageMasker.cover = cover  # type: ignore[method-assign]


def own_models() -> None:
    """Bundles come from `models` beside the configuration, where the test can damage them."""
    from pathlib import Path

    from forebay import shipped

    path = shipped.path
    shipped.path = lambda kind: Path("models").absolute() if kind == "models" else path(kind)  # type: ignore[assignment]


def refuse() -> None:
    """A receiver that answers PERMANENT to the first four batches: after five in a row the agent holds back."""
    import forebay.receive.desk as desk
    from forebay.errors import WireError

    read = desk.read_batch

    def refusing(*arguments: Any) -> Any:
        batch = read(*arguments)
        TAMPERED[0] += 1
        if TAMPERED[0] <= 4:
            raise WireError("a batch of a kind that is not wanted here")
        return batch

    desk.read_batch = refusing


def nothing() -> None:
    """Break nothing."""


if __name__ == "__main__":
    signal.signal(
        signal.SIGQUIT, signal.SIG_DFL
    )  # a shell's background job ignores it, and so would its children
    globals()[sys.argv.pop(1)]()
    from forebay.cli import main

    main()
