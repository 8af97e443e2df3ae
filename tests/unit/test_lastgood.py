"""What safe mode takes from a configuration that is bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.lastgood import NO_ID, salvaged, spool_folder

GOOD = """\
gateway: {id: gw-1}
sources: {a: {type: file, path: a.csv}}
pipelines:
  a:
    source: a
spool:
  dir: data/spool
  max_bytes: 64MiB
forward:
  endpoints: [tcp://127.0.0.1:5570]
  keys: {own: own.key, server: server.pub}
log: {level: debug}
"""


def of(folder: Path, text: str):
    path = folder / "agent.yaml"
    path.write_text(text)
    return salvaged(path, {"STATE_DIRECTORY": str(folder / "state")})


@pytest.mark.parametrize(
    "bad",
    [
        GOOD.replace("    source: a\n", "    source: b\n    steps: [{scael: {}}]\n"),
        GOOD.replace("    source: a\n", "    steps: [{\n"),
        GOOD.replace("    source: a\n", "   - : {source\n  x: 'a\n"),
        GOOD + "nonsense: 1\n",
    ],
)
def test_sections_that_are_good_are_taken_whatever_else_is_bad(tmp_path, bad):
    loaded = of(tmp_path, bad)
    config = loaded.config
    assert config.gateway.id == "gw-1"
    assert loaded.resolve(config.spool.dir) == tmp_path / "data/spool"
    assert config.spool.max_bytes == 64 * 1024**2
    assert config.forward is not None
    assert config.log.level == "debug"
    assert config.sources == {}
    assert config.pipelines == {}


def test_a_bad_link_is_left_out_and_a_bad_spool_keeps_its_folder(tmp_path):
    config = of(tmp_path, GOOD.replace("tcp://", "tpc://").replace("64MiB", "64 Mib?")).config
    assert config.forward is None
    assert config.spool.dir == tmp_path / "data/spool"


def test_without_the_gateways_name_there_is_no_link(tmp_path):
    config = of(tmp_path, GOOD.replace("gw-1", "'?'")).config
    assert config.gateway.id == NO_ID
    assert config.forward is None


@pytest.mark.parametrize("text", ["", "- 1\n", "\0", "{gateway"])
def test_of_a_file_that_says_nothing_the_services_own_spool_is_left(tmp_path, text):
    config = of(tmp_path, text).config
    assert config.gateway.id == NO_ID
    assert config.spool.dir == tmp_path / "state/spool"


def test_a_file_that_is_not_there_is_like_one_that_says_nothing(tmp_path):
    missing = tmp_path / "no.yaml"
    assert salvaged(missing, {}).config.gateway.id == NO_ID
    assert spool_folder(missing, {"STATE_DIRECTORY": "/s"}) == Path("/s/spool")
