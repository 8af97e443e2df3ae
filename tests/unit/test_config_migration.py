"""Files of older releases: refused with the command that mends them, edited in place with their comments."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from forebay.cli.app import run
from forebay.config import migration
from forebay.config.findings import ConfigErrors
from forebay.config.loader import load_agent, load_text
from forebay.config.migration import CHANGES, Renamed, Revalued, hint_for, migrate
from forebay.config.schema import schema_of

RELEASED = Path(__file__).parents[1] / "data" / "config" / "keys-0.1.0.json"

# Changes that never were: what the mechanism does is shown on them.
MADE_UP = (
    Renamed("9.1.0", ("spool", "quota"), "max_bytes"),
    Renamed("9.1.0", ("pipelines", "*", "steps", "*", "dead_band"), "deadband"),
    Revalued("9.2.0", ("spool", "on_full"), "evict_old", "drop_oldest"),
    Renamed("9.3.0", ("pipelines", "*", "steps", "*", "deadband", "tolerance"), "absolute"),
)
OLD = """\
# gateway of pump 3, do not touch
gateway: {id: gw-1}   # its name
sources:
  pump: {type: file, path: pump.csv}
pipelines:
  pump:
    source: pump
    steps:
      - dead_band: {field: "quota", tolerance: 0.1}  # quota is a field here
      - 'dead_band':
          field: b   # the second
          "tolerance": 2
spool: {quota: 1GiB, on_full: evict_old, dir: spool}
"""
NEW = """\
# gateway of pump 3, do not touch
gateway: {id: gw-1}   # its name
sources:
  pump: {type: file, path: pump.csv}
pipelines:
  pump:
    source: pump
    steps:
      - deadband: {field: "quota", absolute: 0.1}  # quota is a field here
      - 'deadband':
          field: b   # the second
          "absolute": 2
spool: {max_bytes: 1GiB, on_full: drop_oldest, dir: spool}
"""


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(migration, "CHANGES", MADE_UP)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_keys_and_values_are_changed_and_nothing_else(ending, bom):
    old, new = (bom + text.replace("\n", ending).encode() for text in (OLD, NEW))
    made, edits = migrate(old, "agent.yaml", MADE_UP)
    assert made == new
    assert len(edits) == 6
    load_text(made, Path("agent.yaml"))
    assert migrate(made, "agent.yaml", MADE_UP) == (made, [])


def test_a_file_of_today_is_left_alone():
    assert migrate(NEW.encode(), "agent.yaml") == (NEW.encode(), [])


def test_an_anchor_is_edited_once_for_all_its_aliases():
    old = "a: &one {quota: 1}\nb: *one\n"
    rules = (Renamed("9", ("a", "quota"), "max"), Renamed("9", ("b", "quota"), "max"))
    assert migrate(old.encode(), "f", rules[:1])[0] == b"a: &one {max: 1}\nb: *one\n"
    both = (Renamed("9", ("*", "quota"), "max"),)
    assert migrate(old.encode(), "f", both)[0] == b"a: &one {max: 1}\nb: *one\n"


def test_an_old_key_beside_its_new_one_is_for_a_person_to_decide():
    with pytest.raises(ConfigErrors, match="both are there") as caught:
        migrate(b"spool: {quota: 1GiB, max_bytes: 2GiB}\n", "f", MADE_UP)
    assert "f:1:9" in str(caught.value)


def test_what_is_written_in_a_strange_way_is_said_and_not_guessed():
    with pytest.raises(ConfigErrors, match="cannot be edited"):
        migrate(b'spool: {"quot\\x61": 1GiB}\n', "f", MADE_UP)


def test_an_old_key_is_refused_with_the_command_that_mends_it(tmp_path, made_up):
    file = tmp_path / "agent.yaml"
    file.write_text(OLD.replace("dead_band", "deadband").replace("tolerance", "absolute"))
    with pytest.raises(ConfigErrors) as caught:
        load_agent(file)
    assert "`max_bytes` since 9.1.0: forebay config migrate FILE" in str(caught.value)
    assert hint_for(("spool", "nothing")) == ""


def test_the_command_shows_and_writes_only_when_told(tmp_path, made_up, capsys):
    file = tmp_path / "agent.yaml"
    file.write_text(OLD)
    file.chmod(0o640)
    assert run(["config", "migrate", str(file)]) == 0
    told = capsys.readouterr()
    assert "-spool: {quota: 1GiB" in told.out
    assert "+spool: {max_bytes: 1GiB" in told.out
    assert "nothing was written" in told.err
    assert file.read_text() == OLD
    assert run(["config", "migrate", str(file), "--write", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["written"]
    assert len(facts["changes"]) == 6
    assert file.read_text() == NEW
    assert Path(facts["kept"]).read_text() == OLD
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert run(["config", "migrate", str(file), "--write"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["agent.yaml", "agent.yaml.old"]


def test_a_second_backup_does_not_take_the_place_of_the_first(tmp_path, made_up):
    file = tmp_path / "agent.yaml"
    for _ in range(2):
        file.write_text(OLD)
        assert run(["config", "migrate", str(file), "--write"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"agent.yaml", "agent.yaml.old", "agent.yaml.old2"}


def test_a_result_that_is_still_wrong_is_not_written(tmp_path, made_up, capsys):
    file = tmp_path / "agent.yaml"
    wrong = OLD.replace("dir: spool", "dir: spool, nobody_knew: 1")
    file.write_text(wrong)
    assert run(["config", "migrate", str(file), "--write"]) == 2
    assert "nobody_knew" in capsys.readouterr().err
    assert file.read_text() == wrong


# -- the promise --------------------------------------------------------------------------------------------


def keys_of_now() -> set[str]:
    """Return every key that a configuration or policy may have, as `Class.key`."""
    found = set()
    for kind in ("agent", "receiver"):
        schema = schema_of(kind)
        for name, node in {kind: schema, **schema.get("$defs", {})}.items():
            found |= {f"{name}.{key}" for key in node.get("properties", {})}
    return found


def test_no_released_key_is_gone_without_a_line_that_brings_files_up_to_date():
    gone = set(json.loads(RELEASED.read_text())) - keys_of_now()
    renamed = {str(change.path[-1]) for change in CHANGES if isinstance(change, Renamed)}
    assert {key for key in gone if key.split(".")[1] not in renamed} == set()
