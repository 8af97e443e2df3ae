"""The examples of docs/images-and-video.md are configurations that are taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from forebay.config.loader import load_agent
from forebay.config.masking import Images
from forebay.config.registry import STEP_OPTIONS
from forebay.infer.manifest import ImagePreprocessing, YoloDecoding

PAGE = (Path(__file__).parents[2] / "docs" / "images-and-video.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def example(key: str) -> dict[str, object]:
    (found,) = (e for e in EXAMPLES if key in e)
    assert isinstance(found, dict)
    return found


def test_the_policy_of_the_page_is_taken() -> None:
    images = Images.model_validate(example("images")["images"])
    assert images.hold == 500_000_000
    assert images.zones[0].name == "window"


def test_the_pipeline_of_the_page_is_taken_with_every_step_over_detections(tmp_path: Path) -> None:
    body = {
        "gateway": {"id": "gw-1"},
        "sources": {"yard": {"type": "file", "path": "yard.avi"}},
        "spool": {"dir": "spool"},
        **example("pipelines"),
    }
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(body))
    steps = [step.name for step in load_agent(tmp_path / "agent.yaml").config.pipelines["yard"].steps]
    assert steps == ["infer", "track", "count", "zone", "line", "dwell", "left_post", "present", "drop"]
    assert set(steps) <= set(STEP_OPTIONS)


def test_the_bundle_of_the_page_is_taken() -> None:
    own = example("decoder")
    assert ImagePreprocessing.model_validate(own["preprocessing"]).pad == pytest.approx(114 / 255, abs=0.001)
    assert YoloDecoding.model_validate(own["decoding"]).version == "v8"
