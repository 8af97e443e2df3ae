"""What a valid configuration names and what is not there is said with its place, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.config.loader import load_agent
from forebay.preflight import preflight

HEAD = """gateway: {id: g}
sources:
  a: {type: file, path: a.csv, time: {field: ts}}
  b: {type: system, every: 1s}
pipelines:
  one:
    source: a
    steps:
"""


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        (HEAD + "      - infer: {model: sensor-anomoly, inputs: [x]}\n", ":9:", "no bundle"),
        (HEAD + "      - infer: {model: sensor-anomaly, field: x}\n", ":9:", "task detection"),
        (HEAD + "      - infer: {model: faces, inputs: [x]}\n", ":9:", "model of numbers"),
        (
            HEAD + "      - infer: {model: sensor-anomaly, shadow: no-such, inputs: [x]}\n",
            ":9:",
            "no bundle `no-such`",
        ),
        (
            HEAD + "      - validate: {range: [0, 1]}\nmasking: {policy: nowhere.yaml}\n",
            ":10:",
            "no such policy",
        ),
        (
            HEAD + "      - validate: {range: [0, 1]}\n  two: {source: b}\n  three: {source: b}\n",
            ":11:",
            "cannot be read twice",
        ),
    ],
)
def test_each_missing_part_is_an_error_at_its_place(tmp_path: Path, text, place, says):
    file = tmp_path / "agent.yaml"
    file.write_text(text)
    (finding,) = preflight(load_agent(file))
    assert place in str(finding)
    assert says in str(finding)


def test_a_file_may_feed_two_pipelines_and_a_good_configuration_has_no_findings(tmp_path: Path):
    file = tmp_path / "agent.yaml"
    file.write_text(HEAD + "      - infer: {model: sensor-anomaly, inputs: [x]}\n  two: {source: a}\n")
    assert preflight(load_agent(file)) == []


@pytest.mark.parametrize("model", ["sensor-anomaly", "energy-forecast", "bearing-faults"])
def test_every_model_of_numbers_goes_with_inputs(tmp_path: Path, model):
    file = tmp_path / "agent.yaml"
    file.write_text(HEAD + f"      - infer: {{model: {model}, inputs: [x]}}\n")
    assert preflight(load_agent(file)) == []
