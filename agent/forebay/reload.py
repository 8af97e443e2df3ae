"""What a new configuration changes in a running agent: decided before anything is touched.

A pipeline is rebuilt when its fingerprint differs: its options, its source's, the policy, the models and
whatever else its batches carry. The spool and the gateway's name stand for data on disk and cannot change under it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from forebay.config.agent import AgentConfig
from forebay.config.diff import changed_sections, differences
from forebay.config.findings import ConfigErrors, Finding
from forebay.config.loader import LoadedConfig
from forebay.config.models import InferOptions

Loaded = LoadedConfig[AgentConfig]

FIXED = ("spool", "web")  # sections that a running agent cannot change


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reload will do. `added`, `removed` and `rebuilt` name pipelines."""

    diff: tuple[str, ...]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rebuilt: tuple[str, ...] = ()
    forward: bool = False
    log: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {
            "diff": list(self.diff),
            "added": list(self.added),
            "removed": list(self.removed),
            "rebuilt": list(self.rebuilt),
            "forward": self.forward,
        }


def make_plan(old: Loaded, new: Loaded, running: Mapping[str, str], wanted: Callable[[str], str]) -> Plan:
    """Return what changes from `old` to `new`.

    Parameters
    ----------
    running : fingerprint of each pipeline that runs, taken when it was built
    wanted : fingerprint of a pipeline under `new`

    Raises
    ------
    ConfigErrors
        The new configuration changes what a running agent cannot.
    """
    refused = list(_refusals(old, new))
    if refused:
        raise ConfigErrors(refused)
    before, after = set(running), set(new.config.pipelines)
    sections = changed_sections(old.config, new.config)
    both = sorted(before & after)
    return Plan(
        diff=tuple(differences(old.config, new.config)),
        added=tuple(sorted(after - before)),
        removed=tuple(sorted(before - after)),
        rebuilt=tuple(name for name in both if running[name] != wanted(name)),
        forward="forward" in sections or old.base != new.base,
        log="log" in sections,
    )


def _refusals(old: Loaded, new: Loaded) -> Iterable[Finding]:
    hint = "restart the agent for this change"
    if old.config.gateway.id != new.config.gateway.id:
        yield new.finding("the gateway's id cannot change while the agent runs", ("gateway", "id"), hint=hint)
    for section in FIXED:
        before, after = getattr(old.config, section), getattr(new.config, section)
        if before is None or after is None:
            if before is not after:
                yield new.finding(
                    f"`{section}` cannot come or go while the agent runs", (section,), hint=hint
                )
            continue
        for name in type(after).model_fields:
            if getattr(before, name) != getattr(after, name):
                yield new.finding(
                    f"`{section}.{name}` cannot change while the agent runs", (section, name), hint=hint
                )


def fingerprint(loaded: Loaded, name: str, masking: str, manifests: Mapping[str, str]) -> str:
    """Return a digest of everything that a pipeline is built from.

    Parameters
    ----------
    masking : digest of the policy and of what it looks at pictures with
    manifests : digest of each model's manifest
    """
    config = loaded.config
    pipeline = config.pipelines[name]
    models = [m for e in pipeline.steps if isinstance(e.options, InferOptions) for m in e.options.models()]
    facts = {
        "base": str(loaded.base),
        "gateway": config.gateway.model_dump(mode="json"),
        "stream": config.stream(name),
        "pipeline": pipeline.model_dump(mode="json"),
        "source": config.sources[pipeline.source].model_dump(mode="json"),
        "policy": masking,
        "settings": config.models.model_dump(mode="json") if models else None,
        "models": {model: manifests.get(model, "") for model in models},
        "compression": config.spool.compression,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
