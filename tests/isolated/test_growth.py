"""Memory stays flat however often a kernel, a decoder or a parser is called, and however often it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forebay_core import IMPLEMENTATION

pytestmark = pytest.mark.skipif(
    IMPLEMENTATION != "compiled", reason="the twins hold no memory of their own, and are slow"
)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# A leak of one object a call is 400 blocks, one of an array of the inputs' size 6.5 MB (see growth.py).
MOST_BLOCKS = 100
MOST_BYTES = 3 << 20


@pytest.fixture(scope="module")
def left() -> dict[str, tuple[int, int]]:
    """Return blocks and bytes left behind by each operation."""
    paths = [str(ROOT / folder) for folder in ("agent", "core_ext", "tests/fuzz")]
    # One arena: else memory that another one took looks like growth.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "growth.py")], env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, int]] = json.loads(done.stdout)
    return found


def test_nothing_stays_behind_of_calls_good_or_bad(left: dict[str, tuple[int, int]]) -> None:
    grown = {
        name: found
        for name, found in left.items()
        if not name.startswith("planted") and (found[0] > MOST_BLOCKS or found[1] > MOST_BYTES)
    }
    assert grown == {}
    assert len(left) > 60


def test_a_planted_leak_is_found(left: dict[str, tuple[int, int]]) -> None:
    assert left["planted memory"][1] > MOST_BYTES
    assert left["planted objects"][0] > MOST_BLOCKS
