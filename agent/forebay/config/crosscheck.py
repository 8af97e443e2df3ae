"""What must fit together in a configuration, beyond each value alone.

`check_tree` works on the parsed document, so that it reports beside errors of single values;
`check_config` needs a valid configuration and gives warnings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from forebay.config.agent import AgentConfig, PipelineOptions, Sync
from forebay.config.base import format_size
from forebay.config.explain import suggest
from forebay.config.expression import parse
from forebay.config.findings import Finding, KeyPath, Severity
from forebay.config.sources_live import ModbusOptions, MqttOptions, topic_names
from forebay.config.watched import check_watched
from forebay.config.yaml_source import Document
from forebay.nearest import nearest

if TYPE_CHECKING:
    from forebay.config.receiver import ReceiverConfig

_HEARTBEAT_BYTES = 480  # what one costs on the wire, estimated as in forebay.forward.budget
_NAMES_FIELDS = ("field", "fields", "inputs", "by")  # step options that hold names of fields
_CONDITIONS = ("when", "clear")  # and conditions over them
_MAKES_FIELDS = ("output", "length")  # and names that a step gives


def _mapping(value: Any, key: str) -> dict[str, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def check_tree(document: Document) -> list[Finding]:
    """Return errors and warnings about names that refer to each other in an agent's configuration."""
    sources, pipelines = _mapping(document.value, "sources"), _mapping(document.value, "pipelines")
    out = list(_sources_exist(document, sources, pipelines))
    out += _streams_are_distinct(document, pipelines)
    used = {p.get("source") for p in pipelines.values() if isinstance(p, dict)}
    if pipelines:
        out += [
            document.finding(
                "no pipeline reads this source",
                ("sources", name),
                hint=f"add a pipeline with `source: {name}`, or remove it",
                at_key=True,
                severity=Severity.WARNING,
            )
            for name in sources
            if name not in used
        ]
    return out


def _sources_exist(
    document: Document, sources: dict[str, Any], pipelines: dict[str, Any]
) -> Iterator[Finding]:
    for name, pipeline in pipelines.items():
        wanted = pipeline.get("source") if isinstance(pipeline, dict) else None
        if isinstance(wanted, str) and wanted not in sources:
            hint = suggest(wanted, sources)
            if not hint and sources:
                hint = f"sources are: {', '.join(list(sources)[:10])}"
            yield document.finding(f"there is no source `{wanted}`", ("pipelines", name, "source"), hint=hint)


