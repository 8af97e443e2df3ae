"""A slowdown planted on purpose, to prove that the gate sees one. Only the harness knows it, never the product.

`NAME=SHARE` makes operation NAME do SHARE more work: `encode=0.08` runs 8 of 100 calls twice. Two names are no
operations: `bytes` makes every size larger by SHARE, `road` makes the agent's process burn SHARE more CPU time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DEFAULT_SHARE = 0.08
_PARTS = 1000  # whole numbers, so that 25 calls with 0.08 are 2 more and not 1.99


@dataclass(frozen=True)
class Plant:
    """What is planted where; an empty name is nothing."""

    name: str = ""
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Plant:
        """Read `NAME` or `NAME=SHARE`. Raises argparse's error for anything else."""
        name, _, share = text.partition("=")
        try:
            value = float(share) if share else DEFAULT_SHARE
        except ValueError:
            value = -1.0
        if not name or not 0.0 < value <= 10.0:
            raise argparse.ArgumentTypeError(
                f"expected NAME or NAME=SHARE with a share above 0, found `{text}`"
            )
        return cls(name, value)

    def __str__(self) -> str:
        return f"{self.name}={self.share:g}" if self.name else ""

    def on(self, name: str) -> float:
        """Return the share planted on `name`, 0 for none."""
        return self.share if name == self.name else 0.0

    def into(self, name: str, run: Callable[[], Any]) -> Callable[[], Any]:
        """Return `run`, with more work if it is the planted operation's."""
        more = round(self.on(name) * _PARTS)
        if not more:
            return run
        owed = 0

        def slower() -> Any:
            nonlocal owed
            owed += more
            while owed >= _PARTS:
                owed -= _PARTS
                run()
            return run()

        return slower


NOTHING = Plant()


def _agent(share: float) -> None:
    """Run `forebay` with the arguments that follow; burn `share` of its CPU time before it ends."""
    from forebay.cli import main

    try:
        main()
    finally:
        times = os.times()
        until = (times.user + times.system) * (1.0 + share)
        while sum(os.times()[:2]) < until:
            pass


if __name__ == "__main__":
    planted = float(sys.argv.pop(1))
    _agent(planted)
