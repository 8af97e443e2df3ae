"""Whatever stands in a file, loading it gives a configuration or ConfigErrors, and each error has a place."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.config.findings import ConfigErrors
from forebay.config.loader import load_agent, load_receiver
from forebay.config.yaml_source import parse

SAMPLE = (Path(__file__).parents[2] / "config" / "agent.yaml").read_text(encoding="utf-8")
WORDS = [
    "gateway",
    "sources",
    "pipelines",
    "type",
    "file",
    "steps",
    "validate",
    "forward",
    "keys",
    "spool",
    "id",
]

# What a file can hold: printable text; numbers that JSON writes as YAML reads them.
printable = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Cn", "Zl", "Zp")), max_size=20)
readable = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | printable,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(printable.filter(lambda k: k != "<<"), inner),
    max_leaves=20,
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(WORDS)
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)


def check(load, folder, text):
    path = folder / "f.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    for finding in errors_of(load, path):
        assert finding.line >= 1
        assert finding.col >= 1
        assert finding.message
        assert "\n" not in finding.message


def errors_of(load, path):
    try:
        load(path)
    except ConfigErrors as error:
        return error.errors or pytest.fail("refused without a reason")
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("config")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees, receiver=st.booleans())
def test_any_tree(folder, tree, receiver):
    text = json.dumps(tree, ensure_ascii=True)  # JSON is YAML
    check(load_receiver if receiver else load_agent, folder, text)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes(folder, data):
    check(load_agent, folder, data)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(SAMPLE) - 1), piece=st.text(max_size=5), cut=st.integers(0, 40))
def test_any_slip_of_the_pen(folder, at, piece, cut):
    check(load_agent, folder, SAMPLE[:at] + piece + SAMPLE[at + cut :])


@settings(max_examples=100, deadline=None)
@given(tree=readable)
def test_values_come_back_as_they_were_written(tree):
    # YAML, other than JSON, does not join the escapes of a surrogate pair: so without escapes.
    document = parse(json.dumps({"x": tree}, ensure_ascii=False).encode(), "f")
    assert repr(document.value["x"]) == repr(tree)
