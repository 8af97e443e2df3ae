"""Options of the preprocessing steps. Stand-in until the real ones are merged."""

from __future__ import annotations

from forebay.config.base import Duration, Options, Rate


class ValidateOptions(Options):
    """Mark values that cannot be right."""

    field: str
    """The field."""
    range: tuple[float, float] | None = None
    """Least and greatest plausible value."""
    max_rate: Rate | None = None
    """Fastest plausible change."""


class DeadbandOptions(Options):
    """Blank values that did not change."""

    field: str
    """The field."""
    absolute: float = 0.0
    """Least change that counts."""
    max_silence: Duration | None = None
    """Send at least this often."""


class AlarmOptions(Options):
    """Raise an alarm when a condition holds."""

    when: str
    """The condition."""
    lane: str = "urgent"
    """The alarm's lane."""


STEP_OPTIONS: dict[str, type[Options]] = {
    "validate": ValidateOptions,
    "deadband": DeadbandOptions,
    "alarm": AlarmOptions,
}
