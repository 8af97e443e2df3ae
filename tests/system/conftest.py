"""Fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plant import Plant


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A gateway and a center that know each other, nothing running yet."""
    made = Plant(tmp_path / "plant")
    yield made
    made.close()
