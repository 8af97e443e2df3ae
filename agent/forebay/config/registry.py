"""Sources and steps by name: what each room registers becomes part of the configuration.

A room's options module exports `SOURCE_OPTIONS` or `STEP_OPTIONS`, a dict from the name in YAML to the
options class. This module joins them into the two types that AgentConfig uses; a new source or step needs
no edit elsewhere, a new module its name in the lists below.
"""

from __future__ import annotations

import importlib
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, create_model

from forebay.config.base import Options
from forebay.config.explain import TAG

SOURCE_MODULES = ("forebay.config.sources", "forebay.config.sources_live")
STEP_MODULES = ("forebay.config.preprocess", "forebay.config.models", "forebay.config.detections")


class TypedOptions(Options):
    """Options that say what they are by `type`."""

    type: str


class StepEntry(Options):
    """One item of `steps`: `{NAME: options}`."""

    name: ClassVar[str]
    options: Options


def _collect(modules: tuple[str, ...], attribute: str) -> dict[str, type[Options]]:
    out: dict[str, type[Options]] = {}
    for module in modules:
        for name, options in getattr(importlib.import_module(module), attribute).items():
            if name in out:
                raise RuntimeError(f"{name} is registered twice in {attribute}")
            out[name] = options
    return out


def source_type(value: Any) -> str | None:
    """Return the tag of a source or sink, chosen by its `type`. Named in pydantic's errors."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"{TAG}{kind}" if isinstance(kind, str) else None


def step_name(value: Any) -> str | None:
    """Return the tag of a step, chosen by its only key. Named in pydantic's errors."""
    if isinstance(value, StepEntry):
        return TAG + value.name
    return TAG + next(iter(value)) if isinstance(value, dict) and len(value) == 1 else None


def typed(name: str, options: type[Options]) -> type[Options]:
    """Return options with `type: NAME`, as they are if they have one."""
    if "type" in options.model_fields:
        return options
    kind: Any = (Literal[name], Field(default=name, description="What this is."))
    return create_model(options.__name__, __base__=options, __doc__=options.__doc__, type=kind)


def by_type(registered: dict[str, type[Options]]) -> Any:
    """Return the union of options classes, told apart by `type`."""
    if len(registered) == 1:  # pydantic tells apart two or more
        return typed(*next(iter(registered.items())))
    branches = [Annotated[typed(name, cls), Tag(TAG + name)] for name, cls in registered.items()]
    return Annotated[reduce(or_, branches), Discriminator(source_type)]


def _step(name: str, options: type[Options]) -> type[StepEntry]:
    # The alias is the step's name: a field of that name would hide methods of the class (`validate`).
    about = (options.__doc__ or "").strip().split("\n")[0]
    entry: Any = (options, Field(alias=name, description=about))
    made = create_model(
        f"{name.title().replace('_', '')}Step", __base__=StepEntry, __doc__=about, options=entry
    )
    made.name = name
    return made


def by_name(registered: dict[str, type[Options]]) -> Any:
    """Return the union of `{NAME: options}` for each step."""
    branches = [Annotated[_step(name, cls), Tag(TAG + name)] for name, cls in registered.items()]
    return Annotated[reduce(or_, branches), Discriminator(step_name)]


SOURCE_OPTIONS = _collect(SOURCE_MODULES, "SOURCE_OPTIONS")
STEP_OPTIONS = _collect(STEP_MODULES, "STEP_OPTIONS")

if TYPE_CHECKING:
    AnySource = TypedOptions
    AnyStep = StepEntry
else:
    AnySource = by_type(SOURCE_OPTIONS)
    AnyStep = by_name(STEP_OPTIONS)
