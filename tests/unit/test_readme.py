"""What the README shows must be true of this checkout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forebay.config.loader import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_configurations_of_the_readme_pass_the_check(block, tmp_path):
    path = tmp_path / "example.yaml"
    path.write_text(block, encoding="utf-8")
    assert not [w for w in load(path).warnings if w.severity == "warning"]


def test_paths_of_the_map_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    paths = re.findall(r"`((?:agent|core_ext|models|config|benchmarks|tests|docs)/[\w./-]*)`", text)
    assert len(paths) > 20
    beside = (ROOT, ROOT / "agent/forebay")
    assert [path for path in paths if not any((place / path).exists() for place in beside)] == []
