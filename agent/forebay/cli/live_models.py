"""What `forebay check --live` tries of models: each one is loaded and run as the agent's start would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from forebay.config.agent import AgentConfig
from forebay.config.findings import Finding, Severity
from forebay.config.loader import LoadedConfig
from forebay.config.models import InferOptions
from forebay.errors import ForebayError


def check_detectors(loaded: LoadedConfig[Any]) -> Iterator[Finding]:
    """Find bundles in `models.dir` that masking would look at pictures with, and cannot use: no picture would pass."""
    config = loaded.config
    if not isinstance(config, AgentConfig) or config.models.dir is None:
        return
    from forebay.detectors import Detectors
    from forebay.mask import load_policy

    try:
        policy = load_policy(config.masking.policy if config.masking else "base", loaded.base)
        errors = list(Detectors(models=config.models, base=loaded.base).try_own(policy.image_classes))
    except ForebayError as trouble:
        errors = [trouble]
    for error in errors:
        where = f"{error.place}: " if error.place else ""
        text = f"masking cannot use a detector, no picture will pass: {where}{error.message}"
        yield loaded.finding(text, ("models", "dir"), hint=error.hint)


def check_models(loaded: LoadedConfig[Any]) -> Iterator[Finding]:
    """Find models that cannot be used as configured (signature, hashes, graph, golden output), and absent providers."""
    config = loaded.config
    if not isinstance(config, AgentConfig):
        return
    steps = [
        (("pipelines", name, "steps", place, entry.name), entry.name, entry.options, pipeline.key or "")
        for name, pipeline in config.pipelines.items()
        for place, entry in enumerate(pipeline.steps)
        if isinstance(entry.options, InferOptions)
    ]
    if not steps:
        return
    from forebay import infer
    from forebay.infer.session import SessionPool, absent_providers

    for provider in absent_providers(config.models.providers):
        yield loaded.finding(
            f"the execution provider {provider} is not available here: the next one runs the models",
            ("models", "providers", config.models.providers.index(provider)),
            hint="the CPU always works",
            severity=Severity.WARNING,
        )
    pool = SessionPool()
    for at, name, options, key in steps:
        try:
            infer.build(name, options, key=key, base=loaded.base, models=config.models, pool=pool)
        except ForebayError as error:
            where = f"{error.place}: " if error.place else ""
            yield loaded.finding(f"{where}{error.message}", at, hint=error.hint)
