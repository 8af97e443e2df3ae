"""What a valid configuration names that is not there or does not fit: policies, model bundles, shared sources.

These are errors of the configuration, each with its place in the file, found without starting anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from forebay.blocks import Field
from forebay.config import preprocess
from forebay.config.agent import AgentConfig
from forebay.config.findings import Finding
from forebay.config.loader import LoadedConfig
from forebay.config.models import InferOptions
from forebay.config.sources import FileOptions
from forebay.errors import ForebayError, ModelError

Loaded = LoadedConfig[AgentConfig]


def preflight(loaded: Loaded) -> list[Finding]:
    """Return an error for each thing that the agent could not build as configured."""
    return [*_policy(loaded), *_steps(loaded), *_shared_sources(loaded)]


def missing_extras(loaded: LoadedConfig[Any]) -> list[Finding]:
    """Return an error for each optional dependency that the configuration needs and that is not installed."""
    config, out = loaded.config, []

    def need(extra: str, modules: tuple[str, ...], *path: str) -> None:
        if not all(map(_is_installed, modules)):
            message = "this needs an optional dependency that is not installed"
            out.append(loaded.finding(message, path, hint=f"pip install 'forebay[{extra}]'"))

    if config.web is not None and config.web.page:
        need("web", ("waitress",), "web")
    if config.web is not None and config.web.otlp is not None:
        need("otel", ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"), "web", "otlp")
    for name, source in getattr(config, "sources", {}).items():
        extra, modules = _SOURCE_EXTRAS.get(source.type, ("", ()))
        if isinstance(source, FileOptions) and source.actual_format in ("images", "video"):
            extra, modules = "vision", ("cv2",)
        need(extra, modules, "sources", name)
    return out


_SOURCE_EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mqtt": ("mqtt", ("paho.mqtt",)),
    "modbus": ("industrial", ("pymodbus",)),
}


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


def _policy(loaded: Loaded) -> Iterator[Finding]:
    from forebay.mask import load_policy
    from forebay.mask.trials import run_tests

    masking = loaded.config.masking
    try:
        policy = load_policy(masking.policy if masking else "base", loaded.base)
    except ForebayError as error:
        yield _finding(loaded, error, "masking", "policy")
        return
    for failure in run_tests(policy):
        yield loaded.finding(f"the policy's own test fails: {failure}", ("masking", "policy"))
    for name, pipeline in loaded.config.pipelines.items():
        for field_name, options in pipeline.fields.items():
            if options.known_type is None:
                continue
            field = Field(field_name, options.known_type, classes=tuple(options.classes), media=options.media)
            why, place = policy.conflict(field, loaded.config.stream(name))
            if why:
                hint = f"the rule stands at {place}" if place else ""
                yield loaded.finding(why, ("pipelines", name, "fields", field_name), hint=hint)


def _steps(loaded: Loaded) -> Iterator[Finding]:
    for name, pipeline in loaded.config.pipelines.items():
        for place, entry in enumerate(pipeline.steps):
            path = ("pipelines", name, "steps", place, entry.name)
            try:
                if isinstance(entry.options, InferOptions):
                    _check_model(loaded, entry.options)
                elif entry.name in preprocess.STEP_OPTIONS:
                    from forebay import preprocess as room

                    room.build(entry.name, entry.options, key=pipeline.key or "", max_keys=pipeline.max_keys)
            except ForebayError as error:
                yield _finding(loaded, error, *path)


def _check_model(loaded: Loaded, options: InferOptions) -> None:
    """Look at the manifest only: loading and running the model is `check --live` and the agent's start."""
    from forebay.infer.bundle import find, read_manifest

    models = loaded.config.models
    folder = find(
        options.model, bundles_dir=loaded.resolve(models.dir) if models.dir else None, base=loaded.base
    )
    manifest, _ = read_manifest(folder)
    wanted = "anomaly" if options.inputs else "detection"
    if manifest.task != wanted:
        given = "`inputs`" if options.inputs else "`field`"
        raise ModelError(
            f"with {given} a model of task {wanted} is expected, `{options.model}` is one of {manifest.task}",
            hint="`inputs` lists numeric fields, `field` names one image field",
        )


def _shared_sources(loaded: Loaded) -> Iterator[Finding]:
    """A file can be read twice; a broker's subscription, a bus or a socket cannot."""
    taken: dict[str, str] = {}
    for name, pipeline in loaded.config.pipelines.items():
        source = loaded.config.sources[pipeline.source]
        if isinstance(source, FileOptions):
            continue
        if pipeline.source in taken:
            yield loaded.finding(
                f"source `{pipeline.source}` feeds `{taken[pipeline.source]}` already and cannot be read twice",
                ("pipelines", name, "source"),
                hint="give each pipeline a source of its own",
            )
        taken.setdefault(pipeline.source, name)


def _finding(loaded: Loaded, error: ForebayError, *path: str | int) -> Finding:
    message = f"{error.place}: {error.message}" if error.place else error.message
    return loaded.finding(message, path, hint=error.hint)
