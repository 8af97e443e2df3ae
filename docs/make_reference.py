"""Writes docs/configuration.md from the options classes: `python docs/make_reference.py`. A test holds it true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forebay.config.base import format_duration, format_size
from forebay.config.receiver import SINK_OPTIONS
from forebay.config.registry import SOURCE_OPTIONS, STEP_OPTIONS
from forebay.config.schema import schema_of

TARGET = Path(__file__).parent / "configuration.md"
HEAD = """# Configuration reference

Generated from the options classes by `python docs/make_reference.py`; what `forebay schema` prints, for people.
Units are written in values: durations `10s`, `250ms`, `1.5h`; sizes `64KiB`, `2GiB`; rates `5/s`. Secrets are
references (`env:NAME`, `file:PATH`, `credential:NAME`). Paths are relative to the configuration file. Unknown keys
are errors. Try a file with `forebay check FILE`.
"""


def resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference."""
    if "$ref" in node:
        found: dict[str, Any] = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        return found
    return node


def kind(schema: dict[str, Any], node: dict[str, Any]) -> str:
    """Return what a value looks like, in a few words."""
    node = resolve(schema, node)
    if "enum" in node:
        return " \\| ".join(f"`{v}`" for v in node["enum"] if v != "")
    if "const" in node:
        return f"`{node['const']}`"
    if "anyOf" in node or "oneOf" in node:
        parts = dict.fromkeys(kind(schema, n) for n in node.get("anyOf", node.get("oneOf", [])))
        return " or ".join(p for p in parts if p != "null")
    if "examples" in node:
        return f"e.g. `{node['examples'][0]}`"
    if node.get("type") == "array":
        return "list of " + kind(schema, node.get("items") or (node.get("prefixItems") or [{}])[0])
    if node.get("type") == "object" and "properties" not in node:
        return "mapping"
    type_ = node.get("type", "value")
    return {"string": "text", "object": "section", "boolean": "true or false"}.get(type_, str(type_))


def table(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[str]:
    """Yield the rows of a section's table."""
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    required = set(node.get("required", ()))
    for name, raw in node.get("properties", {}).items():
        default = "required" if name in required else written(raw)
        about = re.sub(r"\s+", " ", raw.get("description", "")).replace("|", "\\|")
        yield f"| `{name}` | {kind(schema, raw)} | {default} | {about} |"


def written(node: dict[str, Any]) -> str:
    """Return a default as it would stand in a file: durations and sizes with their unit."""
    value, example = node.get("default"), (node.get("examples") or [""])[0]
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, dict):
        return "the section's own defaults"
    if value and isinstance(value, int) and not isinstance(value, bool) and example in ("10s", "64KiB"):
        value = format_duration(value) if example == "10s" else format_size(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace('"', "")


def sections(kind_name: str) -> Iterator[str]:
    """Yield the document's part on one configuration."""
    schema = schema_of(kind_name)
    yield f"\n## {kind_name.capitalize()}\n"
    yield from table(schema, schema)
    for name, raw in schema["properties"].items():
        node = resolve(schema, raw)
        options = [resolve(schema, n) for n in node.get("anyOf", [node])]
        for option in options:
            entries = option.get("additionalProperties")
            target = resolve(schema, entries) if isinstance(entries, dict) else option
            if "properties" in target:
                yield f"\n### {kind_name} `{name}`{' entries' if entries else ''}\n"
                yield from table(schema, target)
                yield from within(schema, target, f"{kind_name} `{name}{'.*' if entries else ''}.")


def within(schema: dict[str, Any], node: dict[str, Any], title: str) -> Iterator[str]:
    """Yield the tables of the sections in a section, e.g. `forward.budget`, and of those in its lists and mappings."""
    for name, raw in node.get("properties", {}).items():
        for option, many in inner(schema, raw):
            if "properties" in option:
                yield f"\n#### {title}{name}`{many}\n"
                yield from table(schema, option)
                yield from within(schema, option, f"{title}{name}.")


def inner(schema: dict[str, Any], raw: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the sections that a key may hold, and ` entries` for those of a list or mapping."""
    found = resolve(schema, raw)
    for option in (resolve(schema, n) for n in found.get("anyOf", [found])):
        entry = option.get("additionalProperties") or option.get("items")
        if isinstance(entry, dict):
            yield resolve(schema, entry), " entries"
        else:
            yield option, ""


def registered(title: str, options: dict[str, Any]) -> Iterator[str]:
    """Yield the part on sources or steps."""
    for name, cls in sorted(options.items()):
        schema = cls.model_json_schema(by_alias=True)
        yield f"\n### {title} `{name}`\n"
        yield (cls.__doc__ or "").strip().split("\n")[0] + "\n"
        yield from table(schema, schema)
        yield from within(schema, schema, f"{title} `{name}.")


def render() -> str:
    """Return the whole document."""
    parts = [
        HEAD,
        *sections("agent"),
        "\n## Sources\n",
        *registered("source", SOURCE_OPTIONS),
        "\n## Steps\n",
    ]
    parts += [*registered("step", STEP_OPTIONS), *sections("receiver"), "\n## Sinks\n"]
    parts += [*registered("sink", SINK_OPTIONS), *sections("policy")]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
