"""Every input that was once worth keeping is thrown at its target again. `make fuzz` looks for new ones."""

from __future__ import annotations

from pathlib import Path

import fuzz_targets as targets
import numpy as np
import pytest

from forebay.blocks import Block, Column

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
MOST_BYTES = 512 * 1024  # of the whole corpus: it is in every clone


@pytest.mark.parametrize("name", targets.TARGETS)
def test_kept_inputs_meet_a_value_or_a_named_error(name: str) -> None:
    kept = sorted((CORPUS / name).iterdir())
    assert kept
    for path in kept:
        try:
            targets.TARGETS[name](path.read_bytes())
        except Exception as error:
            error.add_note(f"with {path.relative_to(HERE)}")
            raise


@pytest.mark.parametrize("name", targets.TARGETS)
@pytest.mark.parametrize("step", [1, 7])
def test_inputs_that_are_cut_or_have_a_bit_turned_do_too(name: str, step: int) -> None:
    for path in sorted((CORPUS / name).iterdir())[:12]:
        data = path.read_bytes()[:2000]
        for at in range(0, len(data), max(1, len(data) // 8)):
            turned = bytearray(data)
            turned[at] ^= 1 << (at * step) % 8
            for bad in (data[:at], bytes(turned), data[at:] + data[:at]):
                targets.TARGETS[name](bad)


def test_no_target_lacks_its_corpus_and_the_corpus_stays_small() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(targets.TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MOST_BYTES


@pytest.mark.parametrize(
    ("values", "codes", "promise"),
    [
        ([1.0, 2.0], [0, 129], "nothing under a null"),
        ([1.0], [0], "as many cells as rows"),
    ],
)
def test_a_broken_promise_is_a_find(values: list[float], codes: list[int], promise: str) -> None:
    column = Column(np.array(values), None, np.array(codes, dtype=np.uint8))
    with pytest.raises(targets.Find, match=promise):
        targets.sound(Block(targets.SCHEMAS[1], np.zeros(2, dtype=np.int64), (column,)))
