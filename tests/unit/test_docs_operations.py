"""The commands of docs/operations.md exist with their options, its examples are taken, its messages are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from forebay.cli.app import cli
from forebay.config.loader import load_agent

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
COMMANDS = sorted(set(re.findall(r"(?:^ +|`)forebay ([a-z][\w./ -]*[\w.-])", PAGE, re.MULTILINE)))


def test_the_page_is_read() -> None:
    assert len(COMMANDS) > 15
    assert "check /etc/forebay/agent.yaml --live" in COMMANDS


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_exists_with_its_options(line: str) -> None:
    words = line.split()
    helps = [CliRunner().invoke(cli, [*words[:n], "--help"]) for n in (1, 2)]
    assert helps[0].exit_code == 0, line
    group = "Commands:" in helps[0].output
    told = helps[group].output
    assert "Usage:" in told, line
    assert not group or len(words) > 1, line
    for option in (w for w in words if w.startswith("--")):
        assert option in told, line


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
