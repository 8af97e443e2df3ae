"""A step over detections that will never see an object is said at `check`, not found out after a year of silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.config.loader import load_agent

HEAD = """gateway: {id: g}
sources:
  yard: {type: file, path: yard.avi, format: video}
pipelines:
  yard:
    source: yard
    steps:
"""
FINDS = "infer: {model: street-objects, field: image%s}"
POST = "left_post: {for: 3s%s}"


def warnings(folder: Path, *steps: str) -> list[str]:
    file = folder / "agent.yaml"
    file.write_text(HEAD + "".join(f"      - {step}\n" for step in steps))
    told = [str(w) for w in load_agent(file).warnings]
    return [w for w in told if "forward" not in w and "masking" not in w]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([POST % ""], ":8:20: pipelines.yard.steps[0].left_post: this step will never see an object (put an"),
        (
            [POST % "", FINDS % ""],
            ":8:20: pipelines.yard.steps[0].left_post: this step will never see an object",
        ),
        (
            ["infer: {model: sensor-anomaly, inputs: [x]}", "count: {}"],
            "steps[1].count: this step will never see",
        ),
        (
            [FINDS % ", output: persons", POST % ""],
            "no `infer` step without an `output` is before this one: it will never see an object"
            " (say `detections: persons`)",
        ),
        (
            [FINDS % "", POST % ", detections: yard_detections"],
            "no `infer` step with the output `yard_detections` is before this one: it will never see an object"
            " (leave `detections` out)",
        ),
        (
            [FINDS % ", classes: [Person, Car]", "track: {}", POST % ", classes: [Person, Dog]"],
            "steps[2].left_post: `Dog` is not among the `classes` of the `infer` step before: none will be seen"
            " (it keeps: Person, Car)",
        ),
    ],
)
def test_a_step_that_nothing_serves_is_a_warning_at_its_place(
    tmp_path: Path, steps: list[str], says: str
) -> None:
    (only,) = warnings(tmp_path, *steps)
    assert says in only


def test_steps_that_are_served_have_no_warning(tmp_path: Path) -> None:
    steps = (
        FINDS % ", classes: [Person]",
        FINDS % ", output: things",
        "track: {}",
        POST % ", classes: [Person]",
        POST % ", name: yard, detections: things, classes: [Dog]",
    )
    assert warnings(tmp_path, *steps) == []
