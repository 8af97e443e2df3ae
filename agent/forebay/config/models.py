"""Options of models and of the infer step. Stand-in until the real ones are merged."""

from __future__ import annotations

from forebay.config.base import ConfigPath, Options


class ModelsOptions(Options):
    """Where model bundles are."""

    dir: ConfigPath | None = None
    """Folder of installed bundles, before the shipped ones."""


class InferOptions(Options):
    """Run a model on fields."""

    model: str
    """Name of the bundle."""
    inputs: tuple[str, ...] = ()
    """Fields, in the model's order."""


STEP_OPTIONS: dict[str, type[Options]] = {"infer": InferOptions}
