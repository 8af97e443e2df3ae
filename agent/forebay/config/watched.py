"""Whether steps over detections get any: a rule that can never see an object is silent for ever, and looks well."""

from __future__ import annotations

from collections.abc import Iterator

from forebay.config.agent import PipelineOptions
from forebay.config.detections import DetectionOptions
from forebay.config.findings import Finding, KeyPath, Severity
from forebay.config.models import InferOptions
from forebay.config.yaml_source import Document


def check_watched(name: str, pipeline: PipelineOptions, document: Document) -> Iterator[Finding]:
    """Warn of a step over detections that none of the `infer` steps before it serves, or not with what it asks for."""
    made: dict[
        str, list[str]
    ] = {}  # output of each step before that finds objects: the classes that it keeps
    for number, step in enumerate(pipeline.steps):
        path: KeyPath = ("pipelines", name, "steps", number, step.name)
        options = step.options
        if isinstance(options, InferOptions) and options.field:
            made[options.output] = options.classes
        elif isinstance(options, DetectionOptions):
            told = _trouble(options, made)
            if told is not None:
                yield document.finding(told[0], path, hint=told[1], severity=Severity.WARNING)


def _trouble(options: DetectionOptions, made: dict[str, list[str]]) -> tuple[str, str] | None:
    """Return what is wrong and a hint, None if nothing is."""
    asked = options.detections
    if not made:
        return "this step will never see an object", "put an `infer` step with `field` before it"
    if asked not in made:
        others = [output for output in made if output]
        hint = f"say `detections: {others[0]}`" if others else "leave `detections` out"
        which = f"with the output `{asked}`" if asked else "without an `output`"
        return f"no `infer` step {which} is before this one: it will never see an object", hint
    if made[asked] and (lost := [label for label in options.classes if label not in made[asked]]):
        return (
            f"`{lost[0]}` is not among the `classes` of the `infer` step before: none will be seen",
            f"it keeps: {', '.join(made[asked])}",
        )
    return None
