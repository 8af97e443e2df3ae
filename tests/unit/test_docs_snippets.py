"""What the pages and the examples show can be typed: every YAML block is taken, every command line is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from forebay.cli.app import COMMANDS, cli, load_command
from forebay.cli.policies import is_policy
from forebay.config.agent import AgentConfig
from forebay.config.findings import ConfigErrors
from forebay.config.loader import load_text
from forebay.config.receiver import ReceiverConfig
from forebay.config.yaml_source import parse
from forebay.infer.manifest import Manifest
from forebay.mask.policy import load_policy

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("config/**/*.md"), *ROOT.glob("models/*/*.md")]
)
SAMPLES = sorted(
    p
    for folder in ("config", "packaging")
    for p in (ROOT / folder).rglob("*")
    if p.is_file() and p.suffix != ".jpg"
)
TEXTS = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in [*PAGES, *SAMPLES]}

BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page, text in TEXTS.items()
    for number, block in enumerate(re.findall(r"^```ya?ml\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
]
AGENT: dict[str, Any] = {
    "gateway": {"id": "gw-1"},
    "sources": {"s": {"type": "system"}},
    "pipelines": {"p": {"source": "s"}},
}
POLICY = {"name": "p", "version": 1, "extends": "base"}


def test_there_are_snippets():
    assert len(BLOCKS) > 15
    assert len(LINES) > 60


@pytest.mark.parametrize("block", BLOCKS)
def test_a_yaml_block_is_taken(block, tmp_path):
    """A part of a file is completed to a whole one by what its keys or steps need."""
    value = parse(block.encode(), "page").value
    if isinstance(value, list):
        value = {"steps": value}
    if "steps" in value:
        value = {"pipelines": {"p": {"source": "s", **value}}}
    if "decoder" in value:
        assert value.keys() <= Manifest.model_fields.keys()
        return
    path = tmp_path / "file.yaml"
    if value.keys() <= AgentConfig.model_fields.keys():
        value = completed(value)
    elif not value.keys() <= ReceiverConfig.model_fields.keys():
        value = POLICY | value
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    if is_policy(path):
        load_policy(path, tmp_path)
        return
    for reference in re.findall(r"file:([\w.-]+)", block):
        (tmp_path / reference).write_text("x")
    try:
        load_text(path.read_bytes(), path)
    except ConfigErrors as error:
        pytest.fail(str(error))


def completed(value: dict[str, Any]) -> dict[str, Any]:
    whole = AGENT | value
    if "pipelines" in value:
        asked = {p["source"] for p in value["pipelines"].values()}
        whole["sources"] = {
            name: {"type": "file", "path": "x", "format": "images"} for name in asked
        } | value.get("sources", {})
    return whole


# -- command lines ------------------------------------------------------------------------------------------

# A line of its own in a page or a comment is typed as it stands; in the middle of a text only its words are.
_LINE = re.compile(r"^(?:#+ )?(?: {4,}|\$ )(?:sudo )?forebay (.+)$", re.MULTILINE)
_INLINE = re.compile(r"`forebay ([a-z][^`\n]*)`")
_NOT_COMMANDS = {"checkpoint 1\\0"}  # a prefix of signed bytes
LINES = sorted(
    {(page, line.strip(), True) for page, text in TEXTS.items() for line in _LINE.findall(text)}
    | {(page, line.strip(), False) for page, text in TEXTS.items() for line in _INLINE.findall(text)}
)


def leaf(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that words name, and what is left of them."""
    assert words[0] in COMMANDS, words[0]
    command, rest = load_command(words[0], COMMANDS[words[0]]), words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        inner = command.get_command(click.Context(command), rest[0])
        assert inner is not None, f"{words[0]} {rest[0]}"
        command, rest = inner, rest[1:]
    return command, rest


@pytest.mark.parametrize(("page", "line", "whole"), LINES)
def test_a_command_line_is_understood(page, line, whole):
    line = re.split(r"\s(?:\||>|<|&&|#)(?:\s|$)", line.removesuffix("\\").strip())[0]
    words = [w for w in shlex.split(line) if w != "..."]
    if line in _NOT_COMMANDS or not words:
        return
    if words[0].startswith("-"):
        assert words[0] in {o for p in cli.params for o in p.opts} | {"--help", "-h"}, page
        return
    command, rest = leaf(words)
    if isinstance(command, click.Group):
        assert not rest, f"{page}: {line}"
        return
    context = click.Context(command, resilient_parsing=not whole)
    try:
        given, left, _ = command.make_parser(context).parse_args(list(rest))
    except click.UsageError as error:
        pytest.fail(f"{page}: forebay {line}: {error.message}")
    assert not left, f"{page}: forebay {line}: {left}"
    if whole:
        missing = [p.name for p in command.params if p.required and not given.get(str(p.name))]
        assert missing == [], f"{page}: forebay {line}"


def test_targets_of_make_that_the_pages_name_exist():
    targets = set(
        re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    named = {
        (page, name)
        for page, text in TEXTS.items()
        for name in re.findall(r"(?:`|^ {4})make ([a-z][\w-]*)", text, re.MULTILINE)
    }
    assert len(named) > 10
    assert {(page, name) for page, name in named if name not in targets} == set()


def test_links_of_every_page_lead_to_files_and_headings():
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target, heading in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", text):
            to = page.parent / target if target else page
            if not to.exists() or (heading and heading not in headings(to)):
                wrong.append(f"{page.name}: {target}#{heading}")
    assert wrong == []


def test_files_that_the_pages_name_exist():
    beside = (ROOT, ROOT / "agent/forebay")
    named = re.compile(
        r"(?<![\w/.-])((?:tests|packaging|benchmarks|config|agent|core_ext|docs)/[\w./-]+\.(?:py|md|yaml|json|sh))\b"
    )
    wrong = [
        (n, f)
        for n, t in TEXTS.items()
        for f in named.findall(t)
        if not any((at / f).exists() for at in beside)
    ]
    assert wrong == []


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, made as on the forge."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower().replace("`", "")).strip().replace(" ", "-") for t in titles}


# -- commands that the program itself advises ----------------------------------------------------------------

ADVISED = sorted(
    {
        (path.relative_to(ROOT).as_posix(), " ".join(words))
        for path in (ROOT / "agent/forebay").rglob("*.py")
        for words in re.findall(
            r"forebay (keys|models|spool|audit|config) ([a-z]+)\b", path.read_text("utf-8")
        )
    }
)


@pytest.mark.parametrize(("path", "words"), ADVISED)
def test_a_command_that_the_program_advises_exists(path, words):
    command, rest = leaf(words.split())
    assert not isinstance(command, click.Group), path
    assert not rest, path


def test_whoever_is_told_to_enrol_is_told_where():
    """`--allow` is required: without it the line that an engineer copies does not work."""
    texts = {p.name: p.read_text("utf-8").replace('"\n', "") for p in (ROOT / "agent/forebay").rglob("*.py")}
    texts = {name: re.sub(r'"\s*\n\s*f?"', "", text) for name, text in texts.items()}
    short = [n for n, t in texts.items() if re.search(r"forebay keys enroll [A-Z_]+ [A-Z]+(?! --allow)\b", t)]
    assert short == []
