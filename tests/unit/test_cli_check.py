"""`forebay check` and `forebay schema`."""

import json
import os
import shutil
import socket

import jsonschema
import pytest
import zmq
from zmq.utils import z85

from forebay import keys
from forebay.cli import app
from forebay.infer.bundle import find

AGENT = """\
gateway: {id: g1}
sources:
  pump: {type: file, path: pump.csv}
pipelines:
  pump: {source: pump, lane: bulk, steps: [{validate: {field: t, range: [0, 1]}}]}
spool: {dir: spool}
forward: {endpoints: ['tcp://127.0.0.1:PORT'], keys: {own: own.key, server: server.pub}}
"""
RECEIVER = """\
center: {id: dc}
listen: {endpoint: 'tcp://127.0.0.1:PORT', key: own.key, allow: allowed}
sinks: {store: {type: sqlite, path: center.db}}
"""


CENTER = keys.generate("center")


@pytest.fixture
def listener():
    """Shake hands as a receiver does that lets everybody in; return its port."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        server.curve_server = True
        server.curve_secretkey = z85.encode(CENTER.transport)
        yield server.bind_to_random_port("tcp://127.0.0.1")


@pytest.fixture
def site(tmp_path, listener):
    """A folder in which both configurations work."""
    (tmp_path / "pump.csv").write_text("t\n1\n")
    own = keys.generate("own")
    keys.write_pair(own, tmp_path)
    (tmp_path / "server.pub").write_text(keys.public_text(CENTER.public))
    keys.enroll("g1", own.public, tmp_path / "allowed")
    (tmp_path / "agent.yaml").write_text(AGENT.replace("PORT", str(listener)))
    (tmp_path / "receiver.yaml").write_text(RECEIVER.replace("PORT", str(listener)))
    return tmp_path


def check(capsys, *arguments):
    code = app.run(["check", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_a_good_configuration_is_summarised(capsys, site):
    code, out = check(capsys, site / "agent.yaml")
    assert code == 0
    assert out.splitlines()[0].endswith("agent.yaml: OK")
    assert "pump: pump (file) -> validate; lane bulk, linger 5s" in out
    assert "no `masking` section: the shipped `base` policy applies" in out


def test_a_field_whose_numbers_would_be_lost_is_told_how_to_keep_them(capsys, site):
    text = AGENT.replace("PORT", "5570").replace("lane: bulk", "fields: {phone: {classes: [mobile]}}")
    (site / "agent.yaml").write_text(text)
    out = check(capsys, site / "agent.yaml")[1]
    assert "pump.phone (if a number) becomes null, suppressed: " in out
    assert "; with `type: str` it is masked as text" in out
    (site / "agent.yaml").write_text(text.replace("[mobile]", "[mobile], type: str"))
    assert "becomes null, suppressed" not in check(capsys, site / "agent.yaml")[1]


@pytest.mark.parametrize("declared", ["", ", fields: {image: {grade: general}}"])
def test_what_happens_to_pictures_is_told(capsys, site, declared):
    text = AGENT.replace("path: pump.csv", "path: photos").replace(
        "{validate: {field: t, range: [0, 1]}}", ""
    )
    (site / "agent.yaml").write_text(text.replace(", steps: []", declared).replace("PORT", "5570"))
    code, out = check(capsys, site / "agent.yaml")
    assert code == 0, out
    assert "pump.image (bytes) is masked as an image and written anew: " in out
    assert out.count("pump.image") == 1


def test_a_bad_one_gives_all_errors_and_exit_2(capsys, site):
    bad = site / "bad.yaml"
    bad.write_text(AGENT.replace("source: pump", "source: pmp").replace("id: g1", "name: g1"))
    code, out = check(capsys, bad)
    assert code == 2
    assert "bad.yaml:5:18: pipelines.pump.source: there is no source `pmp` (did you mean `pump`?)" in out
    assert "bad.yaml:1:11: gateway.name: unknown key" in out
    assert "bad.yaml:1:1: gateway.id: the key `id` is required" in out


def test_json_says_the_same(capsys, site):
    code, out = check(capsys, site / "agent.yaml", "--json")
    shown = json.loads(out)
    assert (code, shown["ok"], shown["errors"]) == (0, True, [])
    assert shown["summary"]["streams"][0]["steps"] == ["validate"]
    (site / "bad.yaml").write_text("gateway: {}\n")
    code, out = check(capsys, site / "bad.yaml", "--json")
    shown = json.loads(out)
    assert (code, shown["ok"]) == (2, False)
    assert {e["path"] for e in shown["errors"]} == {"gateway.id", "sources", "pipelines"}
    assert shown["errors"][0]["line"] == 1


def test_without_a_readable_file_the_exit_is_2(capsys, tmp_path):
    code, out = check(capsys, tmp_path / "none.yaml")
    assert code == 2
    assert "none.yaml: cannot read" in out


def test_the_kind_can_be_forced(capsys, site):
    assert check(capsys, site / "receiver.yaml")[0] == 0
    assert check(capsys, site / "receiver.yaml", "--kind", "agent")[0] == 2


def test_live_is_content_where_everything_works(capsys, site):
    code, out = check(capsys, site / "agent.yaml", "--live")
    assert (code, "error" in out) == (0, False)
    assert not list(site.glob(".forebay-check*"))
    assert not (site / "spool").exists(), "a check makes nothing"


def test_live_names_each_thing_that_does_not_work(capsys, site, listener):
    (site / "pump.csv").unlink()
    (site / "server.pub").unlink()
    (site / "own.key").chmod(0o644)
    free = listener
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
    text = (site / "agent.yaml").read_text().replace(str(listener), str(free))
    (site / "agent.yaml").write_text(text.replace("dir: spool", "dir: spool, max_bytes: 999TiB"))
    code, out = check(capsys, site / "agent.yaml", "--live")
    assert code == 1
    assert "sources.pump.path: there is no such file" in out
    assert "forward.keys.own: expected mode 0600, found 0644: others can read the key (chmod 600" in out
    assert "forward.keys.server: there is no such file" in out
    assert "spool.max_bytes: the quota is 999TiB" in out
    assert f"forward.endpoints[0]: cannot connect to tcp://127.0.0.1:{free}: Connection refused" in out


def test_live_says_that_a_missing_key_can_be_made(capsys, site):
    (site / "own.key").unlink()
    code, out = check(capsys, site / "agent.yaml", "--live")
    assert code == 1
    assert "there is no such key (forebay keys new own --dir" in out


def test_live_loads_and_runs_each_model_with_the_providers_that_are_there(capsys, site):
    made = shutil.copytree(find("sensor-anomaly"), site / "bundles" / "mine")
    manifest = made / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("name: sensor-anomaly", "name: mine"))
    text = (site / "agent.yaml").read_text()
    text = text.replace("{validate: {field: t, range: [0, 1]}}", "{infer: {model: mine, inputs: [t]}}")
    (site / "agent.yaml").write_text(text + "models: {dir: bundles, providers: [GPUExecutionProvider]}\n")
    code, out = check(capsys, site / "agent.yaml", "--live")
    assert code == 0, "the CPU runs it"
    assert "models.providers[0]: the execution provider GPUExecutionProvider is not available here" in out
    (made / "CARD.md").write_text("changed on the way")
    assert check(capsys, site / "agent.yaml")[0] == 0, "without --live manifests only are read"
    code, out = check(capsys, site / "agent.yaml", "--live")
    assert code == 1
    assert "pipelines.pump.steps[0].infer: " in out
    assert "CARD.md: expected sha256" in out


@pytest.fixture
def with_credential(site, monkeypatch):
    """The same folder as a package makes it: the key is systemd's to hand over, and nobody has."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (site / "keys").mkdir()
    (site / "own.key").rename(site / "keys/own.key")
    text = (site / "agent.yaml").read_text().replace("own: own.key", 'own: "credential:own.key"')
    (site / "agent.yaml").write_text(text)
    return site


