"""The examples of docs/sinks.md are valid."""

from __future__ import annotations

import re
from pathlib import Path

from forebay.config.loader import load_receiver
from forebay.config.receiver import SINK_OPTIONS

PAGE = Path(__file__).parents[2] / "docs" / "sinks.md"


def test_the_examples_of_the_page_load_and_show_every_sink(tmp_path):
    shown = set()
    for example in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        (tmp_path / "receiver.yaml").write_text(example, encoding="utf-8")
        loaded = load_receiver(tmp_path / "receiver.yaml")
        assert not loaded.warnings
        shown |= {sink.type for sink in loaded.config.sinks.values()}
    assert shown == set(SINK_OPTIONS)
