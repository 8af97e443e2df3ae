"""The examples of docs/operations.md are taken as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from forebay.config.loader import load_agent

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: "+".join(e))
def test_an_example_of_the_page_is_taken(example: dict[str, object], tmp_path: Path) -> None:
    body = {
        "gateway": {"id": "gw-1"},
        "sources": {"s": {"type": "system"}},
        "pipelines": {"p": {"source": "s"}},
        "spool": {"dir": "spool"},
    } | example
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(body))
    (tmp_path / "collector.token").write_text("Bearer x")
    assert load_agent(tmp_path / "agent.yaml").config.gateway.id == "gw-1"
