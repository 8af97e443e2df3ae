"""Throw mutated bytes at one target until the time is over, led by the coverage of the Python code.

    python tests/fuzz/fuzz.py TARGET [LIBFUZZER OPTIONS AND CORPUS FOLDERS]

Runs in an environment of its own (see run.py). Kernels give no coverage: with FOREBAY_PURE=1 their twins do, and what
that finds is then thrown at the compiled ones. What a noexcept function of a debug core cannot raise (an index
out of bounds) comes by the unraisable hook, and is a find too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "agent"), str(ROOT / "core_ext"), str(Path(__file__).parent)]

with atheris.instrument_imports(include=["forebay", "forebay_core", "fuzz_targets"]):
    import fuzz_targets

_unraisable: list[str] = []


def _note(what: sys.UnraisableHookArgs) -> None:
    _unraisable.append(f"{type(what.exc_value).__name__} in {what.object!r}: {what.exc_value}")


def main() -> None:
    name = sys.argv.pop(1)
    target = fuzz_targets.TARGETS[name]
    sys.unraisablehook = _note

    def once(data: bytes) -> None:
        target(data)
        if _unraisable:
            raise fuzz_targets.Find(_unraisable.pop())

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