def _streams_are_distinct(document: Document, pipelines: dict[str, Any]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name, pipeline in pipelines.items():
        own = pipeline.get("stream") if isinstance(pipeline, dict) else None
        stream = own if isinstance(own, str) else name
        other = first.setdefault(stream.casefold(), name)
        if other != name:
            path: KeyPath = ("pipelines", name, "stream") if isinstance(own, str) else ("pipelines", name)
            yield document.finding(
                f"pipeline `{other}` has the same stream",
                path,
                hint="give one of them another `stream:`; names compare without case",
                at_key=True,
            )


def check_web(config: AgentConfig | ReceiverConfig, document: Document) -> list[Finding]:
    """Warn of a page that the network sees, and of secrets that it sees on their way to a collector."""
    if config.web is None:
        return []
    out = []
    if config.web.page and not _is_local(config.web.listen.rpartition(":")[0]):
        message = "the page is not encrypted, and whoever listens on the network can read its token"
        hint = "listen on 127.0.0.1 and come through a tunnel: ssh -L 5580:127.0.0.1:5580 GATEWAY"
        out.append(document.finding(message, ("web", "listen"), hint=hint, severity=Severity.WARNING))
    otlp = config.web.otlp
    if otlp is not None and otlp.headers and otlp.endpoint.startswith("http://"):
        host = urlsplit(otlp.endpoint).hostname or ""
        if not _is_local(host):
            message = "headers go out unencrypted, and whoever listens on the network can read them"
            path = ("web", "otlp", "endpoint")
            out.append(document.finding(message, path, hint="use https://", severity=Severity.WARNING))
    return out


def _is_local(host: str) -> bool:
    host = host.strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def check_config(config: AgentConfig, document: Document) -> list[Finding]:
    """Return warnings about a valid configuration of an agent."""
    out: list[Finding] = []

    def warn(message: str, *path: str | int, hint: str = "", severity: Severity = Severity.WARNING) -> None:
        out.append(document.finding(message, path, hint=hint, severity=severity))

    if config.forward is None:
        warn("no `forward` section: readings are buffered and sent nowhere", hint="add `forward`")
    if config.masking is None:
        warn("no `masking` section: the shipped `base` policy applies", severity=Severity.INFO)
    if config.spool.sync is Sync.NORMAL:
        warn("a power cut may lose readings that were accepted", "spool", "sync", hint="`full` loses none")
    budget = config.forward.budget if config.forward else None
    if config.forward is not None and budget is not None and (budget.day or budget.month):
        beats = 86_400 * 10**9 // config.forward.heartbeat * _HEARTBEAT_BYTES
        if beats * 10 > min(limit for limit in (budget.day, budget.month // 30) if limit):
            warn(
                f"heartbeats alone cost about {format_size(beats // 2**20 * 2**20 or beats)} a day",
                "forward",
                "budget",
                hint="make `heartbeat` longer, here and at the receiver",
            )
    out += check_web(config, document)
    for name, pipeline in config.pipelines.items():
        out += _step_fields(name, pipeline, _known(config, pipeline), document)
        out += check_watched(name, pipeline, document)
    return out


def _known(config: AgentConfig, pipeline: PipelineOptions) -> list[str]:
    """Return the fields that a configuration itself names: those declared, and those that its source makes."""
    source = config.sources[pipeline.source]
    known = list(pipeline.fields)
    if isinstance(source, ModbusOptions):
        known += [register.name for register in source.registers] + ["device"] * bool(source.devices)
    elif isinstance(source, MqttOptions):
        known += [name for topic in source.topics for name in topic_names(topic).values()]
    return known


def _step_fields(
    name: str, pipeline: PipelineOptions, known: list[str], document: Document
) -> Iterator[Finding]:
    """Warn of a field, named by a step or as the key, that is no known one but nearly so.

    A field need not be declared, and steps make fields of their own, so only a near miss is worth a word.
    """
    at: KeyPath = ("pipelines", name)
    asked: list[tuple[KeyPath, str]] = [((*at, "key"), pipeline.key)] if pipeline.key else []
    made: set[str] = set()
    for number, step in enumerate(pipeline.steps):
        path: KeyPath = (*at, "steps", number, step.name)
        options = _mapping_at(document, path)
        asked += [((*path, *where), field) for where, field in _named_fields(options)]
        made |= {v for key, v in options.items() if key in _MAKES_FIELDS and isinstance(v, str)}
        made |= set(getattr(step.options, "fields", {}).values()) if step.name == "rename" else set()
    for path, field in asked:
        near = "" if field in known or field in made else nearest(field, known, 0.8)
        if near and not field.startswith(f"{near}_"):
            yield document.finding(
                f"`{field}` is not among the pipeline's fields",
                path,
                hint=f"did you mean `{near}`?",
                severity=Severity.WARNING,
            )


def _mapping_at(document: Document, path: KeyPath) -> dict[str, Any]:
    value = document.at(path)
    return value if isinstance(value, dict) else {}


def _named_fields(options: dict[str, Any]) -> Iterable[tuple[KeyPath, str]]:
    for key in _NAMES_FIELDS:
        value = options.get(key)
        if isinstance(value, str):
            yield (key,), value
        elif isinstance(value, list):
            yield from (((key, i), item) for i, item in enumerate(value) if isinstance(item, str))
        elif isinstance(value, dict):
            yield from (((key, item), item) for item in value)
    for key in _CONDITIONS:
        if isinstance(options.get(key), str):
            yield from (((key,), field) for field in parse(options[key]).fields)
