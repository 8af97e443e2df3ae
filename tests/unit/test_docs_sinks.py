"""The examples of docs/sinks.md are valid."""

from __future__ import annotations

import re
from pathlib import Path

from forebay.config.loader import load_receiver
from forebay.config.receiver import SINK_OPTIONS

PAGE = Path(__file__).parents[2] / "docs" / "sinks.md"


def test_the_example_of_the_page_loads_and_shows_every_sink(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "receiver.yaml").write_text(example, encoding="utf-8")
    loaded = load_receiver(tmp_path / "receiver.yaml")
    assert {sink.type for sink in loaded.config.sinks.values()} == set(SINK_OPTIONS)
    assert not loaded.warnings
