"""The same operations under pytest-benchmark: `python -m pytest benchmarks -o addopts=--import-mode=importlib`."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.model import Timed
from benchmarks.operations import OPERATIONS

TIMED = [operation for operation in OPERATIONS if isinstance(operation, Timed)]


@pytest.mark.parametrize("operation", TIMED, ids=lambda o: o.name)
def test_operation(operation: Timed, benchmark: Any) -> None:
    case = operation.prepare()
    case.check(case.run())
    benchmark(case.run)
