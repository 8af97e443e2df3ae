"""What a running agent logs when much goes wrong: a bounded number of lines, turned over, without a data value."""

from __future__ import annotations

import json
import tarfile

import canaries as c
from plant import kill
from test_service import append, eventually, stopped

CONFIG = """\
sources:
  broken: {type: file, path: broken.jsonl, follow: true}
  pump: {type: file, path: a.csv, format: csv, follow: true, time: {field: ts, unit: s}}
pipelines:
  broken: {source: broken, linger: 20ms}
  pump: {source: pump, linger: 20ms}
masking: {policy: base}
log: {level: debug, format: json, file: agent.jsonl, max_bytes: 16KiB, keep: 2}
"""
BROKEN = 20_000


def test_a_flood_of_broken_records_is_a_few_lines_without_a_value_in_files_that_are_turned_over(plant):
    found = c.make(300, seed=11)
    append(plant, "a", 0, 200)
    with (plant.folder / "broken.jsonl").open("w", encoding="utf-8") as file:
        for number in range(BROKEN):
            canary = found[number % len(found)]
            file.write(f'{{"id": {number}, "who": "{canary.written}", broken\n')
    plant.configure(CONFIG, forward=False)
    child = plant.start_agent()
    try:
        rejected = lambda: sum(plant.status()["streams"].get("broken", {"rejected": {}})["rejected"].values())  # noqa: E731
        eventually(lambda: (plant.spool / "agent.sock").exists(), "the agent")
        eventually(lambda: rejected() >= BROKEN, "the flood")
        for _ in range(30):  # each reload says something
            (plant.folder / "agent.yaml").write_text((plant.folder / "agent.yaml").read_text() + "\n")
            plant.cli("reload", "agent.yaml")
        stopped(plant, child)
    finally:
        kill(child)
    files = sorted(plant.folder.glob("agent.jsonl*"))
    assert files
    assert len(files) <= 3
    assert all(path.stat().st_size <= 16 * 1024 for path in files)
    texts = [path.read_bytes() for path in files]
    assert not c.search([*texts, plant.log().encode()], found)
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    about = [line for line in lines if line["message"].startswith("input rejected")]
    assert 0 < len(about) <= 20, "ten a minute"
    assert "length=" in about[0]["message"]
    assert plant.status()["balanced"]
    plant.cli("support", "agent.yaml", "-o", "support.tar.gz")
    with tarfile.open(plant.folder / "support.tar.gz") as archive:
        packed = archive.extractfile("forebay-support/log.txt")
        assert packed is not None
        assert len(packed.read()) > 100, "the file that the configuration names"
