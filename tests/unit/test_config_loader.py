"""Loading a configuration: every error at once, each with place, path, message and hint."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from forebay.blocks import Lane
from forebay.config.base import Duration, Options
from forebay.config.explain import explain, suggest
from forebay.config.findings import ConfigErrors, Severity, format_path
from forebay.config.loader import load, load_agent, load_receiver, parse_path
from forebay.config.registry import by_name, by_type
from forebay.config.secrets import SecretRef, secrets_of
from forebay.config.yaml_source import parse

MINIMAL = """\
gateway: {id: g1}
sources:
  pump: {type: file, path: pump.csv}
pipelines:
  pump: {source: pump}
"""

DESIGN = """\
gateway: {id: hz-water-017, site: huizhou/huicheng/pump-3, labels: {owner: water}}
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts}}
pipelines:
  pump:
    source: pump
    fields:
      temperature: {unit: "°C", grade: general, decimals: 2}
    steps:
      - validate: {field: temperature, range: [-40, 150], max_rate: 5/s}
      - deadband: {field: temperature, absolute: 0.1, max_silence: 60s}
      - infer: {model: sensor-anomaly, inputs: [temperature, flow]}
      - alarm: {when: "anomaly > 0.9 for 5s", lane: urgent}
masking: {policy: policy.yaml}
spool: {dir: /var/lib/forebay/spool, max_bytes: 2GiB, sync: full, on_full: evict_lowest_value}
forward:
  endpoints: [tcp://127.0.0.1:5570]
  keys: {own: keys/gateway.key, server: keys/center.pub}
"""

RECEIVER = """\
center: {id: dc-1}
listen: {endpoint: tcp://127.0.0.1:5570, key: keys/center.key, allow: keys/allowed}
sinks:
  store: {type: sqlite, path: center.db}
"""


@pytest.fixture
def errors(tmp_path):
    def of(text: str) -> list[str]:
        path = tmp_path / "f.yaml"
        path.write_text(text)
        with pytest.raises(ConfigErrors) as caught:
            load(path)
        return [str(e).replace(f"{tmp_path}/", "") for e in caught.value.errors]

    return of


@pytest.fixture
def loaded(tmp_path):
    def of(text: str):
        path = tmp_path / "f.yaml"
        path.write_text(text)
        return load(path)

    return of


def test_the_minimal_configuration_has_defaults_everywhere(loaded):
    found = loaded(MINIMAL)
    config = found.config
    assert config.spool.max_bytes == 2 * 1024**3
    assert config.spool.dir == Path("/var/lib/forebay/spool")
    assert config.stream("pump") == "pump"
    assert config.pipelines["pump"].linger_ns == 1_000_000_000
    assert [w.message.split(":")[0] for w in found.warnings] == [
        "no `forward` section",
        "no `masking` section",
    ]
    assert [w.severity for w in found.warnings] == [Severity.WARNING, Severity.INFO]


def test_the_design_example_loads(loaded):
    found = loaded(DESIGN)
    steps = found.config.pipelines["pump"].steps
    assert [s.name for s in steps] == ["validate", "deadband", "infer", "alarm"]
    assert steps[0].options.max_rate == 5.0
    assert found.place("spool.max_bytes").endswith("f.yaml:15:49")
    assert found.position("pipelines.pump.steps[1].deadband.absolute") == (11, 50)
    assert found.position("spool.compression") == (15, 8), "a default stands where its section does"
    assert found.resolve(Path("policy.yaml")) == found.base / "policy.yaml"


def test_the_receiver_example_loads(loaded, tmp_path):
    found = loaded(RECEIVER)
    assert found.config.sinks["store"].path == Path("center.db")
    assert load_receiver(tmp_path / "f.yaml").digest == found.digest
    with pytest.raises(ConfigErrors) as caught:
        load_agent(tmp_path / "f.yaml")
    assert "found a receiver's" in str(caught.value)


@pytest.mark.parametrize(("lane", "ns"), [("urgent", 0), ("normal", 10**9), ("bulk", 5 * 10**9)])
def test_linger_follows_the_lane(loaded, lane, ns):
    pipeline = loaded(MINIMAL.replace("{source: pump}", f"{{source: pump, lane: {lane}}}"))
    assert pipeline.config.pipelines["pump"].linger_ns == ns
    assert pipeline.config.pipelines["pump"].lane is Lane(lane)


BROKEN = """\
gateway: {id: "has space", labels: {floor: 3}}
sources:
  pump: {type: fille, path: pump.csv}
  third: {type: file, pth: x, format: cvs}
pipelines:
  pump:
    source: pumpp
    max_keys: true
    fields:
      t: {unit: "°C", grade: genral, decimals: two}
    steps:
      - validate: {field: t, range: [-40]}
      - validte: {}
      - deadband
      - alarm: {}
        when: x
    linger: 5
  p2: {source: third, stream: PUMP}
maskin: {}
spool: {max_bytes: 1, on_full: evict}
forward:
  endpoints: tcp://127.0.0.1:5570
  keys: {own: }
  window: 4
  window: 5
log: [x]
"""


def test_every_error_is_reported_at_once_in_the_order_of_the_file(errors):
    found = errors(BROKEN)
    expected = [
        "f.yaml:1:15: gateway.id: expected text of the form",
        "f.yaml:1:44: gateway.labels.floor: expected text, found a whole number (put it in quotes)",
        "f.yaml:3:16: sources.pump.type: expected ",
        "f.yaml:4:3: sources.third.path: the key `path` is required",
        "f.yaml:4:23: sources.third.pth: unknown key (did you mean `path`?)",
        "f.yaml:4:39: sources.third.format: expected one of ",
        "f.yaml:7:13: pipelines.pump.source: there is no source `pumpp` (did you mean `pump`?)",
        "f.yaml:8:15: pipelines.pump.max_keys: expected a number, found true/false",
        "f.yaml:10:30: pipelines.pump.fields.t.grade: expected one of `general`, `important`, `core`"
        " (did you mean `general`?)",
        "f.yaml:10:48: pipelines.pump.fields.t.decimals: expected a whole number, found text",
        "f.yaml:12:37: pipelines.pump.steps[0].validate.range: expected at least 2 items, found 1",
        "f.yaml:13:9: pipelines.pump.steps[1].validte: unknown step (did you mean `validate`?)",
        "f.yaml:14:9: pipelines.pump.steps[2]: expected a step `NAME: {options}`, found text",
        "f.yaml:15:9: pipelines.pump.steps[3]: expected one step `NAME: {options}`, found 2 keys",
        "f.yaml:17:13: pipelines.pump.linger: expected a duration with its unit such as `10s`,"
        " found a whole number",
        "f.yaml:18:23: pipelines.p2.stream: pipeline `pump` has the same stream",
        "f.yaml:19:1: maskin: unknown key (did you mean `masking`?)",
        "f.yaml:20:20: spool.max_bytes: expected a size with its unit such as `64KiB`, found a whole number",
        "f.yaml:20:32: spool.on_full: expected one of `evict_lowest_value`",
        "f.yaml:22:14: forward.endpoints: expected a list, found text (write it as `[…]`)",
        "f.yaml:23:3: forward.keys.server: the key `server` is required",
        "f.yaml:23:15: forward.keys.own: expected a value, found nothing",
        "f.yaml:25:3: forward.window: the key is there twice, first in line 24 (remove one of them)",
        "f.yaml:26:6: log: expected a mapping of keys and values, found a list",
    ]
    assert len(found) == len(expected)
    for message, beginning in zip(found, expected, strict=True):
        assert message.startswith(beginning)


def test_a_value_never_shows_in_an_error(errors):
    secret = "sk-12345-geheim"
    text = (
        MINIMAL
        + f"forward: {{endpoints: [{secret}], keys: {secret}, window: {secret}, ack_timeout: {secret}}}\n"
    )
    text += f"spool: {{sync: {secret}, max_bytes: {secret}}}\nlog: {{level: {secret}}}\n"
    found = errors(text.replace("g1", f"'{secret} '").replace("type: file", f"type: {secret}"))
    assert len(found) == 9
    assert not any(secret in message for message in found)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("endpoints: [127.0.0.1:5570]", "endpoints[0]: expected an endpoint such as `tcp://HOST:PORT`"),
        ("endpoints: ['tcp://h:70000']", "expected a port from 1 to 65535"),
        ("endpoints: ['tcp://*:5570']", "endpoints: expected the receiver's address, found `*`"),
        ("endpoints: []", "expected at least 1 items, found 0"),
        ("endpoints: ['tcp://h:1']\n  retry_min: 2m", "expected `retry_min` to be at most `retry_max`"),
        ("endpoints: ['tcp://h:1']\n  window: 0", "expected 1 or more"),
        ("endpoints: ['tcp://h:1']\n  ack_timeout: 1ms", "expected 100ms or more"),
        ("endpoints: ['tcp://h:1']\n  window: 1.5", "expected a whole number, found a decimal number"),
    ],
)
def test_the_link_is_checked(errors, wrong, says):
    (only,) = errors(f"{MINIMAL}forward:\n  {wrong}\n  keys: {{own: a, server: b}}\n")
    assert says in only


@pytest.mark.parametrize("text", ["just words", "- a\n- b\n", "12"])
def test_a_file_that_is_no_mapping_is_refused(errors, text):
    assert "expected keys and values such as" in errors(text)[0]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigErrors, match=r"no-such\.yaml: cannot read: No such file"):
        load(tmp_path / "no-such.yaml")


def test_an_unused_source_and_a_near_miss_of_a_field_are_warnings(loaded):
    text = DESIGN.replace("sources:\n", "sources:\n  spare: {type: file, path: x}\n").replace(
        "deadband: {field: temperature", "deadband: {field: temprature"
    )
    warnings = [str(w).split("f.yaml:")[1] for w in loaded(text).warnings]
    assert any(w.startswith("3:3: sources.spare: no pipeline reads this source") for w in warnings)
    assert any(w.startswith("12:27: ") and "did you mean `temperature`?" in w for w in warnings)
    assert not any("flow" in w for w in warnings), "a field need not be declared"


def test_a_key_may_be_named_like_the_type_of_its_mapping():
    class One(Options):
        """."""

        type: Literal["file"] = "file"
        file: int

    class Two(Options):
        """."""

        type: Literal["two"] = "two"

    class Root(Options):
        """."""

        sources: dict[str, by_type({"file": One, "two": Two})]

    document = parse(b"sources: {file: {type: file, file: x}}", "f")
    with pytest.raises(ValidationError) as caught:
        Root.model_validate(document.value)
    (only,) = explain(caught.value, document, Root)
    assert str(only).startswith("f:1:36: sources.file.file: expected a whole number, found text")


class _Inner(Options):
    """."""

    unit: Literal["s", "ms"]
    every: Duration = 0


class _Mixed(Options):
    """."""

    time: str | _Inner = ""
    limit: int | list[int] = 0
    kind: Literal["a"] | bool = "a"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time: 12", "f:1:7: time: expected text or a mapping of keys and values, found a whole number"),
        ("time: {unit: m}", "f:1:14: time.unit: expected one of `s`, `ms`"),
        ("time: {unit: s, evry: 1s}", "f:1:17: time.evry: unknown key (did you mean `every`?)"),
        ("time: {}", "f:1:1: time.unit: the key `unit` is required"),
        ("limit: [1, x]", "f:1:12: limit[1]: expected a whole number, found text"),
        ("limit: {}", "f:1:8: limit: expected a whole number or a list, found a mapping"),
        ("kind: 7", "f:1:7: kind: expected `a` or true or false, found a whole number"),
    ],
)
def test_of_a_union_only_the_branch_that_was_meant_is_explained(text, says):
    document = parse(text.encode(), "f")
    with pytest.raises(ValidationError) as caught:
        _Mixed.model_validate(document.value)
    found = explain(caught.value, document, _Mixed)
    assert len(found) == 1
    assert str(found[0]).startswith(says)


def test_a_newly_registered_step_and_source_need_no_edit_elsewhere():
    class NewOptions(Options):
        """Does something new."""

        size: int = 1

    class Root(Options):
        """."""

        steps: list[by_name({"new": NewOptions, "copy": NewOptions})]
        source: by_type({"new": NewOptions, "old": NewOptions}) | None = None

    root = Root.model_validate({"steps": [{"copy": {"size": 3}}, {"new": {}}], "source": {"type": "old"}})
    assert [(s.name, s.options.size) for s in root.steps] == [("copy", 3), ("new", 1)]
    assert root.source.type == "old"
    assert root.model_dump(by_alias=True)["steps"][0] == {"copy": {"size": 3}}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("a", "b", 0, "c"), "a.b[0].c"),
        (("labels", "a.b", 12), 'labels."a.b"[12]'),
        (("x y", 'q"q'), '"x y"."q\\"q"'),
        ((), ""),
    ],
)
def test_paths_are_written_and_read_back(path, text):
    assert format_path(path) == text
    assert parse_path(text) == path


@pytest.mark.parametrize(
    ("word", "hint"), [("fille", "`file`"), ("Max-Bytes", "`max_bytes`"), ("zzz", ""), ("mqt", "`mqtt`")]
)
def test_the_nearest_word_is_suggested(word, hint):
    assert hint in suggest(word, ["file", "mqtt", "max_bytes"])
    assert bool(suggest(word, ["file", "mqtt", "max_bytes"])) == bool(hint)


class _WithSecret(Options):
    """."""

    password: SecretRef | None = None
    token: SecretRef = "env:TOKEN"
    label: str = "env:NOT_A_SECRET"
    inner: dict[str, "_WithSecret"] = Field(default_factory=dict)


def test_an_inline_secret_is_refused_without_showing_it():
    document = parse(b"password: hunter2", "f")
    with pytest.raises(ValidationError) as caught:
        _WithSecret.model_validate(document.value)
    (only,) = explain(caught.value, document, _WithSecret)
    assert "expected a reference `env:NAME`" in str(only)
    assert "file:PATH" in only.hint
    assert "hunter2" not in str(only)


def test_secrets_are_found_and_read(tmp_path):
    (tmp_path / "p").write_text("geheim\n")
    (tmp_path / "empty").write_text("\n")
    config = _WithSecret.model_validate({"password": "file:p", "inner": {"x": {"password": "env:P"}}})
    assert list(secrets_of(config)) == [
        (("password",), "file:p"),
        (("token",), "env:TOKEN"),
        (("inner", "x", "password"), "env:P"),
        (("inner", "x", "token"), "env:TOKEN"),
    ]


@pytest.mark.parametrize(
    ("listen", "warned"),
    [("127.0.0.1:5580", False), ("localhost:80", False), ("[::1]:80", False), ("0.0.0.0:5580", True)],
)
def test_a_page_that_the_network_sees_is_warned_of(tmp_path, listen, warned):
    agent = tmp_path / "agent.yaml"
    agent.write_text(MINIMAL + f'web: {{listen: "{listen}"}}\n')
    assert any("not encrypted" in str(w) for w in load_agent(agent).warnings) is warned


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("gateway: {", "gateway：{", "1:1: gateway：{id: unknown key (`：` is full-width: write `:`)"),
        (
            "  pump: {source",
            "\xa0\xa0pump: {source",
            "unknown key (a no-break space is none to YAML: write plain",
        ),
        ("source: pump}", "source: pump, max_keys: １０}", "found text (write the digits half-width)"),
    ],
)
def test_signs_of_a_chinese_keyboard_are_named(tmp_path, old, new, says):
    path = tmp_path / "agent.yaml"
    path.write_text(MINIMAL.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    assert says in str(caught.value)


def test_a_file_of_the_other_kind_is_one_error_with_the_command_that_takes_it(tmp_path):
    agent, receiver = tmp_path / "agent.yaml", tmp_path / "receiver.yaml"
    agent.write_text(MINIMAL)
    receiver.write_text("center: {id: dc}\nlisten: {}\nsinks: {}\n")
    with pytest.raises(ConfigErrors) as caught:
        load_agent(receiver)
    assert str(caught.value) == (
        f"{receiver}:1:1: expected an agent's configuration, found a receiver's (forebay receive {receiver})"
    )
    with pytest.raises(ConfigErrors) as caught:
        load_receiver(agent)
    assert "expected a receiver's configuration, found an agent's (forebay run" in str(caught.value)


@pytest.mark.parametrize(
    ("pipeline", "at"),
    [
        ("fields: {oxygen: {}}, steps: [alarm: {when: 'oxgen < 3'}]", "steps[0].alarm.when: `oxgen`"),
        (
            "fields: {oxygen: {}}, steps: [alarm: {when: 'oxygen < 3', clear: 'oxygn > 4'}]",
            "alarm.clear: `oxygn`",
        ),
        ("key: ponnd", "key: `ponnd`"),
        ("key: pond, fields: {oxygen: {}}, steps: [alarm: {when: 'oxygen_mean < 3 and anomaly > 1'}]", ""),
        ("fields: {flow1: {}}, steps: [{rename: {fields: {x: flow2}}}, {alarm: {when: flow2 > 1}}]", ""),
    ],
)
def test_a_near_miss_of_a_fields_name_is_told(tmp_path, pipeline, at):
    path = tmp_path / "agent.yaml"
    path.write_text(
        "gateway: {id: g1}\nsources:\n  s: {type: mqtt, broker: 'mqtt://h', topics: ['farm/{pond}/do']}\n"
        f"pipelines:\n  p: {{source: s, {pipeline}}}\n"
    )
    told = [str(w) for w in load(path).warnings if "is not among" in w.message]
    assert len(told) == bool(at)
    assert at in "".join(told)


def test_an_agent_without_a_mistake_loads_nothing_that_only_mistakes_and_receivers_need(tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_text(MINIMAL.replace("source: pump", "source: pump, key: id, fields: {id: {}, t: {unit: V}}"))
    code = f"import sys; from forebay.config.loader import load_agent; load_agent({str(path)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"forebay.config.receiver", "difflib", "unicodedata"} & set(done.stdout.split())
