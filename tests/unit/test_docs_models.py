"""The examples of docs/models.md are configurations that are taken, and its commands exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from click.testing import CliRunner

from forebay import shipped
from forebay.cli.app import cli
from forebay.config.models import InferOptions, ModelsOptions

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def test_the_settings_of_the_page_are_taken() -> None:
    (section,) = (e["models"] for e in EXAMPLES if "models" in e)
    assert ModelsOptions.model_validate(section).require_signature


def test_the_candidates_of_the_page_are_taken() -> None:
    (steps,) = (e["steps"] for e in EXAMPLES if "steps" in e)
    numbers, boxes = (InferOptions.model_validate(step["infer"]) for step in steps)
    assert numbers.promote is not None
    assert numbers.promote.min_rows == 10_000
    assert boxes.promote is not None
    assert boxes.promote.min_agreement == 0.8


def test_the_commands_of_the_page_exist_with_their_options() -> None:
    lines = re.findall(r"^ +forebay (.+?)(?:  +#.*)?$", PAGE, re.MULTILINE)
    assert len(lines) > 6
    for line in lines:
        words = line.split()
        help_text = CliRunner().invoke(cli, [*words[:2], "--help"]).output
        assert "Usage:" in help_text, line
        for option in (w for w in words if w.startswith("--")):
            assert option in help_text, line


def test_the_table_of_the_page_holds_the_numbers_that_were_measured() -> None:
    metrics = json.loads((shipped.path("models") / "sensor-anomaly" / "metrics.json").read_text())
    for name in ("sensor-anomaly, score", "z-score of the value", "z-score of the step"):
        row = " | ".join(f"{value:.3f}" for value in list(metrics[name].values())[1:])
        assert row in PAGE, name