def test_live_looks_beside_the_configuration_for_what_systemd_hands_to_the_service(capsys, with_credential):
    code, out = check(capsys, with_credential / "agent.yaml", "--live")
    assert code == 0, out
    assert "note     `credential:NAME` is handed to the service by systemd; here it was looked for in" in out
    assert "CREDENTIALS_DIRECTORY" not in os.environ
    (with_credential / "keys/own.key").chmod(0o640)
    code, out = check(capsys, with_credential / "agent.yaml", "--live")
    assert code == 1
    assert "forward.keys.own: expected mode 0600, found 0640" in out


def test_live_goes_on_where_no_credentials_are_to_be_had(capsys, with_credential):
    (with_credential / "keys/own.key").unlink()
    (with_credential / "keys").rmdir()
    (with_credential / "server.pub").unlink()
    code, out = check(capsys, with_credential / "agent.yaml", "--live")
    assert code == 1
    assert "forward.keys.own: $CREDENTIALS_DIRECTORY is not set" in out
    assert "forward.keys.server: there is no such file" in out


def test_live_takes_systemd_s_credentials_with_their_own_modes(capsys, with_credential, monkeypatch):
    folder = with_credential / "run"
    folder.mkdir()
    (with_credential / "keys/own.key").rename(folder / "own.key")
    (folder / "own.key").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    code, out = check(capsys, with_credential / "agent.yaml", "--live")
    assert (code, "credential:NAME" in out) == (0, False), out


def test_live_checks_a_receiver(capsys, site):
    shutil.rmtree(site / "allowed")
    text = (site / "receiver.yaml").read_text().replace("path: center.db", "path: no/such/center.db")
    (site / "receiver.yaml").write_text(text)
    code, out = check(capsys, site / "receiver.yaml", "--live")
    assert code == 1
    assert "listen.allow: there is no such folder: every gateway is refused" in out
    assert "sinks.store.path: the folder is missing or not writable" in out
    assert "warning: " in out
    assert "listen.endpoint: the port is in use" in out


@pytest.mark.parametrize("kind", ["agent", "receiver", "policy"])
def test_schema_prints_a_valid_schema(capsys, kind):
    assert app.run(["schema", kind]) == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_schema_without_a_kind_prints_both_configurations(capsys):
    assert app.run(["schema"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"agent", "receiver"}
