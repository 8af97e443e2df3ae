"""Options of masking. Stand-in until the real ones are merged."""

from __future__ import annotations

from forebay.config.base import ConfigPath, Options


class MaskingOptions(Options):
    """Which policy masks what leaves."""

    policy: ConfigPath | None = None
    """The policy file, or the name of a shipped one."""


class PolicyOptions(Options):
    """A masking policy."""

    name: str
    """Its name."""
