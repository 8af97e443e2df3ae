"""The files in config/: each loads, its commented lines are the defaults, and the JSON Schema accepts it."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from forebay.config.loader import load
from forebay.config.schema import KINDS, model_of, schema_of
from forebay.config.yaml_source import parse

CONFIG = Path(__file__).parents[2] / "config"
OTHERS = {"policies", "bundles", "profiles"}
SAMPLES = sorted(p for p in CONFIG.rglob("*.yaml") if not OTHERS & set(p.relative_to(CONFIG).parts))
WITH_DEFAULTS = [CONFIG / "agent.yaml", CONFIG / "receiver.yaml"]


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^(\s*)#(?!#)", r"\1", text)


def test_there_are_samples():
    assert set(WITH_DEFAULTS) <= set(SAMPLES)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_every_sample_loads_and_fits_the_schema(path):
    loaded = load(path)
    kind = next(k for k in KINDS if model_of(k) is type(loaded.config))
    jsonschema.Draft202012Validator(schema_of(kind)).validate(loaded.document.value)


@pytest.mark.parametrize("path", WITH_DEFAULTS, ids=lambda p: p.name)
def test_commented_lines_of_a_sample_are_the_defaults(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    full = tmp_path / path.name
    full.write_text(uncommented(text), encoding="utf-8")
    shown, default = load(full), load(path)
    assert shown.config == default.config
    assert len(list(shown.document.leaves())) > len(list(default.document.leaves()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_valid_and_refuses_what_the_loader_refuses(kind):
    schema = schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "null" not in re.findall(r"'type': '(\w+)'", str(schema))
    assert not jsonschema.Draft202012Validator(schema).is_valid({"no_such_key": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        "sources: {pump: {type: fille, path: x}}",
        "pipelines: {pump: {source: pump, steps: [{validte: {field: t}}]}}",
        "pipelines: {pump: {source: pump, linger: 5}}",
        "spool: {max_bytes: 2 gigs}",
        "log: {level: loud}",
        "web: null",
    ],
)
def test_an_editor_with_the_schema_sees_the_error_as_well(wrong):
    good: dict[str, Any] = parse((CONFIG / "agent.yaml").read_bytes(), "agent.yaml").value
    bad = parse(wrong.encode(), "f").value
    validator = jsonschema.Draft202012Validator(schema_of("agent"))
    assert validator.is_valid(good)
    assert not validator.is_valid(good | bad)
